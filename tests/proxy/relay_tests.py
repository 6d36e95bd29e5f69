"""Claims about the relay, each proved between real sockets. Run by run.sh; arguments name single tests."""

import errno
import fcntl
import hashlib
import json
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from lab import (ADDRESS, CLIENT, Client, FIREWALL, ROUTER, SERVER, Witness, claim, connect, ending, inside, listen, pair,
                 reset, rule, run, run_tests, text_of, transparent_listeners, until)

IDLE = int(os.environ.get("IDLE", "2500"))


def claim_memory(true, text, detail=""):
    """What a sanitizer's own memory would make false."""
    if os.environ.get("SANITIZED"):
        print(f"# skipped with a sanitizer: {text}", flush=True)
    else:
        claim(true, text, detail)


def send_all(sock, octets, done):
    sock.settimeout(60)
    sock.sendall(octets)
    done.append(True)


def test_identity():
    """50 MB of noise each way at once, and the ends of stream pass too."""
    for version in (4, 6):
        with Witness() as witness, listen(version) as listener:
            client, server, _ = pair(listener, version)
            up, down = random.randbytes(50_000_000), random.randbytes(50_000_000)
            results = {}

            def receive(sock, name):
                sock.settimeout(60)
                digest, total = hashlib.sha256(), 0
                while octets := sock.recv(1 << 18):
                    digest.update(octets)
                    total += len(octets)
                results[name] = (total, digest.digest())

            def send(sock, octets):
                sock.settimeout(60)
                sock.sendall(octets)
                sock.shutdown(socket.SHUT_WR)

            jobs = [threading.Thread(target=receive, args=(server, "up")),
                    threading.Thread(target=receive, args=(client, "down")),
                    threading.Thread(target=send, args=(client, up)),
                    threading.Thread(target=send, args=(server, down))]
            before = time.monotonic()
            for job in jobs:
                job.start()
            for job in jobs:
                job.join(90)
            claim(results.get("up") == (len(up), hashlib.sha256(up).digest()), f"v{version}: 50 MB to the server identical")
            claim(results.get("down") == (len(down), hashlib.sha256(down).digest()),
                  f"v{version}: 50 MB to the client identical", f"{time.monotonic() - before:.1f} s")
            record = witness.verdict_of(client)
            claim(record.get("bytes-client") == len(up) and record.get("bytes-server") == len(down),
                  f"v{version}: every octet counted")


def test_address():
    for version in (4, 6):
        with Witness(), listen(version) as listener:
            client, server, peer = pair(listener, version)
            claim(peer[:2] == client.getsockname()[:2], f"v{version}: the server sees the client's address and port")
            claim(client.getpeername()[:2] == server.getsockname()[:2], f"v{version}: the client sees the server's")


def test_half_close():
    with Witness() as witness, listen(4) as listener:
        client, server, _ = pair(listener, 4)
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        claim(ending(server) == (b"question", "fin"), "the client's half-close reaches the server")
        time.sleep(0.3)
        server.sendall(b"answer")
        server.close()
        claim(ending(client) == (b"answer", "fin"), "... and the answer still reaches the client")
        claim(witness.verdict_of(client) != {}, "... one verdict")
        client, server, _ = pair(listener, 4)
        server.sendall(b"221 bye\r\n")
        server.shutdown(socket.SHUT_WR)
        claim(ending(client) == (b"221 bye\r\n", "fin"), "the server's half-close reaches the client")
        time.sleep(0.3)
        client.sendall(b"late")
        client.close()
        claim(ending(server) == (b"late", "fin"), "... and what the client says then still reaches the server")
        # A half-close behind octets that the other side does not read yet.
        client, server, _ = pair(listener, 4)
        octets = random.randbytes(30_000_000)
        done = []
        job = threading.Thread(target=send_all, args=(client, octets, done))
        job.start()
        time.sleep(0.5)
        claim(not done, "a slow reader pushes back")
        got = b""
        closer = threading.Thread(target=lambda: (job.join(), client.shutdown(socket.SHUT_WR)))
        closer.start()
        got, how = ending(server)
        claim(got == octets and how == "fin", "a half-close behind a full buffer comes after its octets")
        closer.join()


def test_reset():
    with Witness() as witness, listen(4) as listener:
        base = witness.descriptors()
        for name, prepare in (("at once", lambda c, s: None),
                              ("after octets", lambda c, s: (c.sendall(b"EHLO x\r\n"), s.recv(100), s.sendall(b"250 x\r\n"), c.recv(100)))):
            client, server, _ = pair(listener, 4)
            prepare(client, server)
            name_of_client = text_of(client)
            reset(client)
            claim(ending(server)[1] == "reset", f"the client's reset {name} becomes a reset to the server")
            claim(witness.verdict_of(name_of_client) != {}, "... one verdict")
            client, server, _ = pair(listener, 4)
            prepare(client, server)
            reset(server)
            claim(ending(client)[1] == "reset", f"the server's reset {name} becomes a reset to the client")
        # The classic: 421, then a close with octets unread, which makes a reset.
        for round_number in range(20):
            client, server, _ = pair(listener, 4)
            client.sendall(b"EHLO x\r\n")
            time.sleep(0.02)
            server.sendall(b"421 4.3.2 busy\r\n")
            server.close()
            got, how = ending(client)
            if (got, how) != (b"421 4.3.2 busy\r\n", "reset"):
                break
        claim((got, how) == (b"421 4.3.2 busy\r\n", "reset"), "a 421 with a reset behind it arrives, 20 times", f"{got!r} {how}")
        # A reset behind octets that the client is slow to read: they arrive, or at least nothing hangs.
        client, server, _ = pair(listener, 4)
        client.sendall(b"x")
        server.sendall(b"y" * 3_000_00)
        time.sleep(0.1)
        reset(server)
        got, how = ending(client)
        claim(how == "reset" and len(got) == 300_000, "octets before a reset arrive before it", f"{len(got)} {how}")
        # Neither side reads: the reset comes all the same, within the bounded wait.
        client, server, _ = pair(listener, 4)
        server.settimeout(0.5)
        try:
            while True:
                server.send(b"z" * 65536)
        except TimeoutError:
            pass
        before = time.monotonic()
        name_of_client = text_of(client)
        reset(server)
        claim(witness.verdict_of(name_of_client) != {}, "a reset while the other side does not read: a verdict")
        until(lambda: witness.descriptors() <= base, 6)
        waited = time.monotonic() - before
        claim(1 < waited < 4 and witness.descriptors() == base, "... and the bounded wait ends", f"{waited:.1f} s")


def test_back_pressure():
    with Witness() as witness, listen(4) as listener:
        client, server, _ = pair(listener, 4)
        time.sleep(0.2)
        before = witness.memory_kb()
        client.settimeout(1)
        sent = 0
        block = random.randbytes(65536)
        try:
            while sent < 200_000_000:
                sent += client.send(block)
        except TimeoutError:
            pass
        grown = witness.memory_kb() - before
        claim(sent < 60_000_000, "a server that does not read stops the client", f"{sent} octets in kernel buffers")
        claim_memory(grown < 1024, "... with bounded memory here", f"{grown} kB")
        cpu = witness.processor_seconds()
        time.sleep(2)
        claim(witness.processor_seconds() - cpu < 0.05, "... and without spinning")
        total = 0
        client.shutdown(socket.SHUT_WR)
        while octets := server.recv(1 << 20):
            total += len(octets)
        claim(total == sent, "... and every octet arrives when it reads", f"{total}")
        server.close()
        record = witness.verdict_of(client)
        claim(record.get("bytes-client") == sent, "... and was counted once")


def test_early_talk():
    with Witness() as witness:
        with inside(SERVER):
            listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS[4]["sv"], 25))
        # The server's answer is delayed: its SYN-ACKs are dropped for a while.
        listener.listen(16)
        listener.settimeout(10)
        with rule(FIREWALL, 4, "FORWARD", "-p", "tcp", "--sport", "25", "--tcp-flags", "SYN,ACK", "SYN,ACK", "-j", "DROP"):
            client = connect(4)
            client.sendall(b"EHLO early\r\n")
            time.sleep(0.2)
            client.sendall(b"MAIL FROM:<a@b>\r\n")
            client.shutdown(socket.SHUT_WR)
            time.sleep(0.3)
        server, _ = listener.accept()
        server.settimeout(5)
        claim(ending(server) == (b"EHLO early\r\nMAIL FROM:<a@b>\r\n", "fin"), "octets and end of an early talker are kept")
        server.sendall(b"554 5.5.1 early\r\n")
        server.close()
        claim(ending(client) == (b"554 5.5.1 early\r\n", "fin"), "... and the server's answer comes back")
        # The client leaves by reset before the server answered.
        with rule(FIREWALL, 4, "FORWARD", "-p", "tcp", "--sport", "25", "--tcp-flags", "SYN,ACK", "SYN,ACK", "-j", "DROP"):
            client = connect(4)
            name = text_of(client)
            time.sleep(0.1)
            reset(client)
            claim(witness.verdict_of(name) != {}, "a client gone before the server answered: a verdict")
        listener.close()


