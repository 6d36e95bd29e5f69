"""`smtpwitness proxy` behind its own rules. It logs faults only, because its peers log nothing."""

import os

from router import CLIENT_INTERFACE

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
PROGRAM = os.environ.get("SMTPWITNESS") or os.path.join(PROJECT, "build", "smtpwitness")
RULES = os.path.join(PROJECT, "rules", "smtpwitness-rules")

DESCRIPTION = "smtpwitness proxy, its own rules, verdicts = faults"
TARGETS = (
    ("sessions", "rate", ">=", 1.05, "haproxy"),
    ("messages", "rate", ">=", 1.15, "haproxy"),
    ("bodies", "rate", ">=", 1.3, "haproxy"),
    ("bodies", "cpu", "<=", 0.5, "haproxy"),
    ("noop", "rate", "<=", 1.0, "haproxy"),
    ("idle", "rate", "<=", 1.0, None),
)
CONFIG = """\
[proxy]
workers = 2
[log]
verdicts = faults
[process]
user =
"""


def missing():
    return None if os.access(PROGRAM, os.X_OK) else f"{PROGRAM} is not built"


def start(router):
    path = os.path.join(router.folder, "smtpwitness.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(CONFIG)
    router.inside("r", RULES, "proxy", "load", "--in-interface", CLIENT_INTERFACE)
    process = router.spawn("r", "smtpwitness.log", PROGRAM, "proxy", "--foreground", "--config", path)
    router.wait_for_port("r", 10025, process)
    return [process]
