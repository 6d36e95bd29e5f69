"""`smtpwitness nfq` with the bypass: the bulk of large bodies does not come to it."""

from programs import witness_nfq
from programs.witness_proxy import missing  # noqa: F401  pylint: disable=unused-import

DESCRIPTION = "smtpwitness nfq, its own rules with --bypass, bypass = yes, verdicts = faults"
TARGETS = (
    ("bodies", "rate", ">=", 0.8, "forwarding"),
    ("mtu", "rate", ">=", 0.65, "forwarding"),
)


def start(router):
    return witness_nfq.start_with(router, True)
