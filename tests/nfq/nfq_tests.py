"""Claims about the packet hook, each proved between real sockets. `run.sh` makes the namespaces."""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import bypass_tests
import enforce_tests
import hook_lab
import nft_tests
from hook_lab import PROGRAM, RESULTS, Server, Talker, Witness, body_of, claim, rules, saved
import lab  # noqa: E402
from lab import ADDRESS, CLIENT, FAMILY, FIREWALL, ROUTER, SERVER, connect, inside, listen, reset, rule, run, text_of, until


# ---- claims ----

def test_rules():
    rules("unload")
    run(ROUTER, "iptables", "-t", "mangle", "-A", "FORWARD", "-p", "udp", "--dport", "53", "-j", "MARK", "--set-mark", "7")
    before = saved(ROUTER)
    rules("load", "--queues", "4", "--in-interface", "r0", "--exempt", "192.0.2.0/24", "--exempt", "2001:db8::/32")
    once = saved(ROUTER)
    rules("load", "--queues", "4", "--in-interface", "r0", "--exempt", "192.0.2.0/24", "--exempt", "2001:db8::/32")
    claim(saved(ROUTER) == once, "rules: loading twice is loading once")
    claim(all("--queue-bypass" in line for text in once for line in text.splitlines() if "NFQUEUE" in line) and
          sum(text.count("-j NFQUEUE") for text in once) == 32, "rules: every queue can be bypassed, IPv4 and IPv6", once)
    claim(not any("MARK" in line and "SMTPWITNESS" in line for text in once for line in text.splitlines()), "rules: no mark is set")
    rules("load", "--family", "4")
    claim("SMTPWITNESS" in saved(ROUTER)[0] and saved(ROUTER)[1] == before[1], "rules: another family's rules go away")
    found = rules("check", check=False)
    claim("nobody holds queue 2525" in found.stdout and found.returncode == 0, "rules: check says that nobody holds the queue", found.stdout)
    rules("unload")
    claim(saved(ROUTER) == before, "rules: unload leaves everything as it was", saved(ROUTER))
    refused = rules("load", "--queues", "3", check=False)
    claim(refused.returncode == 2 and "give 1, 2, 4, 8 or 16" in refused.stderr, "rules: three queues are refused", refused.stderr)
    refused = rules("load", "--zone", "3", check=False)
    claim(refused.returncode == 2 and "belongs to proxy" in refused.stderr, "rules: the proxy's options are refused", refused.stderr)
    with rule(ROUTER, 4, "FORWARD", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "2525"):
        refused = rules("load", check=False)
        claim(refused.returncode == 1 and "another rule sends packets to queue 2525" in refused.stderr,
              "rules: a queue of somebody else is left alone", refused.stderr)
    claim(saved(ROUTER)[0].count("SMTPWITNESS") == 0, "rules: a refused load changes nothing")
    with rule(ROUTER, 4, "FORWARD", "-m", "mark", "--mark", "0x7", "-j", "ACCEPT"):
        found = rules("check", check=False)
        claim("a rule behind ours looks at whole marks" in found.stdout and "VALUE/0xfcffffff" in found.stdout and found.returncode == 0,
              "rules: check names rules that would be misled by our mark", found.stdout)
    with rule(ROUTER, 4, "FORWARD", "-p", "udp", "-j", "MARK", "--set-xmark", "0x2000000/0x2000000"):
        refused = rules("load", check=False)
        claim(refused.returncode == 1 and "another rule sets bits of our mark" in refused.stderr,
              "rules: bits that somebody else sets are left alone", refused.stderr)
    run(ROUTER, "iptables", "-t", "mangle", "-F", "FORWARD")
    rules("load")


def test_mail():
    body = body_of(8_000_000)
    for queues in (1, 4):
        rules("load", "--queues", str(queues))
        with Witness(queues=queues) as witness:
            for version in (4, 6):
                server = Server(version)
                talkers = [Talker(version) for _ in range(6)]
                answers = [talker.to_data() for talker in talkers]
                claim(answers == [b"354 go ahead\r\n"] * 6, f"mail v{version}, {queues} queues: six dialogues pass", answers)
                for talker in talkers[:2]:
                    talker.socket.sendall(body + b".\r\n")
                    talker.read()
                for talker in talkers[2:]:
                    talker.ask(b"short\r\n.")
                for talker in talkers:
                    talker.quit()
                claim(server.digests[:2] == [hashlib.sha256(body).hexdigest()] * 2,
                      f"mail v{version}, {queues} queues: 8 MB come through octet for octet")
                verdicts = [witness.of(talker.socket) for talker in talkers]
                claim(all(v.get("fault") == "none" and v.get("cause") == "clean" and v.get("confidence") == "certain" for v in verdicts),
                      f"mail v{version}, {queues} queues: six clean verdicts", verdicts)
                claim(verdicts[0].get("bytes-client", 0) > len(body), f"mail v{version}, {queues} queues: octets are counted", verdicts[0])
                server.close()
            numbers = witness.statistics()
            claim(numbers["dropped"] == 0 and numbers["refused-verdicts"] == 0 and numbers["damaged-messages"] == 0,
                  f"mail, {queues} queues: nothing is dropped, every verdict is taken", numbers)
            claim(numbers["octets"] / numbers["packets"] > 3000, f"mail, {queues} queues: large packets come whole (GSO)", numbers)
    rules("load")


