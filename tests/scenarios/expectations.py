"""expectations.py - compares what came with what a scenario expects; every difference is one sentence."""

import json
import re

import verdict_line

CONFIDENCES = ("possible", "likely", "certain")
NOT_KEYS = ("count", "ways")


def matches(key, wanted, got):
    """None when `got` (a string, or None when the key is missing) is as wanted; else what was wanted, in words."""
    if wanted is False:
        return None if got in (None, "") else f"expected no {key}"
    if wanted is True:
        return None if got not in (None, "") else f"expected some {key}"
    if got is None:
        if isinstance(wanted, list) and False in wanted:
            return None
        return f"expected {key}={wanted}, which is missing"
    if isinstance(wanted, list):
        if key == "confidence":
            least, greatest = (CONFIDENCES.index(word) for word in wanted)
            good = got in CONFIDENCES and least <= CONFIDENCES.index(got) <= greatest
        elif all(isinstance(word, (int, float)) and not isinstance(word, bool) for word in wanted) and len(wanted) == 2:
            try:
                good = wanted[0] <= float(got) <= wanted[1]
            except ValueError:
                good = False
        else:
            good = any(matches(key, word, got) is None for word in wanted)
    elif isinstance(wanted, str) and wanted.startswith("~"):
        good = re.search(wanted[1:], got) is not None
    else:
        good = got == str(wanted)
    return None if good else f"expected {key}={wanted}, got {key}={got}"


def differences(wanted, values):
    found = (matches(key, value, values.get(key)) for key, value in wanted.items() if key not in NOT_KEYS)
    return [text for text in found if text]


def count_of(wanted):
    """(least, most) of count = N or [least, most]."""
    count = wanted.get("count", 1)
    return tuple(count) if isinstance(count, list) else (count, count)


def check_lines(kind, expected, lines, exact):
    """Each line goes to the first expectation it meets that still has room. With `exact`, every line must go somewhere."""
    problems, taken, left = [], [0] * len(expected), []
    for text, values in lines:
        for index, wanted in enumerate(expected):
            if taken[index] < count_of(wanted)[1] and not differences(wanted, values):
                taken[index] += 1
                break
        else:
            left.append((text, values))
    for index, wanted in enumerate(expected):
        least = count_of(wanted)[0]
        if taken[index] >= least:
            continue
        said = {key: value for key, value in wanted.items() if key not in NOT_KEYS}
        if not left:
            problems.append(f"expected {least} {kind} line(s) with {said}, got {taken[index]}")
            continue
        text, values = min(left, key=lambda line: len(differences(wanted, line[1])))
        number = f" ({taken[index]} of {least} as expected)" if least > 1 else ""
        why = "; ".join(differences(wanted, values)) or f"expected no more than {count_of(wanted)[1]} like it"
        problems.append(f"{why}{number}: {text}")
    if exact and not problems and left:
        problems.append(f"{len(left)} {kind} line(s) more than expected: {left[0][0]}")
    return problems


def check_ledger(text, values):
    """In every verdict the ledger's accounts sum to the session's duration."""
    if "ledger-ms" not in values or "duration-ms" not in values:
        return [f"the verdict lacks ledger-ms or duration-ms: {text}"]
    try:
        accounts = dict(word.split(":") for word in values["ledger-ms"].split(","))
        total = sum(float(number) for number in accounts.values())
    except ValueError:
        return [f"cannot read ledger-ms={values['ledger-ms']}: {text}"]
    if abs(total - float(values["duration-ms"])) > len(accounts) + 1:  # each account is rounded to a millisecond
        return [f"the ledger sums to {total:g} ms, the session lasted {values['duration-ms']} ms: {text}"]
    return []


def read_lines(log):
    """({kind: [(text, values)]}, problems) of everything the witness logged."""
    found, problems = {kind: [] for kind in verdict_line.KINDS}, []
    for text in log:
        try:
            parsed = verdict_line.parse(text)
        except verdict_line.LineError as error:
            problems.append(f"malformed line: {error}: {text}")
            continue
        if parsed:
            found[parsed[0]].append((text, parsed[1]))
    return found, problems


def read_json(output):
    """The same of what `replay --format=json` printed, with the values as a line has them."""
    found, problems = {kind: [] for kind in verdict_line.KINDS}, []
    for text in output.splitlines():
        try:
            record = json.loads(text)
            kind = record.pop("event")
            found[kind].append((text, {key: _as_text(value) for key, value in record.items()}))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            problems.append(f"replay: malformed line: {error!r}: {text}")
    return found, problems


def _as_text(value):
    if isinstance(value, dict):
        return ",".join(f"{key}:{number}" for key, number in value.items())
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)


def check_same(live, again):
    """A capture must replay to what was seen live: for each session the same fault, cause and phase."""
    problems, left = [], list(again)
    for text, values in live:
        match = next((line for line in left if line[1].get("client") == values.get("client")), None)
        if match is None:
            problems.append(f"replay: no verdict for the session of {values.get('client')}; live: {text}")
            continue
        left.remove(match)
        for key in ("fault", "cause", "phase"):
            if match[1].get(key) != values.get(key):
                problems.append(f"replay says {key}={match[1].get(key)}, live it was {key}={values.get(key)}: {match[0]}")
    if left:
        problems.append(f"replay: {len(left)} verdict(s) for sessions that were not seen live: {left[0][0]}")
    return problems