def test_connect_failures():
    cases = [("port-closed", None, None),
             ("connect-rejected", "REJECT port", ("icmp-port-unreachable", "icmp6-port-unreachable")),
             ("admin-prohibited", "REJECT prohibited", ("icmp-admin-prohibited", "icmp6-adm-prohibited")),
             ("unreachable", "REJECT host", ("icmp-host-unreachable", "icmp6-addr-unreachable")),
             ("connect-unanswered", "DROP", None)]
    with Witness() as witness:
        for version in (4, 6):
            for cause, what, reject in cases:
                if what is None:
                    client, how, waited = fail_to_connect(version)
                elif what == "DROP":
                    with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--dport", "25", "--syn", "-j", "DROP"):
                        client, how, waited = fail_to_connect(version)
                else:
                    with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--dport", "25", "--syn", "-j", "REJECT",
                              "--reject-with", reject[0 if version == 4 else 1]):
                        client, how, waited = fail_to_connect(version)
                record = witness.verdict_of(client)
                claim(record.get("cause") == cause, f"v{version}: {cause} ({what or 'no listener'})",
                      f"{record.get('fault')} {record.get('cause')} {record.get('confidence')}")
                limit = 3 if what == "DROP" else 0.5
                claim(how == "reset" and waited < limit, "... and the client sees a reset, promptly", f"{how} after {waited:.2f} s")


def fail_to_connect(version):
    before = time.monotonic()
    client = connect(version, wait=False)
    try:
        client.connect((ADDRESS[version]["sv"], 25))
        how = ending(client)[1]
    except ConnectionResetError:  # so prompt that connect() had not returned yet
        how = "reset"
    return text_of(client), how, time.monotonic() - before


def test_many():
    """Sessions that end in every way, in any order; nothing stays."""
    with Witness() as witness, listen(4) as listener:
        pair_sockets = pair(listener, 4)
        pair_sockets[0].close(), pair_sockets[1].close()
        time.sleep(0.3)
        base = witness.descriptors()
        memory = witness.memory_kb()
        generator = random.Random(7)
        total = 2000
        for begin in range(0, total, 250):
            sessions = [pair(listener, 4)[:2] for _ in range(250)]
            for client, server in sessions:
                way = generator.randrange(10)
                if way in (0, 1):
                    client.sendall(b"QUIT\r\n")
                first, second = (client, server) if generator.random() < 0.5 else (server, client)
                if way in (2, 3):
                    second.sendall(b"x" * 70000)
                if way < 5:
                    first.close()
                elif way < 8:
                    reset(first)
                else:
                    first.shutdown(socket.SHUT_WR)
            for client, server in sessions:
                for sock in (client, server):
                    if generator.random() < 0.3 and sock.fileno() != -1:
                        reset(sock)
                    else:
                        sock.close()
        claim(until(lambda: len(witness.verdicts()) == total + 1, 20), f"{total} sessions ended in every way: one verdict each",
              f"{len(witness.verdicts())}")
        until(lambda: witness.descriptors() == base, 6)
        claim(witness.descriptors() == base, "... no descriptor stays open", f"{witness.descriptors()} of {base}")
        ids = [record["session"] for record in witness.verdicts()]
        claim(len(set(ids)) == len(ids), "... no session id twice")
        grown = witness.memory_kb() - memory
        claim_memory(grown < 4096, "... memory does not grow", f"{grown} kB")
        witness.process.send_signal(signal.SIGUSR1)
        until(lambda: any("sessions=0 " in line for line in witness.messages), 3)
        claim(any("sessions=0 " in line and f"finished={total + 1}" in line for line in witness.messages), "... and the counters say so")


def test_idle_memory():
    """Greeted sessions that wait: process memory for each."""
    with Witness(probe_after="10min") as witness, listen(4) as listener:
        warm = [pair(listener, 4) for _ in range(100)]
        for client, server, _ in warm:
            server.sendall(b"220 server.test ESMTP\r\n")
            client.recv(100)
        time.sleep(0.3)
        before = witness.memory_kb()
        kept = []
        for _ in range(IDLE):
            client, server, _ = pair(listener, 4)
            server.sendall(b"220 server.test ESMTP\r\n")
            client.recv(100)
            client.sendall(b"EHLO c\r\n")
            server.recv(100)
            server.sendall(b"250-server.test\r\n250 PIPELINING\r\n")
            client.recv(100)
            kept.append((client, server))
        time.sleep(0.5)
        each = (witness.memory_kb() - before) * 1024 / IDLE
        claim_memory(each <= 1024, f"{IDLE} idle sessions: at most 1 kB of process memory each", f"{each:.0f} octets")
        cpu = witness.processor_seconds()
        time.sleep(3)
        cpu = witness.processor_seconds() - cpu
        claim(cpu < 0.05, "... and they cost no processor time", f"{cpu:.2f} s in 3 s")
        for client, server in kept:
            client.close(), server.close()
        claim(until(lambda: len(witness.verdicts()) >= IDLE, 20), "... and all of them end")


def test_shortage():
    """No descriptors left: no spinning, newcomers learn of it, and it recovers."""
    with Witness(descriptors=120, max_sessions=1000, workers=1) as witness, listen(4) as listener:
        held, turned = [], []
        with inside(CLIENT):
            clients = [Client() for _ in range(80)]
        for client in clients:
            client.settimeout(10)
            try:
                client.connect((ADDRESS[4]["sv"], 25))
            except ConnectionResetError:  # turned away before connect() returned
                turned.append(client)
        listener.settimeout(1)
        try:
            while True:
                held.append(listener.accept()[0])
        except TimeoutError:
            pass
        cpu = witness.processor_seconds()
        time.sleep(3)
        cpu = witness.processor_seconds() - cpu
        claim(cpu < 0.15, "out of descriptors: it does not spin", f"{cpu:.2f} s in 3 s, {len(held)} sessions")
        claim(any("no descriptor" in line for line in witness.messages), "... it says so in the log")
        for client in clients:
            client.setblocking(False)
            try:
                client.recv(1)
            except ConnectionResetError:
                turned.append(client)
            except OSError:  # nothing yet, or told at connect() already
                pass
        claim(len(turned) + len(held) == len(clients), "... those it cannot serve are reset, none waits in silence",
              f"{len(turned)} reset, {len(held)} served")
        for sock in clients + held:
            sock.close()
        listener.settimeout(10)
        time.sleep(1.5)
        client, server, _ = pair(listener, 4)
        server.sendall(b"220 x\r\n")
        claim(client.recv(100) == b"220 x\r\n", "... and serves again as soon as there are some")
        client.close(), server.close()
        claim(until(lambda: len(witness.verdicts()) == len(clients) + 1, 5), "... every connection has its verdict",
              f"{len(witness.verdicts())}")


