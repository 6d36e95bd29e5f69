"""Limits and timeouts, enforced and reported."""

import errno
import select
import socket
import time

from lab import (ADDRESS, claim, connect, ending, FIREWALL, greeted, listen, pair, refused, reset, rule, text_of, until,
                 Witness)


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
