"""Claims about the bypass: large bodies that pass the queue by, and what is known of them all the same."""

import contextlib
import functools
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import enforce_tests
import nft_tests
from hook_lab import Server, Talker, Witness, body_of, claim, rules, saved, skipped
from lab import ADDRESS, CLIENT, FIREWALL, ROUTER, SERVER, inside, reset, rule, run, text_of, until


def test_most():
    """20 MB with the bypass: octet for octet, judged as without, and most of it never came to the witness."""
    body = body_of(20_000_000)
    rules("load", "--bypass", "--queues", "2")
    once = saved(ROUTER)
    rules("load", "--bypass", "--queues", "2")
    claim(saved(ROUTER) == once, "bypass: loading the rules twice is loading once")
    with Witness(queues=2, bypass="yes") as witness:
        for version in (4, 6):
            server = Server(version, {"swift": True})
            talker = Talker(version)
            talker.to_data()
            talker.socket.sendall(body)
            answer = talker.ask(b".")
            claim(answer.startswith(b"250") and server.digests == [hashlib.sha256(body).hexdigest()],
                  f"bypass v{version}: 20 MB come through octet for octet", answer)
            talker.to_data_again()
            talker.ask(b"short\r\n.")
            talker.quit()
            verdict = witness.of(talker.socket)
            wanted = {"fault": "none", "cause": "clean", "confidence": "certain", "mails": "2/2"}
            claim(wanted.items() <= verdict.items() and verdict.get("bytes-client", 0) > len(body),
                  f"bypass v{version}: a clean verdict, every octet counted, and the mail behind it is followed", verdict)
            server.close()
        numbers = witness.statistics()
        claim(numbers["bypasses"] >= 2 and numbers["octets"] < 0.7 * 2 * len(body) and
              numbers["bypassed-octets"] > 0.3 * 2 * len(body), "bypass: a great part of the octets never came to us", numbers)
    rules("unload")
    claim("SMTPWITNESS" not in "".join(saved(ROUTER)), "bypass: unload leaves nothing")


def small_packets():
    """Without offload, as packets come where the cards do not put segments together."""
    for namespace, interface in ((CLIENT, "c0"), (ROUTER, "r0"), (ROUTER, "r1"), (FIREWALL, "f0"), (FIREWALL, "f1"), (SERVER, "s0")):
        run(namespace, "ethtool", "-K", interface, "tso", "off", "gso", "off", "gro", "off")


def large_packets():
    for namespace, interface in ((CLIENT, "c0"), (ROUTER, "r0"), (ROUTER, "r1"), (FIREWALL, "f0"), (FIREWALL, "f1"), (SERVER, "s0")):
        run(namespace, "ethtool", "-K", interface, "tso", "on", "gso", "on", "gro", "on")


def in_small_packets(test):
    """Runs the test with packets that come one by one, and the rules of the bypass."""
    @functools.wraps(test)
    def prepared():
        missing = [program for program in ("conntrack", "ethtool") if not shutil.which(program)]
        if missing:
            skipped(f"{test.__name__[5:]}: not installed: {' '.join(missing)}")
            return
        small_packets()
        rules("load", "--bypass")
        try:
            test()
        finally:
            large_packets()
    return prepared


def corked(version, surplus):
    """A client that says with each octet that more follows, up to the final dot, so that the last segment is large and not
    pushed; the server has taken it and says nothing. What is known of who owed then?"""
    server = Server(version, {"mute": ".", "swift": False})
    talker = Talker(version)
    talker.to_data()
    body = body_of(3_000_000) + b"y" * surplus + b"\r\n.\r\n"
    talker.socket.sendall(body, socket.MSG_MORE)
    time.sleep(3)
    reset(talker.socket)
    talker.stream.close()
    server.close()
    return talker