FAILING_ACCEPT = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
int accept4(int fd, __SOCKADDR_ARG address, socklen_t *restrict length, int flags)
{
    if (access(FLAG, F_OK) == 0) {
        errno = ERROR;
        return -1;
    }
    return (int)syscall(SYS_accept4, fd, address.__sockaddr__, length, flags);
}
"""


def test_shortage_of_the_system():
    """accept() says that the whole system has no file or memory left: no descriptor of ours helps then, only a pause."""
    if os.environ.get("SANITIZED"):
        print("# skipped with a sanitizer: accept() cannot be replaced beneath it", flush=True)
        return
    for error in ("ENFILE", "ENOMEM"):
        with tempfile.TemporaryDirectory() as directory:
            flag, library = f"{directory}/flag", f"{directory}/accept.so"
            subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-o", library, f'-DFLAG="{flag}"', f"-DERROR={error}", "-"],
                           input=FAILING_ACCEPT, text=True, check=True)
            with Witness(preload=library, workers=1) as witness, listen(4) as listener:
                with open(flag, "w", encoding="ascii"):
                    pass
                client = connect(4)
                cpu = witness.processor_seconds()
                time.sleep(2)
                cpu = witness.processor_seconds() - cpu
                claim(cpu < 0.05, f"{error}: it does not spin while a client waits", f"{cpu:.2f} s in 2 s")
                claim(any("no descriptor or memory left" in line for line in witness.messages), "... it says so")
                os.unlink(flag)
                listener.settimeout(3)
                server, _ = listener.accept()
                server.sendall(b"220 x\r\n")
                claim(client.recv(100) == b"220 x\r\n", "... and that client is served as soon as there is some again")
                client.close(), server.close()


def test_max_sessions():
    with Witness(max_sessions=10) as witness, listen(4) as listener:
        first = [pair(listener, 4) for _ in range(10)]
        client = connect(4)
        listener.settimeout(0.5)
        try:
            listener.accept()
            claim(False, "at max-sessions the next one waits")
        except TimeoutError:
            claim(True, "at max-sessions the next one waits")
        for a, b, _ in first[:3]:
            a.close(), b.close()
        listener.settimeout(5)
        server, _ = listener.accept()
        server.sendall(b"220 x\r\n")
        claim(client.recv(100) == b"220 x\r\n", "... and is served when one ended")
        claim(witness.processor_seconds() < 1, "... without spinning")


def test_probes():
    """A silent side whose host lives, and one whose network is gone."""
    settings = "[timeouts]\nstall-notice = 3s\n"
    with Witness(settings) as witness, listen(4) as listener:
        client, server, _ = pair(listener, 4)
        server.sendall(b"220 x\r\n")
        client.recv(100)
        client.sendall(b"EHLO c\r\n")
        server.recv(100)
        time.sleep(3.5)  # the server owes a reply and says nothing
        name = text_of(client)
        server.close()
        client.close()
        record = witness.verdict_of(name)
        claim(record.get("probe") == "answered", "a silent server whose host lives: the probe is answered", str(record.get("probe")))
        client, server, _ = pair(listener, 4)
        server.sendall(b"220 x\r\n")
        client.recv(100)
        client.sendall(b"EHLO c\r\n")
        server.recv(100)
        time.sleep(0.2)
        with rule(FIREWALL, 4, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "DROP"):
            time.sleep(6)
            name = text_of(client)
            reset(client)
            record = witness.verdict_of(name)
        claim(record.get("probe") == "unanswered", "a silent server behind a dead network: unanswered", str(record.get("probe")))
        claim(record.get("fault") in ("server-network", "unknown") and "certain" != record.get("confidence") or
              record.get("fault") == "server-network", "... and the application is not blamed for it",
              f"{record.get('fault')} {record.get('cause')} {record.get('confidence')}")
        # Our probes stop, and never kill: the path comes back after a while and the session goes on.
        client, server, _ = pair(listener, 4)
        server.sendall(b"220 x\r\n")
        client.recv(100)
        client.sendall(b"EHLO c\r\n")
        server.recv(100)
        with rule(FIREWALL, 4, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "DROP"):
            time.sleep(16)
        server.sendall(b"250 x\r\n")
        claim(client.recv(100) == b"250 x\r\n", "a session whose path came back after 16 s was not killed by our probes")
        client.close(), server.close()
        # The mirror: the client is silent in its turn.
        client, server, _ = pair(listener, 4)
        server.sendall(b"220 x\r\n")
        client.recv(100)
        time.sleep(2.5)
        name = text_of(client)
        server.close()
        client.close()
        record = witness.verdict_of(name)
        claim(record.get("probe", "").endswith("answered") and "un" not in record["probe"], "a silent client whose host lives: answered", str(record.get("probe")))
        stalls = [r for r in witness.records if r.get("event") == "stall"]
        claim(len(stalls) >= 1, "stalls past the notice threshold make a stall line", f"{len(stalls)}")


def test_revealed():
    """The server spoke, and its octets were lost before us: only the tap can tell."""
    for version in (4, 6):
        with Witness() as witness, listen(version) as listener:
            client, server, _ = pair(listener, version)
            server.sendall(b"220 x\r\n")
            client.recv(100)
            client.sendall(b"EHLO c\r\n")
            server.recv(100)
            time.sleep(0.1)
            with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--sport", "25", "--tcp-flags", "PSH", "PSH", "-j", "DROP"):
                server.sendall(b"250 lost\r\n")
                time.sleep(3)
                name = text_of(client)
                reset(client)
                record = witness.verdict_of(name)
            claim(record.get("probe") == "revealed", f"v{version}: a reply lost before us is revealed by its host's ACK",
                  f"{record.get('probe')} {record.get('fault')} {record.get('cause')}")
            claim(record.get("cause") == "octets-lost" and record.get("fault") == "server-network",
                  "... and the network is named, not the server")


def test_reset_distance():
    """A reset forged on the way comes from another distance than the server's handshakes."""
    for version in (4, 6):
        with Witness() as witness, listen(version) as listener:
            client, server, _ = pair(listener, version)
            server.sendall(b"220 x\r\n")
            client.recv(100)
            time.sleep(0.1)
            with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "REJECT", "--reject-with", "tcp-reset"):
                client.sendall(b"EHLO c\r\n")
                how = ending(client)[1]
            record = witness.verdict_of(client)
            claim(how == "reset" and record.get("cause") == "reset-injected" and record.get("fault") == "middlebox",
                  f"v{version}: a forged reset is told by its TTL", f"{record.get('fault')} {record.get('cause')} {record.get('explain')}")
            client, server, _ = pair(listener, version)
            server.sendall(b"220 x\r\n")
            client.recv(100)
            client.sendall(b"EHLO c\r\n")
            server.recv(100)
            reset(server)
            ending(client)
            record = witness.verdict_of(client)
            claim(record.get("fault") == "server", f"v{version}: a reset of the server's own is its own",
                  f"{record.get('fault')} {record.get('cause')}")


def test_undiverted():
    """Path MTU messages that do not reach our socket: our own fault, and said so."""
    with Witness("", probe_after="500ms") as witness, listen(4) as listener:
        run(FIREWALL, "ip", "link", "set", "f1", "mtu", "1400")
        try:
            client, server, _ = pair(listener, 4)
            server.sendall(b"220 x\r\n")
            client.recv(100)
            client.sendall(b"x" * 20000 + b"\r\n")
            server.settimeout(5)
            got = b""
            while len(got) < 20002:
                octets = server.recv(65536)
                if not octets:
                    break
                got += octets
            claim(len(got) == 20002, "a path MTU message that is diverted to us heals the session")
            client.close(), server.close()
            claim(witness.verdict_of(client).get("fault") == "client", "... and neither network nor witness is blamed",
                  str(witness.verdict_of(client).get("cause")))
            run(ROUTER, "iptables", "-w", "-t", "mangle", "-D", "PREROUTING", "-p", "icmp", "-m", "socket", "--transparent", "-j", "SW_DIVERT")
            try:
                run(ROUTER, "ip", "route", "flush", "cache")
                client, server, _ = pair(listener, 4)
                server.sendall(b"220 x\r\n")
                client.recv(100)
                for command, reply in ((b"EHLO c\r\n", b"250 x\r\n"), (b"MAIL FROM:<a@b>\r\n", b"250 x\r\n"),
                                       (b"RCPT TO:<a@b>\r\n", b"250 x\r\n"), (b"DATA\r\n", b"354 x\r\n")):
                    client.sendall(command)
                    server.recv(100)
                    server.sendall(reply)
                    client.recv(100)
                client.sendall((b"x" * 70 + b"\r\n") * 400 + b".\r\n")
                time.sleep(4)
                name = text_of(client)
                reset(client)
                record = witness.verdict_of(name)
                claim(record.get("cause") == "icmp-undiverted" and record.get("fault") == "witness",
                      "a path MTU message that passes us by is the witness's fault", f"{record.get('fault')} {record.get('cause')}")
            finally:
                run(ROUTER, "iptables", "-w", "-t", "mangle", "-I", "PREROUTING", "-p", "icmp", "-m", "socket", "--transparent", "-j", "SW_DIVERT")
        finally:
            run(FIREWALL, "ip", "link", "set", "f1", "mtu", "1500")


def to_body(client, server):
    server.sendall(b"220 x\r\n")
    client.recv(100)
    for command, reply in ((b"EHLO c\r\n", b"250 x\r\n"), (b"MAIL FROM:<a@b>\r\n", b"250 x\r\n"),
                           (b"RCPT TO:<a@b>\r\n", b"250 x\r\n"), (b"DATA\r\n", b"354 x\r\n")):
        client.sendall(command)
        server.recv(100)
        server.sendall(reply)
        client.recv(100)