# An ip6tables-restore that refuses what has rules of ours.
REFUSES = """#!/bin/sh
text=$(cat)
case $text in *'-A SMTPWITNESS'*) echo 'not today' >&2; exit 1 ;; esac
echo "$text" | {} "$@"
"""


def jumps():
    """The rules in POSTROUTING, IPv4."""
    return [line for line in saved(ROUTER)[0].splitlines() if line.startswith("-A POSTROUTING")]


def test_rules_marks():
    """Only packets with a mark of ours leave POSTROUTING for our chain; the rule follows the setting, and other forms go."""
    rules("load")
    plain = jumps()
    rules("load", "--mark", "0x30/0x30")
    claim(plain == ["-A POSTROUTING -m mark ! --mark 0x0/0x2000000 -j SMTPWITNESS_NFQ_P"] and
          jumps() == ["-A POSTROUTING -m mark ! --mark 0x0/0x20 -j SMTPWITNESS_NFQ_P"], "rules: one rule in POSTROUTING, as is set",
          (plain, jumps()))
    rules("load", "--bypass")
    with_bypass = saved(ROUTER)
    claim(all(text.count(" -m connmark --mark 0x1000000/0x1000000 ") == 1 and "CONNMARK" not in text for text in with_bypass),
          "rules: with --bypass one rule asks for the connection's mark, and none writes any", with_bypass)
    for other in ([], ["-m", "mark", "!", "--mark", "0x0/0x3000000"]):
        run(ROUTER, "iptables", "-t", "mangle", "-R", "POSTROUTING", "1", *other, "-j", "SMTPWITNESS_NFQ_P")
        rules("load", "--bypass")
        claim(saved(ROUTER) == with_bypass, f"rules: a jump of another form ({' '.join(other)}) is replaced", jumps())
    rules("load")
    without = saved(ROUTER)
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        with open(folder + "/ip6tables-restore", "w", encoding="ascii") as file:
            file.write(REFUSES.format(shutil.which("ip6tables-restore")))
        os.chmod(file.name, 0o755)
        refused = rules("load", "--bypass", check=False, path=folder + ":" + os.environ["PATH"])
    claim(refused.returncode == 1 and "not today" in refused.stderr and saved(ROUTER) == without,
          "rules: refused for IPv6 when IPv4 was loaded, all is as it was", (refused, jumps()))
    run(ROUTER, "iptables", "-t", "mangle", "-A", "POSTROUTING", "-j", "LOG", "--log-prefix", "SMTPWITNESS_NFQ_P")
    rules("unload")
    claim(jumps() == ["-A POSTROUTING -j LOG --log-prefix SMTPWITNESS_NFQ_P"],
          "rules: unload takes the rule away, and none that only mentions us", jumps())
    run(ROUTER, "iptables", "-t", "mangle", "-F", "POSTROUTING")
    rules("load")


def peaks_of(witness, version):
    """The latest `peaks` line of our client."""
    before = len(witness.records)
    witness.statistics()
    until(lambda: any(record.get("event") == "peaks" for record in witness.records[before:]), 3)
    found = [record for record in witness.records[before:] if record.get("event") == "peaks" and record["source"] == {4: "10.81.1.2", 6: "fd81:1::/64"}[version]]
    return found[-1] if found else {}


def test_peaks():
    """Sessions one after another, ended in every way, are never counted as if they were all open at once."""
    for queues in (1, 4):
        rules("load", "--queues", str(queues))
        with Witness(queues=queues) as witness:
            for version in (4, 6):
                server, opened = Server(version), 0
                ends = (lambda talker: talker.quit(), lambda talker: talker.close(), lambda talker: reset(talker.socket),
                        lambda talker: (talker.socket.shutdown(socket.SHUT_WR), talker.stream.read(), talker.close()),
                        lambda talker: (talker.to_data(), talker.close()))
                for number in range(60):
                    ends[number % len(ends)](Talker(version))
                    opened += 1
                time.sleep(0.3)
                with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "REJECT", "--reject-with", "tcp-reset"):
                    for _ in range(20):
                        connect_in_vain(version, 1)
                        opened += 1
                time.sleep(0.3)
                peaks = peaks_of(witness, version)
                claim(peaks.get("opened") == opened and peaks.get("peak", 99) <= 4 and peaks.get("concurrent") == 0,
                      f"peaks v{version}, {queues} queues: one after another is not all at once", peaks)
                server.close()


