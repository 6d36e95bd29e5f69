"""scenario_file.py - loads one scenario (TOML) and refuses what it does not know, so that a misspelt expectation
cannot pass unnoticed. The fields are described in README.md."""

import os
import tomllib

WAYS = ("proxy", "nfq", "forward")
ACTION_KINDS = ("run", "signal", "config", "start-witness", "wait-log", "stop-server", "start-server")
ALLOWED = {
    "": {"description", "ways", "seconds", "settle", "topology", "server", "client", "witness", "action", "expect"},
    "topology": {"offload"},
    "server": {"kind", "settings", "services", "script", "scripts", "receive-buffer", "backlog", "extensions"},
    "client": {"kind", "script", "scripts", "target", "sources", "parallel", "sessions", "stagger", "receive-buffer", "settings",
               "messages", "size", "at", "after", "name"},
    "action": {"at", "on", "run", "signal", "to", "process", "wakes-after", "config", "start-witness", "wait-log", "within", "ways", "stop-server",
               "start-server"},
    "expect": {"verdict", "stall", "refusal", "client", "mail", "server-log", "server-log-absent", "client-log", "witness-log",
               "witness-log-absent", "witness-exit", "sockets-left"},
    "expect.client": {"count", "ok", "ended", "saw", "not-saw", "seconds", "ways", "failed"},
    "expect.mail": {"delivered", "ways"},
}
# Options of [witness]; each table in it is a section of the configuration file.
WITNESS_OPTIONS = {"read"}


class ScenarioError(Exception):
    pass


def _check(table, where, path):
    unknown = sorted(set(table) - ALLOWED[where])
    if unknown:
        place = f"[{where}]" if where else "the top"
        raise ScenarioError(f"{path}: unknown '{unknown[0]}' in {place}; known there: {', '.join(sorted(ALLOWED[where]))}")


def _list(value):
    return value if isinstance(value, list) else [value]


class Scenario:
    def __init__(self, path):
        self.path = path
        self.name = os.path.splitext(os.path.basename(path))[0]
        try:
            with open(path, "rb") as file:
                data = tomllib.load(file)
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ScenarioError(f"{path}: {error}") from error
        _check(data, "", path)
        self.description = data.get("description", "")
        self.ways = data.get("ways", list(WAYS))
        for way in self.ways:
            if way not in WAYS:
                raise ScenarioError(f"{path}: unknown way '{way}'; known: {', '.join(WAYS)}")
        self.seconds = data.get("seconds", 60)
        self.settle = data.get("settle", 6)
        self.topology = data.get("topology", {})
        _check(self.topology, "topology", path)
        self.server = data.get("server", {"kind": "none"})
        _check(self.server, "server", path)
        self.clients = _list(data.get("client", []))
        names = {client.get("name") for client in self.clients}
        for client in self.clients:
            _check(client, "client", path)
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

    def expected(self, key, way):
        """The items of [[expect.KEY]] that apply to this way."""
        items = _list(self.expect.get(key, []))
        if way == "nfq" and not any("nfq" in item.get("ways", ()) for item in items):
            # TCP stays end to end: the peers see what they would see without a witness, and the lines are the witness's.
            way = "forward" if key in ("client", "mail") else "proxy"
        return [item for item in items if way in item.get("ways", WAYS)]

    def kinds_of_mta(self):
        kinds = [self.server.get("kind")] + [client.get("kind", "scripted") for client in self.clients]
        return sorted({kind for kind in kinds if kind in ("postfix", "exim")})
