"""scenario_file.py - loads one file (TOML) into its scenarios, one for the file itself and one for each of its variants,
and refuses what it does not know, so that a misspelt expectation cannot pass unnoticed. The fields are described in README.md."""

import copy
import os
import re
import tomllib

import control

# The ways of seeing, and `forward`: no witness at all, to see whether the bed itself is right. A run in way nfq captures its
# packets, and `replay` is what the witness says about that capture; `nfq-bypass` lets the bulk of bodies past the queue.
WAYS = ("proxy", "nfq", "nfq-bypass", "replay", "forward")
ACTION_KINDS = ("run", "signal", "config", "start-witness", "wait-log", "stop-server", "start-server")
ALLOWED = {
    "": {"description", "ways", "unseen", "row", "twin", "family", "values", "naive", "ci", "variant", "seconds", "settle", "topology", "capture",
         "control", "server", "client", "witness", "action", "expect"},
    "topology": {"offload"},
    "control": {"group", "also"},
    "capture": {"only", "skip", "thin", "snap"},
    "server": {"kind", "settings", "services", "script", "scripts", "receive-buffer", "backlog", "accepts", "extensions", "certificate-octets"},
    "client": {"kind", "script", "scripts", "target", "sources", "parallel", "sessions", "stagger", "receive-buffer", "settings",
               "messages", "size", "at", "after", "name"},
    "action": {"at", "on", "run", "signal", "to", "process", "wakes-after", "config", "start-witness", "wait-log", "within", "ways", "stop-server",
               "start-server"},
    "expect": {"verdict", "stall", "refusal", "forecast", "client", "mail", "server-log", "server-log-absent", "client-log", "witness-log",
               "witness-log-absent", "witness-exit", "sockets-left", "decided-within"},
    "expect.client": {"count", "ok", "ended", "saw", "not-saw", "seconds", "ways", "failed"},
    "expect.mail": {"delivered", "ways"},
}
# Options of [witness]; each table in it is a section of the configuration file.
WITNESS_OPTIONS = {"read"}
# What a capture can show of a verdict; the rest belongs to a live witness (its probes, limits and actions).
REPLAY_KEYS = {"fault", "cause", "confidence", "also", "where", "phase", "owed-by", "reply", "mails", "rcpts", "tls", "client", "server",
               "bytes-client", "count", "ways"}
FAMILIES = {
    4: {"iptables": "iptables", "client": "192.0.2.2", "server": "203.0.113.2", "icmp": "icmp",
        "too_big": "icmp --icmp-type fragmentation-needed"},
    6: {"iptables": "ip6tables", "client": "2001:db8:1::2", "server": "2001:db8:4::2", "icmp": "icmpv6",
        "too_big": "icmpv6 --icmpv6-type packet-too-big"},
}


# Programs of the tests that an action may run.
PROGRAMS = {"delayer": os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "build", "peers", "delayer")}


class ScenarioError(Exception):
    pass


def _check(table, where, path):
    unknown = sorted(set(table) - ALLOWED[where])
    if unknown:
        place = f"[{where}]" if where else "the top"
        raise ScenarioError(f"{path}: unknown '{unknown[0]}' in {place}; known there: {', '.join(sorted(ALLOWED[where]))}")


def _list(value):
    return value if isinstance(value, list) else [value]


def merge(base, over):
    """`over` laid on `base`: tables key by key, a table on a list of one table goes to that table, all else replaces."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {key: merge(base[key], over[key]) if key in base and key in over else over.get(key, base.get(key))
                for key in list(base) + [key for key in over if key not in base]}
    if isinstance(base, list) and len(base) == 1 and isinstance(base[0], dict) and isinstance(over, dict):
        return [merge(base[0], over)]
    return over


def fill(node, values, path):
    """Every {{expression}} in the strings of `node` becomes its value; a string that is nothing else takes the value's type."""
    if isinstance(node, dict):
        return {key: fill(value, values, path) for key, value in node.items()}
    if isinstance(node, list):
        return [fill(value, values, path) for value in node]
    if not isinstance(node, str) or "{{" not in node:
        return node

    def value_of(expression):
        try:
            return eval(expression, {"__builtins__": {}}, values)  # pylint: disable=eval-used
        except (SyntaxError, NameError, TypeError) as error:
            raise ScenarioError(f"{path}: {{{{{expression}}}}}: {error}; known values: {', '.join(values)}") from None

    whole = re.fullmatch(r"\{\{([^{}]+)\}\}", node)
    if whole:
        return value_of(whole.group(1))
    return re.sub(r"\{\{([^{}]+)\}\}", lambda match: str(value_of(match.group(1))), node)


def _read(path):
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from error


def load(path):
    """The scenarios of a file: its own, and one for each [[variant]]."""
    data = _read(path)
    variants = data.pop("variant", [])
    name = os.path.splitext(os.path.basename(path))[0]
    found = [Scenario(path, name, data)]
    for variant in variants:
        variant = dict(variant)
        label = variant.pop("name", None) or variant.get("twin")
        if not label:
            raise ScenarioError(f"{path}: a [[variant]] lacks twin or name")
        variant.setdefault("twin", label)
        variant.setdefault("ci", [])
        found.append(Scenario(path, f"{name}.{label}", merge(copy.deepcopy(data), variant)))
    names = [scenario.name for scenario in found]
    if len(set(names)) != len(names):
        raise ScenarioError(f"{path}: two variants have the same name")
    return found