def test_client_silent():
    for version in (4, 6):
        with Witness() as witness:
            server = Server(version, {"patience": 7})
            talker = Talker(version)
            talker.to_data()
            answer = talker.read()
            claim(answer.startswith(b"421 4.4.2"), f"silent client v{version}: the server's 421 arrives", answer)
            claim(talker.stream.read() == b"", f"silent client v{version}: and its end")
            talker.close()
            verdict = witness.of(talker.socket)
            wanted = {"fault": "client", "cause": "data-start-stall", "phase": "body", "owed-by": "client"}
            claim(wanted.items() <= verdict.items(), f"silent client v{version}: the client, after 354", verdict)
            claim(verdict.get("probe") == "answered" and verdict.get("confidence") == "certain",
                  f"silent client v{version}: it answered a probe, so it is certain", verdict)
            numbers = witness.statistics()
            claim(numbers["probes"] == 1 and numbers["probes-answered"] == 1 and numbers["dropped"] == 1,
                  f"silent client v{version}: one probe, and its answer goes no further", numbers)
            server.close()


def test_server_silent():
    for version in (4, 6):
        with Witness() as witness:
            server = Server(version, {"mute": "MAIL"})
            talker = Talker(version)
            talker.ask(b"EHLO client.test")
            talker.socket.sendall(b"MAIL FROM:<a@client.test>\r\n")
            stall = witness.of(talker.socket, "stall")
            claim(stall.get("owed-by") == "server" and stall.get("phase") == "mail" and stall.get("fault") == "server",
                  f"silent server v{version}: a stall line while it lasts", stall)
            time.sleep(6)
            talker.close()
            witness.stop()  # the server never answers the client's FIN
            verdict = witness.of(talker.socket)
            claim(verdict.get("fault") in ("client", "server") and "network" not in json.dumps([verdict.get("fault"), verdict.get("also")])
                  and verdict.get("probe") == "server:answered", f"silent server v{version}: an application, not the network", verdict)
            server.close()


def test_connect():
    with Witness() as witness:
        names = {}
        for version in (4, 6):
            client = connect(version, timeout=3, wait=False)
            try:
                client.connect((ADDRESS[version]["sv"], 25))
            except ConnectionRefusedError:
                pass
            verdict = witness.of(client)
            claim(verdict.get("cause") == "port-closed" and verdict.get("fault") == "server", f"closed port v{version}", verdict)
            tool = "icmp-admin-prohibited" if version == 4 else "icmp6-adm-prohibited"
            with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "REJECT", "--reject-with", tool):
                client = connect(version, timeout=3, wait=False)
                try:
                    client.connect((ADDRESS[version]["sv"], 25))
                except OSError:
                    pass
                verdict = witness.of(client, seconds=12)
                claim(verdict.get("cause") == "admin-prohibited", f"prohibited by ICMP v{version}", verdict)
            with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "DROP"):
                client = connect(version, timeout=4, wait=False)
                try:
                    client.connect((ADDRESS[version]["sv"], 25))
                except TimeoutError:
                    names[version] = client
                client.close()  # before the rule goes: its kernel goes on trying
        witness.stop()  # nobody says that it is over: without an answer a SYN is waited for until the last repetition
        for version, client in names.items():
            verdict = witness.of(client)
            claim(verdict.get("cause") == "connect-unanswered" and "server-network" in [verdict.get("fault"), *verdict.get("also", [])],
                  f"dropped SYN v{version}: nobody answered", verdict)
        claim(len(names) == 2, "dropped SYN: both were tried")


