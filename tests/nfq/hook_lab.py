"""What the tests of the packet hook stand on: one witness with its supervisor, a plain server, a client that talks."""

import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "proxy"))

from lab import ROUTER, connect, listen, text_of, until  # noqa: E402

PROGRAM = os.environ["PROGRAM"]
RULES = os.path.join(HERE, "..", "..", "rules", "smtpwitness-rules")
RESULTS = {"passed": 0, "failed": 0, "skipped": 0}


def claim(good, text, detail=""):
    RESULTS["passed" if good else "failed"] += 1
    print(("ok - " if good else "not ok - ") + text + ("" if good else f" ({detail})"), flush=True)


def skipped(text):
    RESULTS["skipped"] += 1
    print(f"skipped: {text}", flush=True)


def rules(*words, check=True, path=None):
    """path: where the programs it calls are looked for."""
    return subprocess.run(["ip", "netns", "exec", ROUTER, RULES, "nfq", *words], check=check, capture_output=True, text=True,
                          env=dict(os.environ, PATH=path) if path else None)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


class Witness:
    """One running supervisor with its child; its lines as dictionaries."""

    def __init__(self, settings="", timeouts="", log="", options=("--format=json",), **nfq):
        self.config = tempfile.NamedTemporaryFile("w", suffix=".conf")
        self.config.write("[log]\nrate-limit = 0\n" + log + "[timeouts]\nstall-notice = 1s\n" + timeouts + "[nfq]\n")
        self.config.write("".join(f"{key.replace('_', '-')} = {value}\n" for key, value in nfq.items()) + settings)
        self.config.flush()
        os.chmod(self.config.name, 0o644)  # a reload is done by the user nobody
        self.records, self.messages = [], []
        self.process = subprocess.Popen(["ip", "netns", "exec", ROUTER, PROGRAM, "nfq", "--config", self.config.name,
                                         "--foreground", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.threads = [threading.Thread(target=self._read_records, daemon=True),
                        threading.Thread(target=self._read_messages, daemon=True)]
        for thread in self.threads:
            thread.start()
        if not self.says("nfq: ready", 15):
            raise RuntimeError("the witness did not start: " + "".join(self.messages))

    def _read_records(self):
        for line in self.process.stdout:
            self.records.append(json.loads(line))

    def _read_messages(self):
        for line in self.process.stderr:
            if not re.match(r"smtpwitness: (verdict|stall|refusal) ", line):
                self.messages.append(line)

    def says(self, text, seconds=10, count=1):
        return until(lambda: sum(text in line for line in list(self.messages)) >= count, seconds)

    def child(self):
        # `ip netns exec` becomes the program, so its child is the supervisor's
        children = children_of(self.process.pid)
        return children[0] if children else None

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError("the witness did not stop") from None
        for thread in self.threads:
            thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.config.close()
        if self.process.returncode != 0:
            raise RuntimeError(f"the witness ended with {self.process.returncode}: " + "".join(self.messages[-40:]))

    def statistics(self):
        before = sum("statistics:" in line for line in self.messages)
        self.process.send_signal(signal.SIGUSR1)
        self.says("statistics:", 5, before + 1)
        line = [line for line in self.messages if "statistics:" in line][-1]
        return {key: int(value) for key, value in re.findall(r"([a-z-]+)=(\d+)", line)}

    def of(self, client, kind="verdict", seconds=12):
        name = client if isinstance(client, str) else text_of(client)
        found = []
        until(lambda: found.extend(record for record in list(self.records)
                                   if record.get("event") == kind and record["client"] == name) or found, seconds)
        return found[-1] if found else {}


class Server(threading.Thread):
    """A plain SMTP server for one connection after another; keeps the digest of each body."""

    def __init__(self, version, plan=None):
        super().__init__(daemon=True)
        self.listener, self.plan = listen(version), plan or {}
        self.digests, self.sockets, self.failures = [], [], []
        self.start()

    def run(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(peer)
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        peer.settimeout(60)
        stream = peer.makefile("rwb")
        try:
            self.dialogue(stream)
        except (OSError, ValueError) as error:
            self.failures.append(error)
        finally:
            try:
                stream.close()
            except OSError:
                pass
            peer.close()

    def say(self, stream, text):
        stream.write(text + b"\r\n")
        stream.flush()

    def dialogue(self, stream):
        if self.plan.get("mute") == "greeting":
            time.sleep(30)
            return
        self.say(stream, b"220 server.test ESMTP")
        while True:
            line = stream.readline()
            if not line:
                return
            verb = line[:4].upper()
            if self.plan.get("mute", "").encode() == verb:
                time.sleep(30)
                return
            if verb == b"DATA":
                self.say(stream, b"354 go ahead")
                if self.plan.get("swift"):
                    self.digests.append(hashlib.sha256(self.swallow(stream)).hexdigest())
                    self.say(stream, b"250 2.0.0 Ok: queued as 1")
                    continue
                digest = hashlib.sha256()
                patience = self.plan.get("patience")
                if patience:
                    self.sockets[-1].settimeout(patience)
                try:
                    while (line := stream.readline()) != b".\r\n":
                        if not line:
                            return
                        digest.update(line)
                except TimeoutError:
                    self.sockets[-1].sendall(b"421 4.4.2 server.test Error: timeout exceeded\r\n")
                    return
                self.digests.append(digest.hexdigest())
                if self.plan.get("mute") == ".":
                    stream.readline()
                    return
                self.say(stream, b"250 2.0.0 Ok: queued as 1")
            elif verb == b"STAR" and self.plan.get("starttls"):
                self.say(stream, b"220 2.0.0 go ahead")
            elif verb == b"QUIT":
                self.say(stream, b"221 2.0.0 Bye")
                return
            else:
                self.say(stream, b"250 2.1.0 Ok")

    def swallow(self, stream):
        """A body without reading its lines: as fast as a mail server, which reading lines here is not."""
        got = bytearray(b"\r\n")
        while not got.endswith(b"\r\n.\r\n"):
            octets = stream.read1(1 << 18)
            if not octets:
                break
            got += octets
        return got[2:-3]

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # or the accept() in the thread keeps it open
        self.listener.close()
        self.join(5)


class Talker:
    """A client that speaks line by line."""

    def __init__(self, version, timeout=20, address=None):
        if address is None:
            self.socket = connect(version, timeout)
        else:
            self.socket = connect(version, timeout, wait=False)
            self.socket.connect((address, 25))
        self.stream = self.socket.makefile("rb")
        self.read()

    def read(self):
        return self.stream.readline()

    def ask(self, text):
        self.socket.sendall(text + b"\r\n")
        return self.read()

    def to_data(self, size=None):
        self.ask(b"EHLO client.test")
        return self.to_data_again(size)

    def to_data_again(self, size=None):
        announced = f" SIZE={size}".encode() if size else b""
        for text in (b"MAIL FROM:<a@client.test>" + announced, b"RCPT TO:<b@server.test>", b"DATA"):
            answer = self.ask(text)
        return answer

    def quit(self):
        answer = self.ask(b"QUIT")
        self.close()
        return answer

    def close(self):
        self.stream.close()  # it holds the socket open
        self.socket.close()


def body_of(octets, seed=1):
    chance = random.Random(seed)
    lines = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz .", k=70)).lstrip(b".") + b"\r\n" for _ in range(64)]
    return b"".join(lines[chance.randrange(64)] for _ in range(octets // 70))


def saved(namespace):
    texts = []
    for tool in ("iptables-save", "ip6tables-save"):
        done = subprocess.run(["ip", "netns", "exec", namespace, tool], check=True, capture_output=True, text=True)
        texts.append(re.sub(r"\[\d+:\d+\]", "", "".join(line for line in done.stdout.splitlines(True) if line[0] != "#")))
    return texts
