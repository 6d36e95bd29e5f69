"""`smtpwitness nfq` behind its own rules. It logs faults only, because its peers log nothing."""

import os

from programs.witness_proxy import PROGRAM, RULES, missing  # noqa: F401  pylint: disable=unused-import
from router import CLIENT_INTERFACE

DESCRIPTION = "smtpwitness nfq, its own rules, verdicts = faults"
TARGETS = (
    ("sessions", "rate", ">=", 0.95, "nfqueue_floor"),
    ("sessions", "rate", ">=", 1.3, "haproxy"),
    ("sessions", "rate", ">=", 1.15, "suricata_rules"),
    ("bodies", "rate", ">=", 0.9, "nfqueue_floor"),
    ("bodies", "rate", ">=", 6.0, "suricata_rules"),
    ("idle", "rate", "<=", 1.0, None),
)
CONFIG = """\
[nfq]
bypass = {bypass}
[log]
verdicts = faults
[process]
user =
"""
QUEUE = 2525


def start_with(router, bypass):
    path = os.path.join(router.folder, "smtpwitness.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(CONFIG.format(bypass="yes" if bypass else "no"))
    router.inside("r", RULES, "nfq", "load", "--in-interface", CLIENT_INTERFACE, *(["--bypass"] if bypass else []))
    process = router.spawn("r", "smtpwitness.log", PROGRAM, "nfq", "--foreground", "--config", path)
    router.wait_for_queue(QUEUE, process)
    return [process]


def start(router):
    return start_with(router, False)