@in_small_packets
def test_announced():
    """With SIZE in MAIL the bypass begins before the first octet of the body: hardly anything of it comes to the witness, nothing
    of it is overtaken, and who owes at the end is known as ever."""
    body = body_of(1_500_000)
    with Witness(bypass="yes") as witness:
        for version in (4, 6):
            server = Server(version, {"swift": True})
            talker = Talker(version)
            talker.to_data(len(body))
            talker.socket.sendall(body)
            answer = talker.ask(b".")
            claim(answer.startswith(b"250") and server.digests == [hashlib.sha256(body).hexdigest()],
                  f"announced v{version}: 1.5 MB come through octet for octet", answer)
            talker.to_data_again(9)
            talker.ask(b"short\r\n.")
            talker.quit()
            verdict = witness.of(talker.socket)
            wanted = {"fault": "none", "cause": "clean", "confidence": "certain", "mails": "2/2"}
            claim(wanted.items() <= verdict.items() and verdict.get("bytes-client", 0) > len(body) and "resynced" not in str(verdict.get("notes")),
                  f"announced v{version}: a clean verdict, every octet counted", verdict)
            server.close()
        numbers = witness.statistics()
        claim(numbers["bypasses"] >= 2 and numbers["bypassed-octets"] > 0.75 * 2 * len(body), "announced: nearly all of it passed by", numbers)
        for version in (4, 6):
            server = Server(version, {"mute": ".", "swift": False})
            talker = Talker(version)
            talker.to_data(len(body))
            talker.socket.sendall(body + b".\r\n")
            time.sleep(2)
            reset(talker.socket)
            talker.stream.close()
            verdict = witness.of(talker.socket)
            claim(verdict.get("phase") == "end-of-data" and verdict.get("owed-by") == "server",
                  f"announced v{version}: the final dot is seen, the server owes", verdict)
            server.close()


def test_corked():
    if not shutil.which("ethtool"):
        skipped("corked: ethtool is not installed")
        return
    small_packets()
    try:
        said = {}
        for bypass in ("no", "yes"):
            rules("load", *(["--bypass"] if bypass == "yes" else []))
            with Witness(bypass=bypass) as witness:
                for version in (4, 6):
                    verdicts = [witness.of(corked(version, surplus).socket) for surplus in (1, 400, 801)]
                    said[bypass, version] = [{name: verdict.get(name) for name in ("fault", "cause", "phase", "owed-by", "confidence")}
                                             for verdict in verdicts]
                numbers = witness.statistics()
        for version in (4, 6):
            wanted, got = said["no", version], said["yes", version]
            claim(wanted[0]["owed-by"] == "server" and wanted[0] in got and
                  all(one == other or one["fault"] == "unknown" for one, other in zip(got, wanted)),
                  f"corked v{version}: with the bypass the final dot is seen, too: the same verdict, or none", (said, witness.records))
        claim(numbers["bypasses"] >= 3, "corked: though the bypass was on", numbers)
    finally:
        large_packets()


def arrivals(sniffer, version):
    """(flags, ports, sequence, octets) of the client's segments that have reached the server's interface."""
    header = 20 if version == 4 else 40
    found = []
    while True:
        try:
            octets = sniffer.recv(65536)
        except BlockingIOError:
            return found
        if octets[9 if version == 4 else 6] == 6 and octets[header + 2:header + 4] == b"\0\x19":
            own, _, sequence = struct.unpack("!HHI", octets[header:header + 8])
            found.append((octets[header + 13], own, sequence, len(octets) - header - (octets[header + 12] >> 4) * 4))


def marked_connections(version):
    listed = subprocess.run(["ip", "netns", "exec", ROUTER, "conntrack", "-L", "-f", "ipv4" if version == 4 else "ipv6", "-p", "tcp"],
                            check=False, capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if "dport=25 " in line and " mark=0 " not in line]


