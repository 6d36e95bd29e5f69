"""The process: killed, stopped, handed over, started twice, called by itself, reloaded."""

import signal
import socket
import time

from lab import (ADDRESS, claim, CLIENT, connect, ending, inside, listen, pair, reset, ROUTER, run, transparent_listeners,
                 Witness)


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
