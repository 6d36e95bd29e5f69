"""Keys of the configuration whose effect no other test looks at."""

import json
import os
import re
import socket
import tempfile
import time

from lab import (ADDRESS, claim, connect, ending, FIREWALL, greeted, inside, listen, pair, refused, reset, ROUTER, rule, run,
                 until, Witness)


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
