"""Plain forwarding: the kernel alone, no rule at all. What the machine can do at best."""

DESCRIPTION = "plain forwarding by the kernel"
TARGETS = ()


def missing():
    return None


def start(_router):
    return []
