"""HAProxy behind the rules of `smtpwitness proxy`: what a relay that reads nothing reaches when the same is asked of every packet,
and both legs are in connection tracking. Against it shows what our program costs, against `haproxy` what our rules do."""

import shutil

from programs import haproxy
from programs.witness_proxy import RULES
from router import CLIENT_INTERFACE

DESCRIPTION = "HAProxy, mode tcp, behind the rules of smtpwitness proxy"
TARGETS = ()


def missing():
    return None if shutil.which("haproxy") else "haproxy is not installed"


def start(router):
    router.inside("r", RULES, "proxy", "load", "--in-interface", CLIENT_INTERFACE, "--fail", "closed")
    return haproxy.start_relay(router)