class Bridge:
    """Client and server on one network, the witness on a bridge between them that has no address of its own."""

    NAMES = {name: f"{ROUTER[:-3]}-b{name}" for name in "cws"}
    SERVER = {4: "10.85.0.2", 6: "fd85::2"}

    def __enter__(self):
        for name in self.NAMES.values():
            subprocess.run(["ip", "netns", "add", name], check=True)
        for end, number in (("c", 1), ("s", 2)):
            there, here = self.NAMES[end], self.NAMES["w"]
            subprocess.run(["ip", "link", "add", "e0", "netns", there, "type", "veth", "peer", "name", "p" + end, "netns", here], check=True)
            run(there, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
            for address in (f"10.85.0.{number}/24", f"fd85::{number}/64"):
                run(there, "ip", "addr", "add", address, "dev", "e0", *(["nodad"] if ":" in address else []))
            run(there, "ip", "link", "set", "e0", "up")
        here = self.NAMES["w"]
        run(here, "ip", "link", "add", "br0", "type", "bridge")
        for device in ("pc", "ps"):
            run(here, "ip", "link", "set", device, "master", "br0", "up")
        run(here, "ip", "link", "set", "br0", "up")
        for family in ("iptables", "ip6tables"):
            run(here, "sysctl", "-qw", f"net.bridge.bridge-nf-call-{family}=1")
        return self

    def __exit__(self, *_):
        for name in self.NAMES.values():
            subprocess.run(["ip", "netns", "del", name], check=False)


@contextlib.contextmanager
def moved_to(bridge):
    """Servers, talkers, rules and witnesses of the lab work on the bridge meanwhile."""
    def listen_there(version):
        with inside(bridge.NAMES["s"]):
            listener = socket.create_server((bridge.SERVER[version], 25), family=FAMILY[version])
        listener.settimeout(30)
        return listener

    def connect_there(version, timeout=10):
        with inside(bridge.NAMES["c"]):
            client = lab.Client(FAMILY[version], socket.SOCK_STREAM)
        client.settimeout(timeout)
        client.bind((bridge.SERVER[version][:-1] + "1", 0))
        client.connect((bridge.SERVER[version], 25))
        return client

    there = {"ROUTER": bridge.NAMES["w"], "listen": listen_there, "connect": connect_there}
    here = {name: getattr(hook_lab, name) for name in there}
    vars(hook_lab).update(there)
    try:
        yield
    finally:
        vars(hook_lab).update(here)


def test_bridge():
    if not os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables"):
        RESULTS["skipped"] += 1
        print("skipped: the bridge: this kernel has no br_netfilter", flush=True)
        return
    with Bridge() as bridge, moved_to(bridge):
        rules("load")
        for version in (4, 6):
            with Witness() as witness:
                server = Server(version)
                talker = Talker(version)
                talker.to_data()
                talker.ask(b"hello\r\n.")
                talker.quit()
                verdict = witness.of(talker.socket)
                claim(verdict.get("fault") == "none" and verdict.get("mails") == "1/1", f"bridge v{version}: mail is followed", verdict)
                server.close()
                server = Server(version, {"patience": 7})
                talker = Talker(version)
                talker.to_data()
                talker.read()
                talker.close()
                verdict = witness.of(talker.socket)
                claim(verdict.get("cause") == "data-start-stall" and verdict.get("probe") == "answered" and
                      verdict.get("confidence") == "certain", f"bridge v{version}: a silent side answers a probe", verdict)
                numbers = witness.statistics()
                claim(numbers["probes"] == numbers["probes-answered"] == numbers["dropped"] == 1,
                      f"bridge v{version}: and the answer goes no further", numbers)
                server.close()
            with Witness(timeouts="action = enforce\nbody = 2s\n") as witness:
                server = Server(version)
                talker = Talker(version)
                talker.to_data()
                answer = talker.read()
                claim(answer.startswith(b"421 "), f"bridge v{version}: a session is closed by 421", answer)
                ended = until(lambda: is_reset(server.sockets[0]), 5)
                claim(ended, f"bridge v{version}: and the server gets a reset")
                talker.close()
                server.close()
        rules("unload")


def is_reset(peer):
    with contextlib.suppress(OSError):
        return struct.unpack("B", peer.getsockopt(socket.IPPROTO_TCP, 11, 1))[0] == 7  # TCP_INFO: TCP_CLOSE
    return True


def connect_in_vain(version, seconds):
    client = connect(version, timeout=seconds, wait=False)
    try:
        client.connect((ADDRESS[version]["sv"], 25))
    except OSError:
        pass
    client.close()
    return client


def test_own_drop():
    """Rules of the router itself, behind ours: the witness's own host, never the network behind it."""
    wanted = {"fault": "witness", "cause": "own-drop", "confidence": "certain", "where": "here"}
    for version in (4, 6):
        with Witness() as witness:
            with rule(ROUTER, version, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "DROP"):
                client = connect_in_vain(version, 4)
            with rule(ROUTER, version, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "REJECT", "--reject-with", "tcp-reset"):
                refused = connect_in_vain(version, 4)
            prohibited = "icmp-admin-prohibited" if version == 4 else "icmp6-adm-prohibited"
            with rule(ROUTER, version, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "REJECT", "--reject-with", prohibited):
                forbidden = connect_in_vain(version, 4)
            server = Server(version)
            talkers = [Talker(version) for _ in range(3)]
            for talker in talkers:
                talker.ask(b"EHLO client.test")
            with rule(ROUTER, version, "FORWARD", "-p", "tcp", "--sport", str(talkers[0].socket.name[1]), "-j", "DROP"), \
                 rule(ROUTER, version, "FORWARD", "-p", "tcp", "--dport", str(talkers[1].socket.name[1]), "-j", "DROP"), \
                 rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--sport", str(talkers[2].socket.name[1]), "-j", "DROP"):
                for talker in talkers:
                    talker.socket.sendall(b"MAIL FROM:<a@client.test>\r\n")
                time.sleep(4)
                witness.stop()
            claim(wanted.items() <= witness.of(client).items(), f"own drop v{version}: DROP of a SYN", witness.of(client))
            claim(wanted.items() <= witness.of(refused).items(), f"own drop v{version}: REJECT by a reset", witness.of(refused))
            claim(wanted.items() <= witness.of(forbidden).items(), f"own drop v{version}: REJECT by ICMP", witness.of(forbidden))
            claim(wanted.items() <= witness.of(talkers[0].socket).items(), f"own drop v{version}: of commands", witness.of(talkers[0].socket))
            claim(wanted.items() <= witness.of(talkers[1].socket).items(), f"own drop v{version}: of replies", witness.of(talkers[1].socket))
            verdict = witness.of(talkers[2].socket)
            claim(verdict.get("fault") == "server-network", f"own drop v{version}: not what another router drops", verdict)
            for talker in talkers:
                talker.close()
            server.close()


def test_forged_reset():
    for version in (4, 6):
        with Witness() as witness:
            server = Server(version)
            talker = Talker(version)
            talker.ask(b"EHLO client.test")
            with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--dport", "25", "--tcp-flags", "PSH", "PSH",
                      "-j", "REJECT", "--reject-with", "tcp-reset"):
                try:
                    talker.ask(b"MAIL FROM:<a@client.test>")
                except ConnectionResetError:
                    pass
            verdict = witness.of(talker.socket)
            claim(verdict.get("fault") == "middlebox" and verdict.get("cause") == "reset-injected", f"forged reset v{version}", verdict)
            server.close()