def summary(values):
    """A verdict in a few words."""
    also = f" or {values['also']}" if values.get("also") else ""
    return f"{values.get('fault')}{also} {values.get('cause')} {values.get('confidence')} in {values.get('phase')}"


def naive_lines(naive, found):
    """The lines that fall for the naive verdict: verdicts, and stalls of the phase in which the session ended, unless they are
    only `possible` or name others whom they do not exclude."""
    last_phase = {values.get("session"): values.get("phase") for _, values in found["verdict"]}
    stalls = [(text, values) for text, values in found["stall"]
              if values.get("confidence") != "possible" and not values.get("also")
              and values.get("phase") == last_phase.get(values.get("session"))]
    return [f"{kind} {summary(values)}" for kind, lines in (("verdict", found["verdict"]), ("stall", stalls)) for _, values in lines
            if any(not differences(one, values) for one in naive)]


def only_honest(expected, lines):
    """Whatever differs from what was expected accuses nobody for sure: unknown, or somebody only as possible."""
    strange = [values for _, values in lines if not any(not differences(wanted, values) for wanted in expected)]
    return bool(strange) and all(values.get("fault") == "unknown" or (values.get("confidence") == "possible" and values.get("fault") != "none")
                                 for values in strange)


def delays(decisions, lines):
    """[seconds] from the events that decided a session to its verdict line, and what is wrong. `decisions` {client: seconds};
    `lines` [(when it came, text)] of the witness."""
    found, problems = [], []
    came = {}
    for when, text in lines:
        try:
            parsed = verdict_line.parse(text)
        except verdict_line.LineError:
            continue
        if parsed and parsed[0] == "verdict":
            came.setdefault(parsed[1].get("client"), when)
    for client, decided in decisions.items():
        if client in came:
            found.append(max(came[client] - decided, 0.0))
        else:
            problems.append(f"what decided the session of {client} was seen, but no verdict on it")
    return found, problems


def check_delays(within, found):
    if not found:
        return ["decided-within: no script said 'decides'"]
    return [f"the verdict came {delay:.2f} s after what decided the session, expected within {within} s" for delay in found if delay > within]


def check_clients(expected, sessions):
    """Sessions of scripted clients. Without any expectation, every script must have run to its end."""
    if not expected:
        expected = [{"ok": True, "count": len(sessions)}]
    problems, taken, left = [], [0] * len(expected), []
    for session in sessions:
        for index, wanted in enumerate(expected):
            if taken[index] < count_of(wanted)[1] and not client_differences(wanted, session):
                taken[index] += 1
                break
        else:
            left.append(session)
    for index, wanted in enumerate(expected):
        if taken[index] < count_of(wanted)[0]:
            if left:
                session = min(left, key=lambda one, want=wanted: len(client_differences(want, one)))
                why = "; ".join(client_differences(wanted, session)) or "one session too many of the kind"
                problems.append(f"client: {why} ({taken[index]} of {count_of(wanted)[0]} as expected); "
                                f"its replies ended with {session['replies'][-2:]}")
            else:
                problems.append(f"client: expected {count_of(wanted)[0]} session(s) {wanted}, got {taken[index]}")
    if not problems and left:
        session = left[0]
        problems.append(f"client: {len(left)} session(s) not as expected: {session['failed']} at '{session['step']}', "
                        f"ended by {session['ended']}, replies ended with {session['replies'][-2:]}")
    return problems


def client_differences(wanted, session):
    found = []
    text = "\n".join(session["replies"])
    if "ok" in wanted and session["ok"] not in (wanted["ok"] if isinstance(wanted["ok"], list) else [wanted["ok"]]):
        found.append(f"step '{session['step']}': {session['failed']}" if not session["ok"] else "the script went through, unexpectedly")
    if "ended" in wanted and session["ended"] not in ([wanted["ended"]] if isinstance(wanted["ended"], str) else wanted["ended"]):
        found.append(f"expected the connection to end by {wanted['ended']}, got {session['ended']}")
    if "saw" in wanted and not re.search(wanted["saw"], text, re.MULTILINE):
        found.append(f"expected to see '{wanted['saw']}'")
    if "not-saw" in wanted and re.search(wanted["not-saw"], text, re.MULTILINE):
        found.append(f"expected not to see '{wanted['not-saw']}'")
    if "failed" in wanted and not re.search(wanted["failed"], session["failed"] or ""):
        found.append(f"expected to fail by '{wanted['failed']}', got '{session['failed']}'")
    if "seconds" in wanted and not wanted["seconds"][0] <= session["seconds"] <= wanted["seconds"][1]:
        found.append(f"expected {wanted['seconds']} s, took {session['seconds']:.1f} s")
    return found


def check_mail(wanted, sent, received):
    """`sent` {identity: hash}; `received` [(identity, hash) or None]. Delivered mails must be those sent, octet for octet."""
    problems, good = [], 0
    for found in received:
        if found is None:
            problems.append("mail: a mail was delivered that no client sent")
        elif found[0] not in sent:
            problems.append(f"mail: message {found[0]} was delivered although its client never finished it")
        elif found[1] != sent[found[0]]:
            problems.append(f"mail: message {found[0]} was delivered changed")
        else:
            good += 1
    least, most = count_of({"count": wanted})
    if not least <= good <= most:
        problems.append(f"mail: expected {wanted} delivered, got {good} ({len(sent)} sent)")
    return problems
