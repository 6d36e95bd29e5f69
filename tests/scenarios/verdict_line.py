"""verdict_line.py - reads the witness's lines: `verdict key=value key="quoted value" ...` (also stall, refusal, peaks).

    python3 verdict_line.py < LOG      prints each line found as one JSON object
"""

import json
import re
import sys

KINDS = ("verdict", "stall", "refusal", "forecast", "peaks")
_START = re.compile(r"(?:^|[\s:])(" + "|".join(KINDS) + r")(?= [a-z][a-z0-9-]*=)")
_PAIR = re.compile(r' ([a-z][a-z0-9-]*)=("(?:[^"\\]|\\.)*"|[^\s"]*)')
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")


class LineError(ValueError):
    pass


def unquote(text):
    def one(match):
        word = match.group(1)
        if word[0] == "x" and len(word) == 3:
            return chr(int(word[1:], 16))
        return {"n": "\n", "r": "\r", "t": "\t"}.get(word, word)

    return _ESCAPE.sub(one, text[1:-1]) if text.startswith('"') else text


def parse(line):
    """(kind, {key: value}) of a line; None when it is not one of the witness's. What stands before the kind (a syslog
    priority, time, program name) is skipped. A line that begins well and goes on badly raises LineError."""
    line = line.rstrip("\n")
    start = _START.search(line)
    if start is None:
        return None
    values, position = {}, start.end()
    while position < len(line):
        pair = _PAIR.match(line, position)
        if pair is None:
            raise LineError(f"cannot read from column {position + 1}: '{line[position:position + 60]}'")
        if pair.group(1) in values:
            raise LineError(f"key {pair.group(1)} twice")
        values[pair.group(1)] = unquote(pair.group(2))
        position = pair.end()
    return start.group(1), values


def main():
    status = 0
    for line in sys.stdin:
        try:
            found = parse(line)
        except LineError as error:
            print(f"verdict_line.py: {error}: {line.strip()}", file=sys.stderr)
            status = 1
            continue
        if found:
            print(json.dumps(dict(found[1], kind=found[0])))
    return status


if __name__ == "__main__":
    sys.exit(main())