def slow_body(talker, body, began, seconds):
    """Sends in slices so that it takes about `seconds`; sets `began` with the first."""
    slices = 40
    size = len(body) // slices + 1
    for index in range(slices):
        talker.socket.sendall(body[index * size:(index + 1) * size])
        began.set()
        time.sleep(seconds / slices)


def interrupted(witness, version, strike, name, seconds=4.0):
    """A mail in whose middle `strike(child)` happens; how long the whole took."""
    server = Server(version)
    body = body_of(4_000_000)
    talker = Talker(version, timeout=60)
    talker.to_data()
    began = threading.Event()
    sender = threading.Thread(target=slow_body, args=(talker, body, began, seconds))
    start = time.monotonic()
    sender.start()
    began.wait()
    child = witness.child()
    strike(child)
    sender.join()
    answer = talker.ask(b".")
    took = time.monotonic() - start
    talker.quit()
    claim(answer.startswith(b"250") and server.digests == [hashlib.sha256(body).hexdigest()],
          f"{name} v{version}: the mail comes through octet for octet", answer)
    server.close()
    return talker, took, child


def test_told_to_stop():
    """In the midst of a body that fills the queue: what waits there goes on its way, and the rest passes by."""
    body = body_of(60_000_000)
    for version in (4, 6):
        server = Server(version, {"swift": True})
        talker = Talker(version, timeout=60)
        with Witness() as witness:
            talker.to_data()
            sender = threading.Thread(target=talker.socket.sendall, args=(body,))
            start = time.monotonic()
            sender.start()
            time.sleep(0.03)
            witness.stop()
            sender.join()
            answer = talker.ask(b".")
            took = time.monotonic() - start
        claim(answer.startswith(b"250") and server.digests == [hashlib.sha256(body).hexdigest()],
              f"told to stop v{version}: the mail comes through octet for octet", answer)
        claim(took < 6, f"told to stop v{version}: and stands still for no time worth a name", took)
        talker.quit()
        server.close()


def test_killed():
    for version in (4, 6):
        with Witness() as witness:
            talker, took, child = interrupted(witness, version, lambda pid: os.kill(pid, signal.SIGKILL), "killed")
            claim(took < 6, f"killed v{version}: without delay", took)
            claim(witness.says("started again: the process before was ended by signal 9"), f"killed v{version}: started again, and said so",
                  witness.messages)
            claim(witness.child() not in (None, child), f"killed v{version}: another process")
            verdict = witness.of(talker.socket)
            claim(verdict.get("fault") in ("none", "unknown") and "midstream" in verdict.get("notes", []),
                  f"killed v{version}: the session is picked up, and nobody is blamed", verdict)


def test_stopped():
    for version in (4, 6):
        with Witness() as witness:
            talker, took, child = interrupted(witness, version, lambda pid: os.kill(pid, signal.SIGSTOP), "hung", 1.0)
            claim(took < 6.5, f"hung v{version}: mail goes on within the watchdog's time", took)
            claim(took > 2, f"hung v{version}: it had stood still, so the test means something", took)
            claim(witness.says("gave no sign of life for 3000 ms and was killed"), f"hung v{version}: said so", witness.messages)
            verdict = witness.of(talker.socket)
            claim(verdict.get("fault") in ("none", "unknown"), f"hung v{version}: nobody is blamed", verdict)


