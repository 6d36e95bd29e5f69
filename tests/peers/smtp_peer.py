"""smtp_peer.py - what the scripted client and the scripted server share: steps, messages, a connection that records.

A script is a list of lines, one step each: a verb and its words ("sleep 2.5", "expect 250 within=9"). The verbs
are listed in tests/scenarios/README.md; client.py and server.py define them.
"""

import hashlib
import json
import random
import re
import socket
import struct
import sys
import threading
import time

REPLIES_KEPT = 400  # per session in the record; a session of a hundred mails has about five hundred

_output_lock = threading.Lock()


def report(event, **fields):
    """One JSON line to the runner."""
    line = json.dumps(dict(fields, event=event, at=time.monotonic()))
    with _output_lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def unescape(text):
    r"""\r \n \t \\ \xHH as in C; everything else as it stands. To octets, one per character (latin-1)."""
    def one(match):
        word = match.group(1)
        return {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}.get(word) or chr(int(word[1:], 16))

    return re.sub(r"\\(r|n|t|\\|x[0-9a-fA-F]{2})", one, text).encode("latin-1")


def size_of(text):
    """20M, 64k, 300 -> octets."""
    units = {"k": 1000, "M": 1000000}
    return int(float(text[:-1]) * units[text[-1]]) if text[-1] in units else int(text)


class Step:
    """`verb`, the whole `rest` of the line, its plain `words`, and its `options` (word=value)."""

    def __init__(self, line):
        self.line = line
        verb, _, self.rest = line.strip().partition(" ")
        self.verb = verb
        self.words, self.options = [], {}
        for word in self.rest.split():
            name, equals, value = word.partition("=")
            if equals and re.fullmatch(r"[a-z-]+", name):
                self.options[name] = value
            else:
                self.words.append(word)

    def word(self, index=0, default=None):
        if index < len(self.words):
            return self.words[index]
        if default is None:
            raise ValueError(f"step '{self.line}' lacks a word")
        return default

    def number(self, name, default):
        return float(self.options.get(name, default))


def unroll(lines):
    """repeat N ... end, nested, to a flat list of steps."""
    stack = [(1, [])]
    for line in lines:
        step = Step(line)
        if step.verb == "repeat":
            stack.append((int(step.word()), []))
        elif step.verb == "end":
            times, body = stack.pop()
            if not stack:
                raise ValueError("'end' without 'repeat'")
            stack[-1][1].extend(body * times)
        elif step.verb and not step.verb.startswith("#"):
            stack[-1][1].append(step)
    if len(stack) != 1:
        raise ValueError("'repeat' without 'end'")
    return stack[0][1]


# -- messages ----------------------------------------------------------------------------------------------------

