"""What the packet hook enforces: refusals, holds, closes, and that places come back, IPv4 and IPv6."""

import os
import signal
import threading
import time

from hook_lab import Server, Talker, claim, Witness
from lab import ADDRESS, CLIENT, connect, ending, reset, rule, until


def attempt(version, timeout=5):
    """(socket, how the attempt to connect ended, seconds)"""
    client = connect(version, timeout, wait=False)
    start = time.monotonic()
    try:
        client.connect((ADDRESS[version]["sv"], 25))
        how = "open"
    except ConnectionRefusedError:
        how = "refused"
    except TimeoutError:
        how = "timeout"
    return client, how, time.monotonic() - start


def limits(**settings):
    return "[limits]\n" + "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in settings.items())


def limited(verdict, action):
    wanted = {"fault": "policy", "cause": "witness-limit", "limit-by": "witness", "ended-by": "witness", "action": action}
    return wanted.items() <= verdict.items()


def test_refuse_by_reset():
    for version in (4, 6):
        with Witness(settings=limits(per_source=1, per_source_action="enforce")) as witness:
            server = Server(version)
            first = Talker(version)
            client, how, seconds = attempt(version)
            claim(how == "refused" and seconds < 1, f"refused by reset v{version}: at once", (how, seconds))
            claim(len(server.sockets) == 1, f"refused by reset v{version}: the server never hears of it", len(server.sockets))
            verdict, refusal = witness.of(client), witness.of(client, "refusal")
            claim(limited(verdict, "refused") and verdict.get("phase") == "connect" and verdict.get("concurrent") == 2,
                  f"refused by reset v{version}: the verdict", verdict)
            claim(refusal.get("limit") == "per-source" and refusal.get("action") == "refused", f"refused by reset v{version}: and its line", refusal)
            first.quit()
            witness.of(first.socket)
            claim(attempt(version)[1] == "open", f"refused by reset v{version}: the place comes back")
            server.close()


def test_refuse_by_421():
    for version in (4, 6):
        with Witness(settings=limits(per_source=1, per_source_action="enforce", refuse_with=421)) as witness:
            server = Server(version)
            first = Talker(version)
            client, how, _ = attempt(version)
            said, end = ending(client)
            claim(how == "open" and said.startswith(b"421 4.7.0 ") and said.endswith(b"\r\n") and end == "fin",
                  f"refused by 421 v{version}: the client reads it, and the end", (how, said, end))
            client.sendall(b"QUIT\r\n")  # to nobody, and it is acknowledged: no reset destroys what was not read yet
            client.close()
            claim(limited(witness.of(client), "refused"), f"refused by 421 v{version}: the verdict", witness.of(client))
            claim(len(server.sockets) == 1, f"refused by 421 v{version}: the server's program never hears of it", len(server.sockets))
            # Whoever loses the 421 gets it again.
            with rule(CLIENT, version, "INPUT", "-p", "tcp", "--sport", "25", "--tcp-flags", "PSH", "PSH", "-j", "DROP"):
                client, how, _ = attempt(version)
                time.sleep(0.5)
            said, end = ending(client)
            claim(said.startswith(b"421 4.7.0 ") and end == "fin", f"refused by 421 v{version}: repeated until it is acknowledged", (how, said, end))
            first.quit()
            server.close()


def test_hold():
    for version in (4, 6):
        with Witness(settings=limits(per_source=1, per_source_action="enforce", over_limit="hold")) as witness:
            server = Server(version)
            first = Talker(version)
            results = {}

            def wait_in_line(name, seconds, version=version, results=results):
                results[name] = attempt(version, seconds)

            impatient = threading.Thread(target=wait_in_line, args=("impatient", 0.5))
            impatient.start()
            time.sleep(0.2)
            patient = threading.Thread(target=wait_in_line, args=("patient", 20))
            patient.start()
            impatient.join()
            gone = results["impatient"][0]
            gone.close()
            left = witness.of(gone, seconds=12)
            claim(left.get("action") == "held" and left.get("ended-by") == "client", f"held v{version}: who stops trying has left the queue", left)
            claim("patient" not in results and len(server.sockets) == 1, f"held v{version}: the server sees nothing of it", results)
            first.quit()
            began = time.monotonic()
            patient.join()
            client, how, _ = results["patient"]
            claim(how == "open" and time.monotonic() - began < 1, f"held v{version}: it goes on when the place is free", (how, time.monotonic() - began))
            claim(client.recv(100).startswith(b"220"), f"held v{version}: and meets the server's greeting")
            client.sendall(b"QUIT\r\n")
            ending(client)
            client.close()
            verdict = witness.of(client)
            claim(verdict.get("fault") == "none" and verdict.get("action") == "held" and "held" in verdict.get("notes", [])
                  and verdict.get("ledger-ms", {}).get("witness", 0) > 1000, f"held v{version}: the verdict", verdict)
            numbers = witness.statistics()
            claim(numbers["held"] == 2 and numbers["refused"] == 0 and numbers["refused-verdicts"] == 0,
                  f"held v{version}: every packet got its one verdict", numbers)
            server.close()