def test_overflow():
    for fail_open in ("yes", "no"):
        with Witness(queue_length=64, fail_open=fail_open, receive_buffer="256k") as witness:
            def strike(pid):
                os.kill(pid, signal.SIGSTOP)
                with inside(CLIENT):
                    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
                for _, target, segment in raw_segments(4, 200):  # more than the queue takes
                    raw.sendto(segment, (target, 0))
                raw.close()
                time.sleep(1.5)
                os.kill(pid, signal.SIGCONT)

            servers = Server(4)
            others = [Talker(4, timeout=60) for _ in range(24)]
            for other in others:
                other.to_data()
            aborting = Talker(4, timeout=60)
            aborting.to_data()
            aborting.socket.sendall(b"half a mail\r\n")
            pressers = [threading.Thread(target=slow_body, args=(other, body_of(400_000), threading.Event(), 2)) for other in others]
            for presser in pressers:
                presser.start()
            strike(witness.child())
            for presser in pressers:
                presser.join()
            aborting.stream.close()
            reset(aborting.socket)
            answers = [other.ask(b".") for other in others]
            claim(all(answer.startswith(b"250") for answer in answers), f"overflow, fail-open {fail_open}: all mail arrives", answers)
            for other in others:
                other.quit()
            verdicts = [witness.of(other.socket) for other in others]
            claim(all(v.get("fault") in ("none", "unknown", "witness") for v in verdicts), f"overflow, fail-open {fail_open}: nobody is blamed",
                  [v for v in verdicts if v.get("fault") not in ("none", "unknown", "witness")][:2])
            # It would be the client's doing, but for what we cannot have seen.
            verdict = witness.of(aborting.socket)
            claim(verdict.get("fault") == "witness" and verdict.get("cause") == "observer-loss",
                  f"overflow, fail-open {fail_open}: a verdict of that time is withdrawn", verdict)
            numbers = witness.statistics()
            if fail_open == "no":
                claim(numbers["queue-dropped"] + numbers["socket-dropped"] > 0, "overflow: the kernel's drops are counted", numbers)
                claim(witness.says("sessions of that time are not judged", 5), "overflow: and said", witness.messages)
            else:
                claim(numbers["queue-dropped"] == 0, "overflow, fail-open yes: nothing is dropped", numbers)
                claim(numbers["full"] + numbers["missed"] + numbers["overruns"] > 0 and witness.says("packets passed unseen", 5),
                      "overflow, fail-open yes: what passed unseen is noticed and said", numbers)
            servers.close()


def test_midstream():
    for version in (4, 6):
        server = Server(version)
        talker = Talker(version)
        talker.ask(b"EHLO client.test")
        with Witness() as witness:
            talker.ask(b"MAIL FROM:<a@client.test>")
            talker.ask(b"RCPT TO:<b@server.test>")
            talker.ask(b"DATA")
            talker.ask(b"hello\r\n.")
            talker.quit()
            verdict = witness.of(talker.socket)
            claim(verdict.get("fault") == "none" and "midstream" in verdict.get("notes", []), f"midstream v{version}: picked up and said so", verdict)
        server.close()


def test_without_us():
    for version in (4, 6):
        server = Server(version)
        talker = Talker(version)
        talker.to_data()
        claim(talker.ask(b"hello\r\n.").startswith(b"250"), f"nobody holds the queue v{version}: mail passes")
        talker.quit()
        server.close()


def raw_segments(version, count):
    """TCP headers that make no sense, to port 25: cut options, offsets beyond the packet, random octets."""
    chance = random.Random(7)
    source, target = ADDRESS[version]["cl"], ADDRESS[version]["sv"]
    for number in range(count):
        length = chance.randrange(20, 60)
        segment = bytearray(chance.randbytes(length))
        segment[0:4] = struct.pack("!HH", 40000 + number, 25)
        segment[12] = chance.randrange(256)
        yield source, target, bytes(segment)


def test_garbage():
    for version in (4, 6):
        with inside(SERVER):
            sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800 if version == 4 else 0x86DD))
            sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sniffer.setblocking(False)
        with Witness() as witness:
            with inside(CLIENT):
                raw = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP)
            wanted = set()
            for _, target, segment in raw_segments(version, 500):
                raw.sendto(segment, (target, 0))
                wanted.add(segment)
            time.sleep(1)
            got = set()
            header = 20 if version == 4 else 40
            while True:
                try:
                    got.add(sniffer.recv(65536)[header:])
                except BlockingIOError:
                    break
            numbers = witness.statistics()
            claim(len(wanted & got) == 500, f"garbage v{version}: all of it goes on its way", len(wanted & got))
            claim(numbers["malformed"] > 0 and numbers["dropped"] == 0, f"garbage v{version}: known as such, not dropped", numbers)
            server = Server(version)
            talker = Talker(version)
            claim(talker.quit().startswith(b"221"), f"garbage v{version}: mail passes after it")
            server.close()


