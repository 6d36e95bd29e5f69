"""HAProxy in TCP mode, transparent on both sides: a mature relay that reads nothing of the mail."""

import os
import shutil

DESCRIPTION = "HAProxy, mode tcp, TPROXY in, usesrc clientip out, 2 threads"
TARGETS = ()
PORT = 10025
CONFIG = f"""\
global
    nbthread 2
    maxconn 8500
    maxpipes 1000
defaults
    mode tcp
    timeout connect 10s
    timeout client 600s
    timeout server 600s
frontend smtp
    bind :::{PORT} v4v6 transparent
    default_backend servers
backend servers
    source 0.0.0.0 usesrc clientip
    server original *
"""


def missing():
    return None if shutil.which("haproxy") else "haproxy is not installed"


def start(router):
    router.intercept(PORT)
    return start_relay(router)


def start_relay(router):
    path = os.path.join(router.folder, "haproxy.cfg")
    with open(path, "w", encoding="ascii") as file:
        file.write(CONFIG)
    process = router.spawn("r", "haproxy.log", "haproxy", "-db", "-f", path)
    router.wait_for_port("r", PORT, process)
    return [process]