def test_lost_acceptance():
    """The 250 to a mail never reaches the client: whatever is written behind it, the verdict still says so."""
    lost = ("INPUT", "-p", "tcp", "--sport", "25", "-j", "DROP")
    octets_lost = (*lost[:-2], "--tcp-flags", "PSH", "PSH", *lost[-2:])
    for version in (4, 6):
        with Witness() as witness, listen(version) as listener:
            client, server, _ = pair(listener, version)
            to_body(client, server)
            client.sendall(b"x\r\n.\r\n")
            server.recv(100)
            with rule(CLIENT, version, *lost):
                server.sendall(b"250 taken\r\n")
                time.sleep(3)
                server.sendall(b"421 idle for too long\r\n")
                server.close()
                time.sleep(1)
                reset(client)
            record = witness.verdict_of(client)
            claim(record.get("duplicate") == "yes" and record.get("fault") == "client-network",
                  f"v{version}: a lost 250, and a 421 behind it",
                  f"{record.get('duplicate')} {record.get('fault')} {record.get('cause')}")
            client, server, _ = pair(listener, version)
            to_body(client, server)
            with rule(CLIENT, version, *octets_lost):
                client.sendall(b"x\r\n.\r\nQUIT\r\n")
                server.recv(100)
                server.sendall(b"250 taken\r\n221 bye\r\n")
                server.close()
                time.sleep(3)
                client.close()
                time.sleep(0.5)
            record = witness.verdict_of(client)
            claim(record.get("duplicate") == "yes" and record.get("fault") == "client-network",
                  f"v{version}: a lost 250 behind which both sides closed in order",
                  f"{record.get('duplicate')} {record.get('fault')} {record.get('cause')}")
            client, server, _ = pair(listener, version)
            to_body(client, server)
            client.sendall(b"x\r\n.\r\n")
            server.recv(100)
            with rule(CLIENT, version, *octets_lost):
                server.sendall(b"250 taken\r\n")
                time.sleep(3)
                reset(client)
            record = witness.verdict_of(client)
            claim(record.get("duplicate") == "yes" and record.get("fault") == "client-network",
                  f"v{version}: a lost 250, and the client resets", f"{record.get('duplicate')} {record.get('fault')} {record.get('cause')}")


def test_black_hole():
    """Full-size segments vanish and no ICMP comes: a path MTU black hole, not a server that is slow."""
    for version in (4, 6):
        icmp = ("icmp", "--icmp-type", "fragmentation-needed") if version == 4 else ("ipv6-icmp", "--icmpv6-type", "packet-too-big")
        with Witness() as witness, listen(version) as listener:
            run(FIREWALL, "ip", "link", "set", "f1", "mtu", "1400")
            try:
                with rule(FIREWALL, version, "OUTPUT", "-p", *icmp, "-j", "DROP"):
                    client, server, _ = pair(listener, version)
                    to_body(client, server)
                    client.sendall((b"x" * 70 + b"\r\n") * 400 + b".\r\n")
                    time.sleep(4)
                    reset(client)
                    record = witness.verdict_of(client)
                    claim(record.get("cause") == "path-mtu-black-hole" and record.get("fault") == "server-network",
                          f"v{version}: a path MTU black hole", f"{record.get('fault')} {record.get('cause')} {record.get('confidence')}")
            finally:
                run(FIREWALL, "ip", "link", "set", "f1", "mtu", "1500")


def test_not_reading():
    with Witness() as witness, listen(4) as listener:
        client, server, _ = pair(listener, 4)
        to_body(client, server)
        client.settimeout(1)
        try:
            while True:
                client.send(b"x" * 70 + b"\r\n")
        except TimeoutError:
            pass
        time.sleep(3)
        reset(client)
        record = witness.verdict_of(client)
        claim(record.get("cause") == "not-reading" and record.get("fault") == "server", "a server that does not read is named for it",
              f"{record.get('fault')} {record.get('cause')} {record.get('confidence')}")


def test_soft_errors():
    """An ICMP error on an open session is a notice: the session goes on when the path comes back."""
    for version in (4, 6):
        reject = "icmp-host-unreachable" if version == 4 else "icmp6-addr-unreachable"
        with Witness() as witness, listen(version) as listener:
            client, server, _ = pair(listener, version)
            server.sendall(b"220 x\r\n")
            client.recv(100)
            with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "REJECT", "--reject-with", reject):
                client.sendall(b"EHLO c\r\n")
                time.sleep(1)
                client.sendall(b"MAIL FROM:<a@b>\r\n")
                time.sleep(0.5)
            server.settimeout(8)
            got = b""
            while len(got) < 25:
                got += server.recv(100)
            claim(got == b"EHLO c\r\nMAIL FROM:<a@b>\r\n", f"v{version}: unreachable for 1.5 s, and the session goes on")
            server.sendall(b"221 x\r\n")
            client.close(), server.close()
            claim(witness.verdict_of(client) != {}, "... one verdict")


def test_kill():
    """kill -9 must not look like a clean end."""
    with Witness() as witness, listen(4) as listener:
        client, server, _ = pair(listener, 4)
        client.sendall(b"half a mail")
        server.recv(100)
        waiting = connect(4)
        listener.accept()
        witness.process.kill()
        witness.process.wait()
        claim(ending(client)[1] == "reset", "kill -9: the client sees a reset")
        claim(ending(server)[1] == "reset", "kill -9: the server sees a reset, no clean end of half a mail")
        waiting.close()


def test_stop():
    with Witness(drain="2s") as witness, listen(4) as listener:
        client, server, _ = pair(listener, 4)
        other_client, other_server, _ = pair(listener, 4)
        witness.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        server.sendall(b"220 x\r\n")
        claim(client.recv(100) == b"220 x\r\n", "while draining an open session goes on")
        client.close(), server.close()
        claim(witness.verdict_of(client) != {}, "... and ends with its verdict")
        claim(ending(other_client)[1] == "reset" and ending(other_server)[1] == "reset",
              "what is left at the end of the drain is reset on both legs")
        record = witness.verdict_of(other_client)
        claim("drained" in record.get("notes", []), "... with a verdict that says so", str(record.get("cause")))
        claim(witness.process.wait(10) == 0, "... and the program ends well")


def test_handover():
    """Listeners passed by a parent: the successor takes over without one lost connection."""
    passed = transparent_listeners()
    with listen(4) as listener, listen(6) as listener6:
        with Witness(listeners=passed, drain="10s") as old:
            client, server, _ = pair(listener, 4)
            client6, server6, _ = pair(listener6, 6)
            client6.close(), server6.close()
            claim(old.verdict_of(client6) != {}, "passed listeners serve both families")
            old.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            waiting = [connect(4) for _ in range(20)]  # nobody accepts now
            listener.settimeout(0.5)
            try:
                listener.accept()
                claim(False, "a draining witness takes nobody new")
            except TimeoutError:
                claim(True, "a draining witness takes nobody new")
            listener.settimeout(10)
            with Witness(listeners=passed) as new:
                served = 0
                for _ in waiting:
                    sock, _ = listener.accept()
                    sock.sendall(b"220 x\r\n")
                    sock.close()
                for sock in waiting:
                    served += sock.recv(100) == b"220 x\r\n"
                    sock.close()
                claim(served == len(waiting), "... its successor serves all who waited meanwhile", f"{served}")
                server.sendall(b"220 old\r\n")
                claim(client.recv(100) == b"220 old\r\n", "... and the old one's session goes on")
                client.close(), server.close()
                claim(old.verdict_of(client) != {} and new.verdict_of(waiting[0]) != {}, "... each says its verdicts")
    for sock in passed:
        sock.close()


def test_port_in_use():
    """The client's port may still be in TIME_WAIT towards the server: another one is taken, and said."""
    with Witness() as witness, listen(4) as listener:
        client = connect(4, source_port=33333)
        server, _ = listener.accept()
        client.shutdown(socket.SHUT_WR)
        server.recv(10)
        server.close()
        client.recv(10)
        reset(client)
        witness.verdict_of(f"{ADDRESS[4]['cl']}:33333")
        witness.records.clear()
        run(CLIENT, "ss", "-K", "sport", "=", ":33333")
        # A listener-less socket of ours on that very tuple: the router holds the port.
        with inside(ROUTER):
            blocker = socket.socket()
            blocker.setsockopt(socket.SOL_IP, 19, 1)
            blocker.bind((ADDRESS[4]["cl"], 33334))
        client = connect(4, source_port=33334)
        server, peer = listener.accept()
        claim(peer[0] == ADDRESS[4]["cl"] and peer[1] != 33334, "a port in use: another one, the address kept")
        client.close(), server.close()
        record = witness.verdict_of(client)
        claim("other-port" in record.get("notes", []), "... with a note", str(record.get("notes")))
        blocker.close()