def test_host():
    """The witness on the mail server itself: INPUT and OUTPUT instead of FORWARD, as server and as client; no probes."""
    rules("unload")
    rules("load", "--place", "host")
    own = {4: "10.81.1.1", 6: "fd81:1::1"}
    with Witness(probe_after="100ms") as witness:
        for version in (4, 6):
            with inside(ROUTER):
                listener = socket.create_server((own[version], 25), family=FAMILY[version])
            with inside(CLIENT):
                client = socket.create_connection((own[version], 25), 10)
            server = listener.accept()[0]
            verdict = witness.of(host_dialogue(client, server))
            claim(verdict.get("fault") == "none" and verdict.get("mails") == "1/1", f"host v{version}: a mail to this host is judged", verdict)
            with inside(CLIENT):
                client = socket.create_connection((own[version], 25), 10)
            server = listener.accept()[0]
            server.sendall(b"220 own.test ESMTP\r\n")
            client.recv(100)
            stall = witness.of(client, "stall", 6)
            claim(stall.get("owed-by") == "client" and stall.get("probe") != "answered" and witness.statistics()["probes"] == 0,
                  f"host v{version}: a silent client is not probed", stall)
            client.close()
            server.close()
            listener.close()
            outside = listen(version)
            with inside(ROUTER):
                client = socket.create_connection((ADDRESS[version]["sv"], 25), 10)
            server = outside.accept()[0]
            verdict = witness.of(host_dialogue(client, server))
            claim(verdict.get("fault") == "none" and verdict.get("mails") == "1/1", f"host v{version}: a mail from this host is judged", verdict)
            outside.close()
        claim(witness.says("packets of this host itself", 1), "host: it says that nothing is probed")
    rules("unload")


def host_dialogue(client, server):
    """One mail from begin to end, between two sockets; the client's name in the records."""
    name = text_of(client)
    for speaker, line in ((server, "220 own.test ESMTP"), (client, "HELO client.test"), (server, "250 own.test"),
                          (client, "MAIL FROM:<a@client.test>"), (server, "250 ok"), (client, "RCPT TO:<b@own.test>"), (server, "250 ok"),
                          (client, "DATA"), (server, "354 go on"), (client, "Subject: x\r\n\r\nhello\r\n."), (server, "250 queued"),
                          (client, "QUIT"), (server, "221 bye")):
        speaker.sendall(line.encode() + b"\r\n")
        listener = client if speaker is server else server
        listener.settimeout(10)
        listener.recv(4096)
    server.close()
    client.recv(10)
    client.close()
    return name


def test_translated():
    """This router translates the server's address (DNAT), and in a second round the clients', too (SNAT)."""
    public = {4: "10.81.1.1", 6: "fd81:1::1"}
    ours = {4: "10.81.2.1", 6: "fd81:2::1"}
    for version in public:
        with contextlib.ExitStack() as stack:
            stack.enter_context(rule(ROUTER, version, "PREROUTING", "-t", "nat", "-d", public[version], "-p", "tcp", "--dport", "25",
                                     "-j", "DNAT", "--to-destination", ADDRESS[version]["sv"]))
            for name in ("DNAT", "DNAT and SNAT"):
                if name != "DNAT":
                    stack.enter_context(rule(ROUTER, version, "POSTROUTING", "-t", "nat", "-o", "r1", "-p", "tcp", "--dport", "25",
                                             "-j", "SNAT", "--to-source", ours[version]))
                with Witness() as witness:
                    server = Server(version, {"patience": 7})
                    talker = Talker(version, address=public[version])
                    talker.to_data()
                    answer = talker.read()
                    claim(answer.startswith(b"421 4.4.2"), f"{name} v{version}: the server's 421 arrives, whatever was probed", answer)
                    talker.close()
                    verdict = witness.of(talker.socket)
                    claim(verdict.get("server", "").strip("[]").startswith(ADDRESS[version]["sv"]),
                          f"{name} v{version}: the server's own address is named", verdict)
                    claim((verdict.get("fault"), verdict.get("cause")) == ("client", "data-start-stall"), f"{name} v{version}: the client, after 354", verdict)
                    if name == "DNAT":
                        claim(verdict.get("probe") == "answered" and verdict.get("confidence") == "certain",
                              f"{name} v{version}: its host answered a probe", verdict)
                    else:  # the client resets a probe that does not bear the address it called
                        claim(verdict.get("probe") == "answered" or verdict.get("confidence") != "certain",  # its host acknowledged the 421
                              f"{name} v{version}: no more is said than was seen", verdict)
                        numbers = witness.statistics()
                        claim(numbers["probes"] > 0 and numbers["dropped"] > 0, f"{name} v{version}: the reset was kept back", numbers)
                    server.close()


