"""Mail through the router, from threads that never rest, and what became of each connection and each message."""

import itertools
import os
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for neighbour in ("proxy", "peers"):
    sys.path.insert(0, os.path.join(HERE, "..", neighbour))

from lab import ADDRESS, CLIENT, FAMILY, SERVER, inside, run, until  # noqa: E402
from smtp_peer import Connection, Ended, message_of, stuffed, text_hash  # noqa: E402

WAIT = 20
HOSTS = itertools.count(100)


def new_source():
    """Addresses of the client's for one load, which uses each port once: a port that the router has in TIME_WAIT cannot be
    used again past the proxy for a minute (smtpwitness-units(7)), and that is not what a load shall find out."""
    number = next(HOSTS)
    sources = {4: f"10.81.1.{number}", 6: f"fd81:1::{number}"}
    run(CLIENT, "ip", "addr", "add", sources[4] + "/24", "dev", "c0")
    run(CLIENT, "ip", "addr", "add", sources[6] + "/64", "dev", "c0", "nodad")
    return sources


class Server:
    """The scripted server in its namespace; `received` maps a message's identity to its hash."""

    def __init__(self, folder):
        order = os.path.join(folder, "server.json")
        with open(order, "w", encoding="ascii") as file:
            file.write('{"scripts": [["greet", "serve"]], "backlog": 1024}')
        self.received, self.peers = {}, []
        self.process = subprocess.Popen(["ip", "netns", "exec", SERVER, sys.executable, os.path.join(HERE, "..", "peers", "server.py"), order],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        import json
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "received":
                self.received[event["id"]] = event["hash"]
            elif event["event"] == "accepted":
                self.peers.append(event["peer"])

    def close(self):
        self.process.terminate()
        self.process.wait()


class Session:
    """One connection of a client."""

    def __init__(self, version=4, timeout=WAIT, source=None):
        with inside(CLIENT):
            sock = socket.socket(FAMILY[version], socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.bind(source or (ADDRESS[version]["cl"], 0))
        sock.connect((ADDRESS[version]["sv"], 25))
        self.connection, self.timeout = Connection(sock), timeout
        self.expect("220")

    def expect(self, code):
        while True:
            line = self.connection.line(time.monotonic() + self.timeout).decode("latin-1").rstrip()
            if line[3:4] != "-":
                break
        if not line.startswith(code):
            raise ValueError(f"expected {code}, got '{line}'")

    def command(self, text, code):
        self.connection.send(text.encode("ascii") + b"\r\n")
        self.expect(code)

    def mail(self, identity):
        """Sends one message; its hash, once the server has said that it has it."""
        message = message_of(identity, 3000)
        self.command("EHLO client.test", "250")
        self.command("MAIL FROM:<u1@client.test>", "250")
        self.command("RCPT TO:<u1@server.test>", "250")
        self.command("DATA", "354")
        self.connection.send(stuffed(message))
        self.command(".", "250")
        return text_hash(message)

    def quit(self):
        self.command("QUIT", "221")
        self.connection.close()


def one_mail(server, identity, version=4, timeout=WAIT, source=None):
    """None when the mail arrived as it was sent, or what happened instead."""
    try:
        session = Session(version, timeout, source)
        sent = session.mail(identity)
        session.quit()
    except Ended as end:
        return end.how
    except (OSError, ValueError) as error:  # among them TimeoutError
        return f"{error.__class__.__name__}: {error}"
    # The server says what it has received before it says 250, through a pipe that is read by another thread.
    return None if until(lambda: server.received.get(identity), 5) == sent else "not received as it was sent"


class Load:
    """Clients that send mail after mail, each over a connection of its own, for as long as the block runs."""

    def __init__(self, server, name, clients=6, pause=0.01):
        self.server, self.name, self.pause, self.sources = server, name, pause, new_source()
        self.ports = itertools.count(10000)
        self.delivered, self.failures, self.slowest = 0, [], 0.0
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(number,)) for number in range(clients)]

    def _work(self, number):
        count = 0
        while not self.stopping.is_set():
            count += 1
            started = time.monotonic()
            version = (4, 6)[number % 2]
            with self.lock:
                source = (self.sources[version], next(self.ports))
            failure = one_mail(self.server, f"{self.name}-{number}-{count}", version, source=source)
            with self.lock:
                self.slowest = max(self.slowest, time.monotonic() - started)
                if failure is None:
                    self.delivered += 1
                else:
                    self.failures.append(f"{time.strftime('%H:%M:%S')} {failure}")
            self.stopping.wait(self.pause)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def told(self):
        return f"{self.delivered} mails, slowest {self.slowest:.1f} s, failed: {self.failures[:5] or 'none'}"