@in_small_packets
def test_closed():
    """A client falls silent in its body while the bypass is on, and our limit ends the session: nothing of it passes any more,
    not even segments of a client that has not heard of it."""
    with Witness(timeouts="body = 2s\naction = enforce\n", bypass="yes") as witness:
        for version in (4, 6):
            with inside(SERVER):
                sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800 if version == 4 else 0x86DD))
            sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sniffer.setblocking(False)
            server = Server(version, {"swift": True})
            talker = Talker(version)
            talker.to_data()
            talker.socket.sendall(body_of(2_000_000) + b"in the midst of a line " * 40)
            marked = marked_connections(version)
            time.sleep(0.5)
            came, still = arrivals(sniffer, version), marked_connections(version)
            said, end = enforce_tests.ending(talker.socket)
            time.sleep(0.2)
            after = arrivals(sniffer, version)
            _, own, sequence, length = max(came, key=lambda one: one[2] - came[0][2] & 0xFFFFFFFF)
            deaf = nft_tests.Sender(CLIENT, version)
            target = ADDRESS[version]["sv"]
            for number in range(20):
                deaf.send(target, nft_tests.tcp(version, ADDRESS[version]["cl"], target, (own, 25), 16,
                                                sequence + length + 900 * number, b"x" * 900))
            time.sleep(0.2)
            behind = [one for one in arrivals(sniffer, version) if one[3] > 0]
            claim(said.startswith(b"421 4.4.2 ") and end == "fin", f"closed in a body v{version}: the client reads why", (said, end))
            claim(any(flags & 4 for flags, _, _, _ in after), f"closed in a body v{version}: the server is reset", after)
            claim(marked and not still, f"closed in a body v{version}: it was marked, until it stood", (marked, still))
            claim(not behind, f"closed in a body v{version}: nothing comes to the server any more", behind)
            verdict = witness.of(talker.socket)
            claim(verdict.get("action") == "closed" and verdict.get("fault") in ("client", "unknown"),
                  f"closed in a body v{version}: the verdict", verdict)
            talker.close()
            server.close()
            sniffer.close()
        numbers = witness.statistics()
        claim(numbers["closed"] == 2 and numbers["refused-verdicts"] == 0 and numbers["bypasses"] >= 2,
              "closed in a body: every packet got its verdict", numbers)


class Stream(threading.Thread):
    """A client in the midst of a body that has no end."""

    def __init__(self, version, address=None):
        super().__init__(daemon=True)
        self.talker = Talker(version, address=address)
        self.talker.to_data()
        self.name_of_client, self.over = text_of(self.talker.socket), False
        self.talker.socket.settimeout(0.2)
        self.start()

    def run(self):
        body, at = body_of(1_000_000), 0
        while not self.over:
            try:
                at = (at + self.talker.socket.send(body[at:])) % len(body)
            except TimeoutError:
                continue
            except OSError:
                return

    def close(self):
        self.over = True
        self.join(10)
        reset(self.talker.socket)
        self.talker.stream.close()


def stops(version):
    """What the client sends is lost behind the router."""
    return rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "DROP")


@in_small_packets
def test_standing():
    """The network behind the router takes no more of a body that passes by: no packet comes that could be a reason, yet all
    that is repeated is seen, and the network is named."""
    with Witness(bypass="yes") as witness:
        for version in (4, 6):
            server, stream = Server(version, {"swift": True}), Stream(version)
            claim(until(lambda: marked_connections(version), 5), f"standing v{version}: the body passes by")
            with stops(version):
                claim(until(lambda: not marked_connections(version), 2), f"standing v{version}: it is looked at again")
                time.sleep(4)
                stream.close()
                verdict = witness.of(stream.name_of_client)
            wanted = {"fault": "server-network", "phase": "body", "confidence": "certain"}
            claim(wanted.items() <= verdict.items() and verdict.get("retrans-server", 0) > 0,
                  f"standing v{version}: the network behind is named", verdict)
            claim(verdict.get("ledger-ms", {}).get("client-network", 9999) < 1000, f"standing v{version}: no time stands on the one before", verdict)
            server.close()