def test_signals():
    with Witness() as witness:
        witness.process.send_signal(signal.SIGHUP)
        claim(witness.says("is in force for new sessions"), "signals: a reload is done and said", witness.messages)
        child = witness.child()
        with open(f"/proc/{child}/status", encoding="ascii") as file:
            status = file.read()
        claim(re.search(r"Uid:\s+65534", status) is not None and re.search(r"CapEff:\s+0000000000003000", status) is not None,
              "signals: the process with the queues is nobody, with CAP_NET_ADMIN and CAP_NET_RAW alone", status)
        second = subprocess.run(["ip", "netns", "exec", ROUTER, PROGRAM, "nfq", "--config", witness.config.name, "--foreground"],
                                capture_output=True, text=True, timeout=20, check=False)
        claim(second.returncode == 1 and "cannot take queue 2525: another process holds it" in second.stderr,
              "signals: a second one does not start, and says why", second.stderr)
    claim(witness.process.returncode == 0, "signals: SIGTERM ends it orderly")
    with Witness() as witness:
        child = witness.child()
        witness.process.kill()
        witness.process.wait()
        gone = until(lambda: not os.path.exists(f"/proc/{child}/status") or
                     re.search(r"State:\s+Z", open(f"/proc/{child}/status", encoding="ascii").read()), 5)
        claim(gone, "signals: without its supervisor the process with the queues ends, too")
        witness.process.returncode = 0


def mail(version=4, octets=10):
    """One mail from beginning to end; the client's socket."""
    server = Server(version, {"swift": True})
    talker = Talker(version)
    talker.to_data()
    talker.socket.sendall(body_of(octets))
    talker.ask(b".")
    talker.quit()
    server.close()
    return talker.socket


def test_keys():
    """Keys whose effect no other test looks at."""
    rules("load", "--queue", "3000")
    for queue in (3000, 2525):
        with Witness(first_queue=queue) as witness:
            verdict = witness.of(mail(), seconds=12 if queue == 3000 else 2)
            claim(("cause" in verdict) == (queue == 3000), f"keys: first-queue = {queue}, rules for 3000", verdict)
    rules("load", "--bypass", "--mark", "0x30/0x30")
    for mark in ("0x30", "0x3000000"):
        with Witness(bypass="yes", mark=mark) as witness:
            witness.of(mail(octets=10_000_000))
            numbers = witness.statistics()
            claim((numbers["bypassed-octets"] > 0) == (mark == "0x30"), f"keys: mark = {mark}, rules for 0x30", numbers)
    rules("load")
    with Witness(max_flows=256) as witness, listen(4) as listener:
        listener.listen(400)
        clients = [connect(4) for _ in range(300)]
        until(lambda: witness.statistics()["evicted"] > 0, 5)
        numbers = witness.statistics()
        claim(numbers["flows"] <= 256 and numbers["evicted"] >= 300 - 256, "keys: max-flows = 256, and 300 connections", numbers)
        for client in clients:
            client.close()
    with Witness(watchdog="1s") as witness:
        os.kill(witness.child(), signal.SIGSTOP)
        claim(witness.says("gave no sign of life for 1000 ms and was killed", 5), "keys: watchdog = 1s", witness.messages)
        claim(witness.says("nfq: ready", 10, 2), "keys: and it is there again", witness.messages)
    with Witness(log="format = json\n", options=()) as witness:
        mail()
        claim(witness.says('smtpwitness: {"event":"verdict"'), "keys: [log] format = json: so are the lines", witness.messages)


def tests_of(module):
    return {name[5:]: function for name, function in module.items() if name.startswith("test_")}


def main():
    modules = {"bypass": bypass_tests, "enforcement": enforce_tests, "nft": nft_tests}
    groups = {name: tests_of(vars(module)) for name, module in modules.items()}
    tests = {**tests_of(globals()), **{name: test for group in groups.values() for name, test in group.items()}}
    assert len(tests) == len(tests_of(globals())) + sum(len(group) for group in groups.values()), "two tests of one name"
    groups["trouble"] = ("killed", "stopped", "overflow", "client_silent", "server_silent", "forged_reset")
    groups["passage"] = [name for name in tests_of(globals()) if name not in groups["trouble"]]
    words = sys.argv[1:] or list(groups)
    for name in [name for word in words for name in groups.get(word, [word])]:
        if name not in tests:
            sys.exit(f"no test '{name}': {' '.join(tests)}")
        rules("load")
        try:
            tests[name]()
        except Exception as error:  # pylint: disable=broad-except
            claim(False, name, repr(error))
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**RESULTS))
    sys.exit(RESULTS["failed"] > 0)


main()
