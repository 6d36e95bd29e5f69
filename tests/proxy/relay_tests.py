"""Claims about the relay, each proved between real sockets. Run by run.sh; arguments name single tests."""

import hashlib
import os
import random
import signal
import socket
import sys
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


sys.exit(run_tests(dict(globals())))