@in_small_packets
def test_stopped_while_it_stands():
    """The same, but nobody lets the witness run meanwhile: what was repeated passed unseen, so nobody is accused."""
    with Witness(bypass="yes", watchdog="20s") as witness:
        for version in (4, 6):
            server, stream = Server(version, {"swift": True}), Stream(version)
            marked = until(lambda: marked_connections(version), 5)
            child = witness.child()
            with stops(version):
                os.kill(child, signal.SIGSTOP)
                time.sleep(6)
                os.kill(child, signal.SIGCONT)
                time.sleep(1)
                stream.close()
                verdict = witness.of(stream.name_of_client)
            claim(marked and (verdict.get("fault"), verdict.get("cause"), verdict.get("confidence")) == ("witness", "observer-loss", "possible"),
                  f"stopped while it stands v{version}: we say that we cannot know", (marked, verdict))
            claim(witness.says("nobody let the thread of queue 2525 run for ", 1, version // 2 - 1),
                  f"stopped while it stands v{version}: and why", witness.messages)
            server.close()


@in_small_packets
def test_ended_on_the_run():
    """Our limit ends a session while its body passes by: it is marked no more, and nothing comes to the server."""
    with Witness(timeouts="session = 1s\nsession-action = enforce\n", bypass="yes") as witness:
        for version in (4, 6):
            server, stream = Server(version, {"swift": True}), Stream(version)
            claim(until(lambda: marked_connections(version), 5), f"ended on the run v{version}: the body passes by")
            verdict = witness.of(stream.name_of_client)
            claim(verdict.get("action") == "closed" and not marked_connections(version),
                  f"ended on the run v{version}: it is closed and not marked", (verdict, marked_connections(version)))
            stream.join(10)
            claim(not stream.is_alive(), f"ended on the run v{version}: the client cannot go on")
            stream.close()
            server.close()


def test_marks_of_a_run():
    """A run that is killed leaves connections marked, and nothing of one that stands would come to the next: that one puts
    all of them off when it begins. One that ends in good order leaves none."""
    if not shutil.which("conntrack"):
        skipped("marks of a run: conntrack is not installed")
        return
    rules("load", "--bypass")
    for version in (4, 6):
        server, stream = Server(version, {"swift": True}), None
        witness = Witness(bypass="yes")
        witness.says("nfq: ready")
        stream = Stream(version)
        marked = until(lambda: marked_connections(version), 5)
        child = witness.child()
        os.kill(witness.process.pid, signal.SIGSTOP)  # or it would start another one
        os.kill(child, signal.SIGKILL)
        witness.process.kill()
        witness.process.wait()
        run(ROUTER, "conntrack", "-I", "-p", "tcp", "-s", ADDRESS[version]["cl"], "-d", ADDRESS[version]["sv"], "--sport", "9", "--dport", "25",
            "--state", "ESTABLISHED", "--timeout", "100", "--mark", "0x2000007")
        with stops(version):
            time.sleep(0.5)
            left = marked_connections(version)
            with Witness(bypass="yes") as after:
                after.says("nfq: ready")
                found = marked_connections(version)
        claim(marked and len(left) == 2 and len(found) == 1 and " mark=33554439 " in found[0],
              f"marks of a run v{version}: the next one puts them off, and no other bit", (marked, left, found))
        run(ROUTER, "conntrack", "-D", "-p", "tcp", "--sport", "9", "-s", ADDRESS[version]["cl"])
        stream.close()
        with Witness(bypass="yes") as witness:
            witness.says("nfq: ready")
            stream = Stream(version)
            marked = until(lambda: marked_connections(version), 5)
        claim(marked and not marked_connections(version), f"marks of a run v{version}: one that ends in order leaves none", marked)
        stream.close()
        server.close()


def test_bypassed_when_translated():
    """Where one of both addresses is translated a body passes by; where both are, or in a zone, it is looked at, and said so."""
    public = {4: "10.81.1.1", 6: "fd81:1::1"}
    ours = {4: "10.81.2.1", 6: "fd81:2::1"}
    rules("load", "--bypass")
    for version in (4, 6):
        to_server = ["PREROUTING", "-t", "nat", "-d", public[version], "-p", "tcp", "--dport", "25", "-j", "DNAT", "--to-destination",
                     ADDRESS[version]["sv"]]
        from_us = ["POSTROUTING", "-t", "nat", "-o", "r1", "-p", "tcp", "--dport", "25", "-j", "SNAT", "--to-source", ours[version]]
        zone = ["PREROUTING", "-t", "raw", "-p", "tcp", "-j", "CT", "--zone", "7"]
        for name, words in (("DNAT", [to_server]), ("SNAT", [from_us]), ("both", [to_server, from_us]), ("a zone", [zone])):
            with contextlib.ExitStack() as stack, Witness(bypass="yes") as witness:
                for rule_words in words:
                    stack.enter_context(rule(ROUTER, version, *rule_words))
                server = Server(version, {"swift": True})
                talker = Talker(version, address=public[version] if to_server in words else None)
                body = body_of(2_000_000)
                talker.to_data()
                talker.socket.sendall(body)
                talker.ask(b".")
                talker.quit()
                verdict, numbers = witness.of(talker.socket), witness.statistics()
                claim(verdict.get("cause") == "clean" and server.digests == [hashlib.sha256(body).hexdigest()],
                      f"{name} v{version}: the mail arrives, and a clean verdict", verdict)
                if name in ("DNAT", "SNAT"):
                    claim(numbers["bypassed-octets"] > 0, f"{name} v{version}: it passes by", numbers)
                else:
                    claim(numbers["bypassed-octets"] == 0 and witness.says("a large body is not let past the queue", 1),
                          f"{name} v{version}: it does not, and this is said", (numbers, witness.messages))
                server.close()