def test_loop():
    """A connection to the listening port itself must not make us call ourselves."""
    with Witness() as witness:
        with inside(CLIENT):
            client = socket.socket()
            client.settimeout(5)
        try:
            client.connect(("10.81.1.1", 10025))
            how = ending(client)[1]
        except ConnectionResetError:
            how = "reset"
        claim(how == "reset", "a connection to the listening port itself is reset")
        time.sleep(0.5)
        claim(witness.processor_seconds() < 0.5 and witness.descriptors() < 60, "... and leads to no loop")


def test_refuse():
    limits = "[limits]\nper-source = 3\nper-source-action = enforce\nover-limit = refuse\n"
    for how in ("421", "reset"):
        with Witness(limits + f"refuse-with = {how}\n") as witness, listen(4) as listener:
            kept = [pair(listener, 4) for _ in range(3)]
            client = connect(4, wait=False)
            try:
                client.connect((ADDRESS[4]["sv"], 25))
                client.sendall(b"EHLO early\r\n" * 1000)
                got, end = ending(client)
            except (ConnectionResetError, BrokenPipeError):  # a reset as prompt as that
                got, end = b"", "reset"
            if how == "421":
                claim(got == b"421 4.7.0 gate.test Too many connections from [10.81.1.2], try again later\r\n" and end == "fin",
                      "over the limit: 421 and an orderly end, though the client talks", f"{got!r} {end}")
            else:
                claim(got == b"" and end == "reset", "over the limit, refuse-with = reset: a reset")
            client.close()
            name = text_of(client) if client.fileno() != -1 else None
            until(lambda: any(r.get("event") == "verdict" and r["action"] == "refused" for r in witness.records), 10)
            refused = [r for r in witness.verdicts() if r["action"] == "refused"]
            claim(len(refused) == 1 and refused[0]["fault"] == "policy" and refused[0]["cause"] == "witness-limit" and
                  refused[0].get("limit-by") == "witness", "... one verdict: policy witness-limit, limit-by witness",
                  str(refused[:1]) if len(refused) != 1 else "")
            lines = [r for r in witness.records if r.get("event") == "refusal"]
            claim(len(lines) == 1 and lines[0]["action"] == "refused", "... and one refusal line", str(name or ""))
            for a, b, _ in kept:
                a.close(), b.close()
            until(lambda: len(witness.verdicts()) == 4, 5)
            client, server, _ = pair(listener, 4)
            server.sendall(b"220 x\r\n")
            claim(client.recv(100) == b"220 x\r\n", "... the places come back")


def test_hold():
    limits = ("[limits]\nper-source = 3\nper-source-action = enforce\nover-limit = hold\nhold-longest = 4s\n")
    with Witness(limits) as witness, listen(4) as listener:
        kept = [pair(listener, 4) for _ in range(3)]
        waiting = []
        for number in range(3):  # one after the other: two workers accept in no order of their own
            waiting.append(connect(4))
            until(lambda: len([r for r in witness.records if r.get("event") == "refusal"]) == number + 1, 5)
        listener.settimeout(0.5)
        try:
            listener.accept()
            claim(False, "held connections do not reach the server")
        except TimeoutError:
            claim(True, "held connections do not reach the server")
        waiting[0].sendall(b"EHLO held\r\n")
        listener.settimeout(5)
        reset(waiting[1])  # leaves the queue
        time.sleep(0.2)
        kept[0][1].close()
        kept[0][0].close()
        server, peer = listener.accept()
        claim(peer[1] == waiting[0].getsockname()[1], "the first in the queue is let in when a place is free")
        server.sendall(b"220 x\r\n")
        claim(waiting[0].recv(100) == b"220 x\r\n" and server.recv(100) == b"EHLO held\r\n", "... and what it said meanwhile is passed on")
        got, end = ending(waiting[2])
        claim(got.startswith(b"421 ") and end == "fin", "one that waited too long is refused", f"{got!r} {end}")
        server.close()
        waiting[0].close()
        for a, b, _ in kept[1:]:
            a.close(), b.close()
        claim(until(lambda: len(witness.verdicts()) == 6, 10), "every one has its verdict", f"{len(witness.verdicts())}")
        record = witness.verdict_of(waiting[0])
        claim(record.get("action") == "held" and "held" in record.get("notes", []), "the one that was let in: action held, and a note",
              str(record.get("notes")))


def test_report_only():
    limits = "[limits]\nper-source = 1\nover-limit = refuse\n"
    with Witness(limits) as witness, listen(4) as listener:
        first = pair(listener, 4)
        second = pair(listener, 4)
        second[1].sendall(b"220 x\r\n")
        claim(second[0].recv(100) == b"220 x\r\n", "report only: over the limit everything passes")
        for a, b, _ in (first, second):
            a.close(), b.close()
        until(lambda: len(witness.verdicts()) == 2, 5)
        actions = sorted(r["action"] for r in witness.verdicts())
        claim(actions == ["none", "would-refuse"], "... and the verdict says what would have been done", str(actions))
        claim([r["action"] for r in witness.records if r.get("event") == "refusal"] == ["would-refuse"], "... as does a refusal line")


def test_enforced_timeout():
    settings = "[timeouts]\naction = enforce\nhelo = 1s\n"
    with Witness(settings) as witness, listen(4) as listener:
        client, server, _ = pair(listener, 4)
        server.sendall(b"220 x\r\n")
        client.recv(100)
        got, end = ending(client)
        claim(got.startswith(b"421 4.4.2 gate.test") and end == "fin", "an enforced timeout: 421 to the client", f"{got!r} {end}")
        claim(ending(server)[1] == "reset", "... and a reset to the server")
        record = witness.verdict_of(client)
        claim(record.get("action") == "closed", "... action closed", f"{record.get('action')} {record.get('cause')}")
        client, server, _ = pair(listener, 4)
        server.sendall(b"220 x\r\n")
        client.recv(100)
        client.sendall(b"EHLO half.test\r\n")
        client.shutdown(socket.SHUT_WR)
        got, end = ending(client)
        claim(got.startswith(b"421 4.4.2 gate.test") and end == "fin", "... also to one that has half-closed", f"{got!r} {end}")
        ending(server)  # the half-close came first
        claim(server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (errno.ECONNRESET, errno.EPIPE), "... and its server is reset")
        claim(witness.verdict_of(client).get("ended-by") == "client", "... the verdict stays that of the half-close")


def test_reload():
    with Witness("[limits]\nper-source = 0\n") as witness, listen(4) as listener:
        old = pair(listener, 4)
        witness.config.seek(0)
        text = open(witness.config.name, encoding="ascii").read().replace("per-source = 0", "per-source = 1\nper-source-action = enforce")
        with open(witness.config.name, "w", encoding="ascii") as config:
            config.write(text)
        witness.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        client = connect(4)
        claim(ending(client)[0].startswith(b"421 "), "a reload: new connections meet the new limit")
        old[1].sendall(b"220 x\r\n")
        claim(old[0].recv(100) == b"220 x\r\n", "... and old sessions go on")



# ---- what two ends can do to each other: with us as without us ----

SIOCATMARK = 0x8905


def last_error(sock, seconds=0.4):
    """What the kernel ended the connection with, by name; '' when it did not."""
    number = until(lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), seconds)
    return errno.errorcode[number] if number else ""


def at_mark(sock):
    return struct.unpack("i", fcntl.ioctl(sock, SIOCATMARK, b"\0" * 4))[0] != 0


def both_close(client, server):
    client.close()
    how = ending(server)
    server.close()
    return how


def server_closes_at_once(client, server):
    server.close()
    return ending(client)


def server_resets_at_once(client, server):
    reset(server)
    return ending(client)


def client_resets_at_once(client, server):
    reset(client)
    return ending(server)


def reset_behind_fin(client, server):
    client.sendall(b"EHLO c\r\n")
    client.shutdown(socket.SHUT_WR)
    how = ending(server)
    reset(client)
    return how, last_error(server)