def closed(version, name, settings, plan, lead, wanted, spoken):
    """A session that our limit of 2 s ends after `lead(talker)`."""
    with Witness(timeouts=settings) as witness:
        server = Server(version, plan)
        talker = Talker(version)
        lead(talker)
        said, end = ending(talker.socket)
        if spoken:
            claim(said.startswith(spoken) and end == "fin", f"{name} v{version}: the client reads why, and the end", (said, end))
        else:
            claim(said == b"" and end == "reset", f"{name} v{version}: a reset, and nothing said", (said, end))
        talker.close()
        verdict = witness.of(talker.socket)
        claim(dict(wanted, action="closed", **{"ended-by": "witness", "limit-by": "witness"}).items() <= verdict.items(),
              f"{name} v{version}: the verdict", verdict)
        claim(until(lambda: server.failures, 5) and isinstance(server.failures[0], ConnectionResetError),
              f"{name} v{version}: the server's side is reset", server.failures)
        time.sleep(0.3)
        numbers = witness.statistics()
        claim(numbers["closed"] == 1 and numbers["flows"] == 0, f"{name} v{version}: and it is over", numbers)
        server.close()


def test_close():
    for version in (4, 6):
        closed(version, "silent after EHLO", "mail = 2s\nidle = 2s\naction = enforce\n", {},
               lambda talker: talker.ask(b"EHLO client.test"), {}, b"421 4.4.2 ")
        closed(version, "silent in the body", "body = 2s\ndata = 2s\naction = enforce\n", {},
               lambda talker: talker.to_data(), {"fault": "client", "phase": "body"}, b"421 4.4.2 ")
        closed(version, "no reply to the dot", "end-of-data = 2s\naction = enforce\n", {"mute": "."},
               lambda talker: (talker.to_data(), talker.socket.sendall(b"hello\r\n.\r\n")), {"fault": "server", "phase": "end-of-data"}, None)
        closed(version, "silent in TLS", "tls = 2s\naction = enforce\n", {"starttls": True},
               lambda talker: (talker.ask(b"EHLO client.test"), talker.ask(b"STARTTLS")), {"phase": "tls"}, None)


def test_places_come_back():
    """Ten sessions, ended in every way, at a limit of two: afterwards exactly two fit."""
    for version in (4, 6):
        with Witness(settings=limits(per_source=2, per_source_action="enforce"), timeouts="helo = 1s\naction = enforce\n") as witness:
            server = Server(version)
            ends = (lambda talker: talker.quit(), lambda talker: talker.close(), lambda talker: reset(talker.socket),
                    lambda talker: ending(talker.socket))  # the last is closed by us
            for end in ends:
                talkers = [Talker(version) for _ in range(2)]
                for talker in talkers:
                    end(talker)
                    talker.close()
                for talker in talkers:
                    witness.of(talker.socket)
            two = [attempt(version) for _ in range(2)]
            third = attempt(version)
            claim([how for _, how, _ in two] == ["open", "open"] and third[1] == "refused", f"places come back v{version}", (two, third))
            for client, _, _ in (*two, third):
                client.close()
            server.close()


def test_reload():
    with Witness(settings=limits(per_source=1, per_source_action="enforce")) as witness:
        server = Server(4)
        first = Talker(4)
        claim(attempt(4)[1] == "refused", "reload: one is allowed")

        def write(text):
            with open(witness.config.name, "w", encoding="ascii") as file:
                file.write("[log]\nrate-limit = 0\n" + text)
            witness.process.send_signal(signal.SIGHUP)

        write("[limits]\nper-source = -1\n")
        claim(witness.says("the running configuration stays"), "reload: a broken file is refused", witness.messages)
        claim(attempt(4)[1] == "refused", "reload: and the limit stays")
        write(limits(per_source=2, per_source_action="enforce") + "[timeouts]\nhelo = 2s\naction = enforce\n")
        claim(witness.says("is in force for new sessions"), "reload: the new one is taken over", witness.messages)
        second, how, _ = attempt(4)
        claim(how == "open", "reload: two are allowed now", how)
        claim(attempt(4)[1] == "refused", "reload: a third is not")
        second.recv(100)
        said, _ = ending(second)
        claim(said.startswith(b"421 4.4.2"), "reload: a session that began after it has the new timeouts", said)
        claim(first.ask(b"EHLO client.test").startswith(b"250"), "reload: one that began before keeps the old ones")
        child = witness.child()
        os.kill(child, signal.SIGKILL)
        claim(witness.says("started again") and until(lambda: sum("nfq: ready" in line for line in witness.messages) == 2, 10),
              "reload: after a crash", witness.messages)
        client, how, _ = attempt(4)
        claim(how == "open" and client.recv(100).startswith(b"220"), "reload: a restarted process takes the latest file", how)
        first.quit()
        server.close()

