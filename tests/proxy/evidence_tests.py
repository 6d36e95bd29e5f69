"""What the relay finds out about silence, ends and connections that fail."""

import time

from lab import ADDRESS, claim, CLIENT, connect, ending, FIREWALL, listen, pair, reset, ROUTER, rule, run, text_of, Witness


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