def reset_behind_fin_of_server(client, server):
    server.sendall(b"221 bye\r\n")
    server.shutdown(socket.SHUT_WR)
    how = ending(client)
    reset(server)
    return how, last_error(client)


def all_at_once_from_server(client, server):
    server.sendall(b"421 busy\r\n")
    server.shutdown(socket.SHUT_WR)
    reset(server)
    time.sleep(0.2)
    return ending(client), last_error(client)


def simultaneous_close(client, server):
    client.sendall(b"QUIT\r\n")
    server.sendall(b"421 idle\r\n")
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    return ending(client), ending(server), last_error(client, 0.1), last_error(server, 0.1)


def octets_into_a_closed_server(client, server):
    server.sendall(b"221 bye\r\n")
    server.close()
    how = ending(client)
    client.sendall(b"NOOP\r\n")
    return how, last_error(client)


def close_with_octets_unread(client, server):
    server.sendall(b"250 x\r\n")
    time.sleep(0.1)
    client.close()
    return ending(server)


def octets_then_reset(client, server):
    client.sendall(b"x" * 100000)
    time.sleep(0.1)
    reset(client)
    time.sleep(0.2)
    got, how = ending(server)
    return len(got), how


def much_after_a_half_close(client, server):
    done = []
    client.shutdown(socket.SHUT_WR)
    threading.Thread(target=lambda: (send_all(server, b"y" * 3_000_000, done), server.close())).start()
    got, how = ending(client)
    return ending(server) if not done else "sent", len(got), how


def a_sip_at_a_time(client, server):
    """A reader whose window is as small as it goes, and who takes an octet at a time."""
    octets = random.Random(3).randbytes(20000)
    done, got = [], b""
    job = threading.Thread(target=lambda: (send_all(client, octets, done), client.shutdown(socket.SHUT_WR)))
    job.start()
    while len(got) < 3000:
        got += server.recv(1)
    rest, how = ending(server)
    job.join(10)
    return got + rest == octets, how, bool(done)


def urgent_apart(client, server):
    client.sendall(b"EHLO c")
    client.send(b"!", socket.MSG_OOB)
    until(lambda: select.select([], [], [server], 0)[2], 2)
    client.sendall(b"\r\n")
    out_of_band = server.recv(1, socket.MSG_OOB)
    client.shutdown(socket.SHUT_WR)
    up = ending(server)
    server.sendall(b"250 c")
    server.send(b"?", socket.MSG_OOB)
    until(lambda: select.select([], [], [client], 0)[2], 2)
    back = client.recv(1, socket.MSG_OOB)
    server.close()
    return up, out_of_band, ending(client), back


def urgent_in_line(client, server):
    server.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    client.sendall(b"EHLO c")
    client.send(b"!", socket.MSG_OOB)
    until(lambda: select.select([], [], [server], 0)[2], 2)
    before = server.recv(100), at_mark(server)
    client.sendall(b"\r\n")
    client.shutdown(socket.SHUT_WR)
    return before, ending(server)


def urgent_behind_much(client, server):
    """The urgent octet waits here for a server that does not read, and stays where it was."""
    server.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    octets, got = b"z" * 20_000_000, b""
    job = threading.Thread(target=lambda: (client.sendall(octets), client.send(b"!", socket.MSG_OOB), client.sendall(b"end\r\n"),
                                           client.shutdown(socket.SHUT_WR)))
    job.start()
    time.sleep(0.5)
    while len(got) < len(octets):
        got += server.recv(65536)
    marked = until(lambda: at_mark(server), 3)
    rest = ending(server)
    job.join(10)
    return len(got), marked, rest


BEHAVIOURS = [both_close, server_closes_at_once, server_resets_at_once, client_resets_at_once, reset_behind_fin,
              reset_behind_fin_of_server, all_at_once_from_server, simultaneous_close, octets_into_a_closed_server,
              close_with_octets_unread, octets_then_reset, much_after_a_half_close, a_sip_at_a_time, urgent_apart, urgent_in_line,
              urgent_behind_much]
UNSEEN_PORT = 2600  # no rule takes it to us


def test_as_without_us():
    """In report mode nothing that one end does reaches the other differently: each deed once through us, once past us."""
    for version in (4, 6):
        with Witness() as witness, listen(version) as listener, listen(version, UNSEEN_PORT) as unseen:
            for behave in BEHAVIOURS:
                seen = []
                for where in (unseen, listener):
                    client = connect(version, wait=False)
                    where.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 if behave is a_sip_at_a_time else 262144)
                    client.connect((ADDRESS[version]["sv"], where.getsockname()[1]))
                    name = text_of(client)
                    server, _ = where.accept()
                    server.settimeout(10)
                    time.sleep(0.05)  # the server leg may be up a little later than the client's
                    try:
                        seen.append(behave(client, server))
                    except OSError as error:
                        seen.append(repr(error))
                    client.close(), server.close()
                claim(seen[0] == seen[1], f"v{version}: {behave.__name__.replace('_', ' ')}: as without us",
                      seen[1] if seen[0] == seen[1] else f"without: {seen[0]}, with: {seen[1]}")
                claim(witness.verdict_of(name) != {}, "... one verdict")



# ---- each key has its effect ----

def greeted(listener, version=4):
    client, server, _ = pair(listener, version)
    server.sendall(b"220 x\r\n")
    client.recv(100)
    return client, server


def refused(client):
    """Over a limit: what came, and how it ended."""
    try:
        return ending(client)
    except (ConnectionResetError, BrokenPipeError):
        return b"", "reset"


def admitted(count, version=4):
    """How many of so many connections, opened one after the other, are not refused; they stay open meanwhile."""
    clients = [connect(version, wait=False) for _ in range(count)]
    good = 0
    for client in clients:
        try:
            client.connect((ADDRESS[version]["sv"], 25))
            client.settimeout(0.3)
            good += not client.recv(100).startswith(b"421")
        except ConnectionResetError:
            pass
        except TimeoutError:
            good += 1
    for client in clients:
        client.close()
    return good


def test_keys_of_smtp():
    silent = "[timeouts]\nstall-notice = 10min\n"
    for value, owes in (("no", "server"), ("yes", "client")):
        with Witness(silent, smtp=f"proxy-protocol = {value}") as witness, listen(4) as listener:
            client, server, _ = pair(listener, 4)
            time.sleep(0.1)
            reset(client)
            claim(witness.verdict_of(client).get("owed-by") == owes, f"proxy-protocol = {value}: the first word is the {owes}'s",
                  str(witness.verdict_of(client).get("owed-by")))
            server.close()
    for value, owes in (("24", "client"), ("25", "server")):
        with Witness(silent, smtp=f"ports = 587\nlmtp-ports = {value}") as witness, listen(4) as listener:
            client, server = greeted(listener)
            for command, reply in ((b"EHLO c", b"250 x"), (b"MAIL FROM:<a@b>", b"250 x"), (b"RCPT TO:<a@b>", b"250 x"),
                                   (b"RCPT TO:<c@b>", b"250 x"), (b"DATA", b"354 x"), (b"x\r\n.", b"250 first")):
                client.sendall(command + b"\r\n")
                server.recv(100)
                server.sendall(reply + b"\r\n")
                client.recv(100)
            time.sleep(0.1)
            reset(client)
            claim(witness.verdict_of(client).get("owed-by") == owes, f"lmtp-ports = {value}: one reply of two came, the {owes} is next",
                  str(witness.verdict_of(client).get("owed-by")))
            server.close()
    limits = "[limits]\nper-source = 1\nper-source-action = enforce\n"
    for value, how in (("465", "fin"), ("25", "reset")):
        with Witness(limits, smtp=f"ports = 587\nimplicit-tls-ports = {value}") as witness, listen(4) as listener:
            kept = pair(listener, 4)
            client = connect(4, wait=False)
            try:
                client.connect((ADDRESS[4]["sv"], 25))
                got = refused(client)
            except ConnectionResetError:
                got = b"", "reset"
            claim(got[1] == how and (got[0] != b"") == (how == "fin"), f"implicit-tls-ports = {value}: refused by {how}", str(got))
            kept[0].close(), kept[1].close()