def message_of(identity, size, sender="u1@client.test", recipient="u1@server.test", header=0):
    """A message of about `size` octets, the same for the same identity, `header` octets of it references in its header. Its
    first header names it; its body has what careless relays spoil: leading dots, trailing blanks, empty lines, 8-bit octets, a
    line of 998 octets."""
    head = (
        f"X-Scenario-Message: {identity}\r\nFrom: <{sender}>\r\nTo: <{recipient}>\r\nSubject: scenario message {identity}\r\n"
        f"Date: Sun, 22 Nov 2026 03:39:08 +0000\r\nMessage-Id: <{identity}@client.test>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    ).encode("ascii")
    if header:
        references = "References:" + "".join(f"\r\n <{number:060}@client.test>" for number in range(header // 80 + 1))
        head = head[:-2] + references.encode("ascii") + b"\r\n\r\n"
    source = random.Random(identity)
    special = [b".", b"..", b".leading dot", b"trailing blanks  \t ", b"", "gr\u00fc\u00dfe".encode(), b"From here", b"QUIT", b"RSET",
               b"250 not a reply", b"--", b".\t", b"x" * 998]
    block = list(special)  # each at least once in every message longer than they are
    for _ in range(200):
        block.append(source.choice(special) if source.random() < 0.2 else source.randbytes(36).hex().encode())
    text = b"\r\n".join(block) + b"\r\n"
    wanted = max(size - len(head), 0)
    body = text * (wanted // len(text)) + text[: wanted % len(text)]
    # Never end inside a line end, and always end with one.
    body = body.rstrip(b"\r\n")
    return head + body + (b"\r\n" if body else b"")


def stuffed(message):
    """The message as it goes behind DATA, without the final dot."""
    return re.sub(rb"(?m)^\.", b"..", message)


def text_hash(message):
    """The hash of a message as a mailbox keeps it: lines ended by LF."""
    return hashlib.sha256(message.replace(b"\r\n", b"\n")).hexdigest()


def identity_of(message):
    """(identity, hash from the naming header on) of a message found in a mailbox or received, or None."""
    match = re.search(rb"(?m)^X-Scenario-Message: ([^\r\n]+)", message)
    if match is None:
        return None
    return match.group(1).decode("ascii", "replace"), text_hash(message[match.start():])


# -- a connection ------------------------------------------------------------------------------------------------

class Ended(Exception):
    """The other side, or the network, ended the connection: eof, reset, timeout, unreachable, refused."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


class StepFailed(Exception):
    pass


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        self.byte_by_byte = False
        self.pause = 0.001  # between two octets of it
        self.received = 0
        self.sent = 0
        self.ended = None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _end(self, how):
        self.ended = self.ended or how
        return Ended(how)

    def fill(self, deadline):
        """Waits for octets until the monotonic `deadline`."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        try:
            octets = self.sock.recv(65536)
        except TimeoutError:
            raise TimeoutError from None
        except ConnectionResetError:
            raise self._end("reset") from None
        except OSError as error:
            raise self._end(error.__class__.__name__ + ":" + (error.strerror or str(error))) from None
        if not octets:
            raise self._end("eof")
        self.received += len(octets)
        self.buffer += octets

    def line(self, deadline):
        while b"\n" not in self.buffer:
            self.fill(deadline)
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def exactly(self, count, deadline):
        while len(self.buffer) < count:
            self.fill(deadline)
        octets, self.buffer = self.buffer[:count], self.buffer[count:]
        return octets

    def send(self, octets, seconds=30.0):
        pieces = [octets[i:i + 1] for i in range(len(octets))] if self.byte_by_byte else [octets]
        for piece in pieces:
            self.sock.settimeout(seconds)
            try:
                self.sock.sendall(piece)
            except TimeoutError:
                raise StepFailed(f"could not send for {seconds:g} s: the other side does not read") from None
            except (BrokenPipeError, ConnectionResetError):
                raise self._end("reset") from None
            except OSError as error:
                raise self._end(error.__class__.__name__ + ":" + (error.strerror or str(error))) from None
            self.sent += len(piece)
            if self.byte_by_byte:
                time.sleep(self.pause)

    def send_paced(self, octets, rate, chunk, stop_after, seconds=60.0):
        """Sends at `rate` octets a second (0 = as fast as it goes), in writes of `chunk`, no more than `stop_after`."""
        if stop_after:
            octets = octets[:stop_after]
        if not rate:
            chunk = chunk or 65536
        chunk = chunk or max(1, int(rate / 10))
        started = time.monotonic()
        for start in range(0, len(octets), chunk):
            self.send(octets[start:start + chunk], seconds)
            if rate:
                ahead = (start + chunk) / rate - (time.monotonic() - started)
                if ahead > 0:
                    time.sleep(ahead)

    def write_byte_by_byte(self, step):
        self.byte_by_byte = step.word() == "on"
        self.pause = step.number("pause", 0.001)

    def decides(self, client):
        """Tells the runner that what comes next decides the session: its verdict is due. `client` is the client's end."""
        report("decides", client=f"[{client[0]}]:{client[1]}" if ":" in client[0] else f"{client[0]}:{client[1]}")

    def wait_end(self, seconds):
        """Reads until the other side ends the connection; returns how, and what was read on the way."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self.fill(deadline)
        except Ended as end:
            return end.how
        except TimeoutError:
            raise StepFailed(f"the other side did not end the connection within {seconds:g} s") from None

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.ended = self.ended or "own"
        self.sock.close()

    def reset(self):
        self.ended = self.ended or "own"
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Marks:
    """`mark NAME`: tells the runner that the script got there, and waits until the runner has done what belongs to it.
    With several sessions side by side the mark is told once, when every session still alive has reached it."""

    def __init__(self, sessions):
        self.condition = threading.Condition()
        self.alive = sessions
        self.waiting = {}
        self.done = set()

    def reach(self, name):
        with self.condition:
            self.waiting[name] = self.waiting.get(name, 0) + 1
            self._tell(name)
            self.condition.wait_for(lambda: name in self.done)

    def leave(self):
        with self.condition:
            self.alive -= 1
            for name in list(self.waiting):
                self._tell(name)

    def _tell(self, name):
        if self.waiting.get(name, 0) >= self.alive > 0 and self.waiting[name] != -1:
            self.waiting[name] = -1 << 30
            report("mark", name=name)

    def listen(self):
        """Reads the runner's 'go NAME' lines; for a thread of its own."""
        for line in sys.stdin:
            word, _, name = line.strip().partition(" ")
            if word == "go":
                with self.condition:
                    self.done.add(name)
                    self.condition.notify_all()