class Scenario:
    def __init__(self, path, name, data):
        self.path, self.name = path, name
        _check(data, "", path)
        self.family = data.get("family", 4)
        if self.family not in FAMILIES:
            raise ScenarioError(f"{path}: family = {self.family}: 4 or 6")
        data = fill(data, dict(FAMILIES[self.family], **PROGRAMS, family=self.family, **data.get("values", {})), path)
        self.description = data.get("description", "")
        self.rows = _list(data.get("row", []))
        self.twin = data.get("twin", "")
        self.naive = _list(data.get("naive", []))
        self.unseen = dict(data.get("unseen", {}))  # way -> why it cannot be seen there
        if "nfq" in self.unseen:
            self.unseen = {"nfq-bypass": self.unseen["nfq"], "replay": self.unseen["nfq"], **self.unseen}
        self.ways = [way for way in data.get("ways", WAYS) if way not in self.unseen]
        self.ci = data.get("ci", [])           # the ways in which it runs in every check
        for way in [*data.get("ways", ()), *self.unseen, *self.ci]:
            if way not in WAYS:
                raise ScenarioError(f"{path}: unknown way '{way}'; known: {', '.join(WAYS)}")
        if "nfq" in self.ways:
            more = ["nfq-bypass"] if self.enforces(data.get("witness", {})) else ["nfq-bypass", "replay"]
            self.ways += [way for way in more if way not in self.unseen and way not in self.ways]
        for row in self.rows:
            if not re.fullmatch(r"S\d\d", row):
                raise ScenarioError(f"{path}: row = \"{row}\": a row is named like S23")
        self.seconds = data.get("seconds", 90)
        self.settle = data.get("settle", 6)
        self.topology = data.get("topology", {})
        _check(self.topology, "topology", path)
        self.capture = data.get("capture", {})  # how the capture that is replayed is worse than what was seen live
        _check(self.capture, "capture", path)
        self.control = data.get("control", {})  # as part of the control group: its group, and the faults that may be named besides none
        _check(self.control, "control", path)
        if self.control and self.control.get("group") not in control.GROUPS:
            raise ScenarioError(f"{path}: [control] group = \"{self.control.get('group')}\": one of {', '.join(control.GROUPS)}")
        self.server = data.get("server", {"kind": "none"})
        _check(self.server, "server", path)
        self.clients = _list(data.get("client", []))
        names = {client.get("name") for client in self.clients}
        for client in self.clients:
            _check(client, "client", path)
            client.setdefault("target", self.family)
            if client.get("after") not in names | {None}:
                raise ScenarioError(f"{path}: [[client]] after = \"{client['after']}\": no client has that name")
        self.witness = data.get("witness", {})
        for key, value in self.witness.items():
            if not isinstance(value, dict) and key not in WITNESS_OPTIONS:
                raise ScenarioError(f"{path}: unknown '{key}' in [witness]; a setting of the witness stands in [witness.SECTION]")
        self.actions = _list(data.get("action", []))
        for action in self.actions:
            _check(action, "action", path)
            kinds = [kind for kind in ACTION_KINDS if kind in action]
            if len(kinds) != 1:
                raise ScenarioError(f"{path}: an [[action]] has exactly one of {', '.join(ACTION_KINDS)}; this one: {action}")
            if "run" in action and "on" not in action:
                raise ScenarioError(f"{path}: the [[action]] '{action['run']}' lacks on = \"NODE\"")
            if "signal" in action and "to" not in action:
                raise ScenarioError(f"{path}: the [[action]] signal = '{action['signal']}' lacks to = \"server\", \"client\" or \"witness\"")
        self.expect = data.get("expect", {})
        _check(self.expect, "expect", path)
        for key in ("client", "mail"):
            for item in _list(self.expect.get(key, [])):
                _check(item, "expect." + key, path)

    @staticmethod
    def enforces(witness):
        """Is any limit or timeout enforced?"""
        return any("enforce" in values.values() for values in witness.values() if isinstance(values, dict))

    def expected(self, key, way):
        """The items of [[expect.KEY]] that apply to this way, with the values for it."""
        items = _list(self.expect.get(key, []))
        named = {one for item in items for one in item.get("ways", ())}
        look_up = [way]
        if way in ("nfq-bypass", "replay"):
            look_up.append("nfq")
        if "nfq" in look_up:
            # TCP stays end to end: the peers see what they would see without a witness, unless it steps in.
            end_to_end = key in ("client", "mail") and not self.enforces(self.witness)
            look_up.append("forward" if end_to_end else "proxy")
        chosen = next((one for one in look_up if one in named), look_up[-1])
        items = [_for_way(item, look_up) for item in items if chosen in item.get("ways", WAYS)]
        if way == "replay":
            items = [_seen_in_capture(item) for item in items]
        return items

    def kinds_of_mta(self):
        kinds = [self.server.get("kind")] + [client.get("kind", "scripted") for client in self.clients]
        return sorted({kind for kind in kinds if kind in ("postfix", "exim")})


def _for_way(item, look_up):
    """A value may be a table with one for each way: {proxy = ..., nfq = ..., else = ...}."""
    def one(value):
        if not isinstance(value, dict):
            return value
        return next((value[way] for way in (*look_up, "else") if way in value), None)

    chosen = {key: one(value) for key, value in item.items()}
    return {key: value for key, value in chosen.items() if value is not None}


def _seen_in_capture(item):
    """What is asked of a replay: the same verdict, but a capture has no probes of its own, so it may be less sure."""
    item = {key: value for key, value in item.items() if key in REPLAY_KEYS}
    if isinstance(item.get("confidence"), list):
        item["confidence"] = ["possible", item["confidence"][1]]
    return item