def test_keys_of_proxy():
    with Witness(keep_client_port="no") as witness, listen(4) as listener:
        client, server, peer = pair(listener, 4)
        name = client.getsockname()
        claim(peer[0] == name[0] and peer[1] != name[1], "keep-client-port = no: the address, and another port", f"{name} {peer}")
        client.close(), server.close()
        claim(witness.verdict_of(client) != {}, "... the verdict names the client's own")
    marked = ("POSTROUTING", "-t", "mangle", "-p", "tcp", "--dport", "25", "-m", "mark", "--mark", "0x20/0x20", "-j", "DROP")
    for value, arrives in (("0", True), ("0x20", False)):
        with Witness(outgoing_mark=value, connect_timeout="1s") as witness, listen(4) as listener:
            run(ROUTER, "iptables", "-w", "-t", "mangle", "-A", marked[0], *marked[3:])
            try:
                client = connect(4)
                listener.settimeout(0.5)
                try:
                    listener.accept()[0].close()
                    came = True
                except TimeoutError:
                    came = False
                claim(came == arrives, f"outgoing-mark = {value}: our packets {'have no mark' if arrives else 'bear it'}")
                client.close()
            finally:
                run(ROUTER, "iptables", "-w", "-t", "mangle", "-D", marked[0], *marked[3:])
    for value in ("yes", "no"):
        with Witness(tap=value) as witness, listen(4):
            with open(f"/proc/{witness.process.pid}/net/packet", encoding="ascii") as sockets:
                count = len(sockets.readlines()) - 1
            claim((count > 0) == (value == "yes"), f"tap = {value}: {'a' if count else 'no'} packet socket")
    threads = {}
    for value in (1, 4):
        with Witness(workers=value) as witness:
            threads[value] = len(os.listdir(f"/proc/{witness.process.pid}/task"))
    claim(threads[4] - threads[1] == 3, "workers = 4: three threads more than with 1", str(threads))
    for value in (4096, 20000):
        with Witness(buffer=value, connect_timeout="3s") as witness, listen(4) as listener:
            with rule(FIREWALL, 4, "FORWARD", "-p", "tcp", "--sport", "25", "--tcp-flags", "SYN,ACK", "SYN,ACK", "-j", "DROP"):
                client = connect(4)
                client.sendall(b"x" * 60000)
                time.sleep(0.3)
                reset(client)
                record = witness.verdict_of(client)
            claim(record.get("bytes-client") == value, f"buffer = {value}: no more waits for a server that is not there yet",
                  str(record.get("bytes-client")))


def test_keys_of_log():
    with Witness(log="verdicts = faults") as witness, listen(4) as listener:
        good, server = greeted(listener)
        good.sendall(b"QUIT\r\n")
        server.recv(100)
        server.sendall(b"221 x\r\n")
        good.recv(100)
        good.close(), server.close()
        bad, server = greeted(listener)
        bad.sendall(b"EHLO c\r\n")
        server.recv(100)
        reset(server)
        ending(bad)
        claim(witness.verdict_of(bad).get("fault") == "server" and len(witness.verdicts()) == 1,
              "verdicts = faults: one without a fault is not logged", str([r["fault"] for r in witness.verdicts()]))
    for value, lines in (("yes", 1), ("no", 0)):
        with Witness("[timeouts]\nstall-notice = 500ms\n", log=f"stalls = {value}") as witness, listen(4) as listener:
            client, server = greeted(listener)
            time.sleep(1)
            reset(client)
            witness.verdict_of(client)
            claim(len([r for r in witness.records if r["event"] == "stall"]) == lines, f"stalls = {value}: {lines} stall lines")
            server.close()
    for value in (1, 5):
        with Witness(log=f"peaks-interval = 500ms\npeaks-sources = {value}") as witness, listen(4) as listener, listen(6) as six:
            kept = [pair(listener, 4), pair(listener, 4), pair(six, 6)]
            time.sleep(1.2)
            peaks = [r for r in witness.records if r["event"] == "peaks"]
            most = [r for r in peaks if r["peak"] == 2 and r["source"] == ADDRESS[4]["cl"]]
            claim(most and len({r["source"] for r in peaks}) == min(value, 2),
                  f"peaks-sources = {value}: the busiest {min(value, 2)} each 500 ms", str(len(peaks)))
            for client, server, _ in kept:
                client.close(), server.close()
    with Witness(log="rate-limit = 5") as witness, listen(4) as listener:
        for _ in range(60):
            client, server, _ = pair(listener, 4)
            client.close(), server.close()
        until(lambda: any("left out" in line for line in witness.messages), 5)
        time.sleep(1.2)
        left = sum(int(count) for line in witness.messages for count in re.findall(r"left out (\d+)", line))
        claim(0 < len(witness.verdicts()) < 40, "rate-limit = 5: not every line is written", f"{len(witness.verdicts())}")
        claim(left + len(witness.verdicts()) == 60, "... and those left out are counted, every one",
              f"{left} and {len(witness.verdicts())} {[line for line in witness.messages if 'left out' in line]}")
    with tempfile.TemporaryDirectory() as directory:
        with Witness(log=f"json-file = {directory}/lines.json", process=f"pid-file = {directory}/pid") as witness, listen(4) as listener:
            with open(f"{directory}/pid", encoding="ascii") as file:
                claim(int(file.read()) == witness.process.pid, "pid-file: our process id")
            client, server, _ = pair(listener, 4)
            client.close(), server.close()
            record = witness.verdict_of(client)
            with open(f"{directory}/lines.json", encoding="utf-8") as file:
                written = [json.loads(line) for line in file if '"verdict"' in line]
            claim(written == [record], "json-file: the same lines in the file")


def test_keys_of_limits():
    report = "total = 10\npercent-of-remaining = 30\n"
    for action, count in (("report", 6), ("enforce", 2)):  # 3 of 10, 2.7 of 9, 2.4 of 8: the third would be one too many
        with Witness(f"[limits]\n{report}percent-action = {action}\n") as witness, listen(4):
            good = admitted(6)
            claim(good == count, f"percent-of-remaining = 30 of 10, {action}: {count} of 6 get in", str(good))
    for key in ("total = 2\ntotal-action", "rate = 2/1min\nrate-action", "per-source = 2\nper-source-action"):
        for action, count in (("report", 4), ("enforce", 2)):
            with Witness(f"[limits]\n{key} = {action}\n") as witness, listen(4):
                good = admitted(4)
                claim(good == count, f"{key.split()[0]} = 2, {action}: {count} of 4 get in", str(good))
                until(lambda: len([r for r in witness.records if r["event"] == "refusal"]) == 2, 3)
                would = [r["action"] for r in witness.records if r["event"] == "refusal"]
                claim(would == ["would-refuse" if action == "report" else "refused"] * 2, "... and two refusal lines say so", str(would))
    with Witness("[limits]\nper-source = 1\nper-source-action = enforce\nmax-sources = 1\n") as witness, listen(4) as listener, listen(6) as six:
        kept = pair(listener, 4)
        others = [pair(six, 6), pair(six, 6)]
        claim(admitted(1) == 0, "max-sources = 1: the one row counts, what has none is admitted")
        for client, server, _ in [kept, *others]:
            client.close(), server.close()
    for section, networks in (("source", ADDRESS[4]["cl"]), ("server", ADDRESS[4]["sv"])):
        with Witness(f"[{section} one]\nnetworks = {networks}\nper-source = 1\nper-source-action = enforce\n"
                     "action = enforce\ngreeting = 500ms\n") as witness, listen(4) as listener, listen(6):
            claim(admitted(3) == 1 and admitted(3, 6) == 3, f"[{section} one]: its limit for its own network, and for no other")
            listener.accept()[0].close()
            until(lambda: len(witness.verdicts()) >= 3, 5)
            client, other = connect(4), connect(6)
            client.settimeout(2), other.settimeout(1)
            got, end = ending(client)
            claim(got == b"421 4.4.2 gate.test Error: timeout exceeded\r\n", "... its timeout too", f"{got!r} {end}")
            claim(ending(other)[1] == "timeout", "... and no other session's")
            client.close(), other.close()
    with Witness("[limits]\nprofile = isp-10\n") as witness, listen(4):
        claim(admitted(12) == 12, "profile = isp-10: it refuses nobody")
        would = [r for r in witness.records if r["event"] == "refusal"]
        claim(len(would) == 2 and all(r["action"] == "would-refuse" for r in would), "... and says what would have been done to two of 12",
              str(len(would)))



# ---- the client's port, and when there is none ----

def router_socket(port, to=None):
    """A socket of the router's own on the client's address and that port."""
    with inside(ROUTER):
        sock = socket.socket()
    sock.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((ADDRESS[4]["cl"], port))
    sock.settimeout(5)
    if to:
        sock.connect(to)
    return sock


