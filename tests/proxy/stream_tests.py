"""What passes is what was sent: octets, ends, resets, urgent octets, addresses."""

import errno
import fcntl
import hashlib
import random
import select
import socket
import struct
import threading
import time

from lab import (ADDRESS, claim, claim_memory, CLIENT, connect, ending, FIREWALL, inside, listen, pair, reset, ROUTER, rule,
                 run, SERVER, text_of, until, Witness)

SIOCATMARK = 0x8905
UNSEEN_PORT = 2600  # no rule takes it to us


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