def test_ports():
    with Witness() as witness, listen(4) as listener:
        # The very four numbers are in use here: connect() says EADDRNOTAVAIL, as it does while they are in TIME_WAIT.
        blocker = router_socket(33340, (ADDRESS[4]["sv"], 25))
        blocked, _ = listener.accept()
        client = connect(4, source_port=33340)
        server, peer = listener.accept()
        claim(peer[0] == ADDRESS[4]["cl"] and peer[1] != 33340, "the connection exists already: another port, the address kept", str(peer))
        client.close(), server.close(), blocker.close(), blocked.close()
        claim("other-port" in witness.verdict_of(client).get("notes", []), "... with a note")
        # Our own listening port as the client's.
        client = connect(4, source_port=10025)
        server, peer = listener.accept()
        server.sendall(b"220 x\r\n")
        claim(client.recv(100) == b"220 x\r\n" and peer[0] == ADDRESS[4]["cl"], "a client that comes from our own listening port is served", str(peer))
        client.close(), server.close()
        witness.verdict_of(client)
        # One port of the client's, two servers' worth of connections, and again at once when the server closed first.
        with listen(6):
            for _ in range(5):
                client = connect(4, source_port=33341)
                server, peer = listener.accept()
                server.sendall(b"221 x\r\n")
                server.close()
                got = ending(client)
                client.close()
                if got != (b"221 x\r\n", "fin"):
                    break
            claim(got == (b"221 x\r\n", "fin"), "the same port again and again, the server closing first", str(got))
    # No port left at all: our own shortage, and said so; and the client hears of it at once.
    run(ROUTER, "sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40003")
    try:
        with Witness(keep_client_port="no") as witness, listen(4) as listener:
            kept = [pair(listener, 4) for _ in range(4)]
            before = time.monotonic()
            client = connect(4, wait=False)
            try:
                client.connect((ADDRESS[4]["sv"], 25))
                how = ending(client)[1]
            except ConnectionResetError:
                how = "reset"
            waited = time.monotonic() - before
            record = witness.verdict_of(client)
            claim(how == "reset" and waited < 1, "no port is left for the server leg: the client is reset at once", f"{how} {waited:.2f} s")
            claim(record.get("fault") == "witness", "... and the witness blames itself",
                  f"{record.get('fault')} {record.get('cause')} {record.get('explain')}")
            for client, server, _ in kept:
                client.close(), server.close()
    finally:
        run(ROUTER, "sysctl", "-qw", "net.ipv4.ip_local_port_range=32768 60999")


def test_fast_open():
    """A client that sends octets in its SYN: they arrive, once."""
    for namespace in (CLIENT, SERVER, ROUTER):
        run(namespace, "sysctl", "-qw", "net.ipv4.tcp_fastopen=3")
    with Witness() as witness, listen(4) as listener, listen(4, UNSEEN_PORT) as unseen:
        unseen.setsockopt(socket.IPPROTO_TCP, 23, 16)  # TCP_FASTOPEN
        for where in (unseen, unseen, listener, listener):
            client = connect(4, wait=False)
            client.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
            client.connect((ADDRESS[4]["sv"], where.getsockname()[1]))
            client.sendall(b"EHLO early\r\n")
            server, _ = where.accept()
            server.settimeout(5)
            client.shutdown(socket.SHUT_WR)
            got = ending(server)
            server.sendall(b"250 x\r\n")
            server.close()
            back = ending(client)
            client.close()
        claim(got == (b"EHLO early\r\n", "fin") and back == (b"250 x\r\n", "fin"), "octets in the SYN (TCP Fast Open) arrive once", f"{got} {back}")
        claim(witness.verdict_of(client).get("bytes-client") == 12, "... and are counted once")


# ---- limits ----

def test_server_limit():
    """What a refusal by the server's own limit says: how many were open at that very instant, and the most there were."""
    with Witness() as witness, listen(4) as listener:
        def refused_by_server():
            client, server, _ = pair(listener, 4)
            server.sendall(b"421 4.7.0 x Error: too many connections from 10.81.1.2\r\n")
            server.close()
            ending(client)
            client.close()
            return witness.verdict_of(client)

        kept = [greeted(listener) for _ in range(3)]
        first = refused_by_server()
        claim((first.get("fault"), first.get("cause"), first.get("concurrent"), first.get("concurrent-peak"), first.get("concurrent-limit")) ==
              ("policy", "per-source-limit", 4, 4, 3), "refused as the 4th: 4 at that instant, 4 at most, the limit is 3",
              str([first.get(key) for key in ("cause", "concurrent", "concurrent-peak", "concurrent-limit")]))
        kept += [greeted(listener) for _ in range(3)]
        for client, server in kept[2:]:
            server.close(), client.close()
        until(lambda: len(witness.verdicts()) == 5, 5)
        last = refused_by_server()
        claim((last.get("concurrent"), last.get("concurrent-peak")) == (3, 6), "later as the 3rd: 3 at that instant, and 6 at most before",
              str([last.get(key) for key in ("concurrent", "concurrent-peak", "concurrent-limit")]))
        for client, server in kept[:2]:
            client.close(), server.close()


def test_places_come_back():
    """Every kind of end gives its place back: a hundred rounds of each, then exactly the limit fits."""
    settings = ("[timeouts]\naction = enforce\ngreeting = 100ms\nsession = 10min\n"
                "[limits]\nper-source = 5\nper-source-action = enforce\nover-limit = hold\nhold-longest = 100ms\n")
    drop = ("FORWARD", "-p", "tcp", "--dport", "25", "--syn", "-j", "DROP")
    with Witness(settings, connect_timeout="100ms") as witness:
        def greeted(listener):  # at once: one that our timeout closes would make room
            client, server, peer = pair(listener, 4)
            server.sendall(b"220 x\r\n")
            return client, server, peer

        def five(deed):
            clients = [connect(4, wait=False) for _ in range(5)]
            for client in clients:
                try:
                    client.connect((ADDRESS[4]["sv"], 25))
                    deed(client)
                except (ConnectionResetError, BrokenPipeError):
                    pass
            for client in clients:
                try:
                    ending(client)
                except OSError:
                    pass
                client.close()

        for _ in range(4):
            five(lambda client: None)  # nobody listens: refused by the server's host
            with rule(FIREWALL, 4, *drop):
                five(lambda client: None)  # not answered in time
                five(reset)  # gone while we were connecting
        with listen(4) as listener:
            for _ in range(4):
                five(lambda client: None)  # never greeted: closed by our timeout
                for _ in range(5):
                    listener.accept()[0].close()
            for number in range(10):
                kept = [greeted(listener) for _ in range(5)]
                over = [connect(4) for _ in range(4)]  # held: two leave by themselves, the others are refused
                reset(over[0])
                over[1].close()
                if number % 2:
                    kept[0][0].close(), kept[0][1].close()  # ... or get in
                for client in over[2:]:
                    client.settimeout(0.4)
                    try:
                        client.recv(100)
                    except TimeoutError:
                        pass
                    client.close()
                for client, server, _ in kept:
                    if server.fileno() != -1:
                        (reset if number % 3 else socket.socket.close)(server)
                    client.close()
                while select.select([listener], [], [], 0.05)[0]:
                    listener.accept()[0].close()
            until(lambda: len({r["session"] for r in witness.verdicts()}) == 4 * 3 * 5 + 4 * 5 + 10 * 9, 15)
            claim(len(witness.verdicts()) == 4 * 3 * 5 + 4 * 5 + 10 * 9, "every one had its verdict", str(len(witness.verdicts())))
            seen = {(r["action"], r.get("cause")) for r in witness.verdicts()}
            for action, cause in (("none", "port-closed"), ("none", "connect-unanswered"), ("closed", "greeting-stall"), ("refused", "witness-limit")):
                claim((action, cause) in seen, f"... among them {action} {cause}", "" if (action, cause) in seen else str(seen))
        with listen(4) as listener:  # a new one: in the queue of the old one something dead may be left
            kept = [greeted(listener) for _ in range(5)]
            claim(len({peer for _, _, peer in kept}) == 5, "then five get in")
            listener.settimeout(0.3)
            late = connect(4)
            try:
                claim(False, "... and exactly five", str(listener.accept()[1]))
            except TimeoutError:
                claim(True, "... and exactly five")
            late.close()
            for client, server, _ in kept:
                client.close(), server.close()


sys.exit(run_tests(dict(globals())))
