#!/usr/bin/python3
"""server.py - the scripted SMTP server. Its order is one JSON object in the file named on the command line:
{"port": 25, "scripts": [[step, ...], ...], "receive-buffer": 0, "backlog": 128, "accepts": N, "certificate": FILE, "key": FILE}.
The connections take the scripts in turn. It prints one JSON line per event."""

import json
import re
import socket
import ssl
import sys
import threading
import time

from smtp_peer import Connection, Ended, Marks, Step, StepFailed, identity_of, report, size_of, unescape, unroll

WAIT = 400.0  # longer than any patience that is tested; a scenario's own time ends a script that hangs
EXTENSIONS = ["PIPELINING", "SIZE 52428800", "8BITMIME", "CHUNKING"]


class Greylist:
    """The recipients that were put off: every second time one is named it is welcome."""

    def __init__(self):
        self.lock = threading.Lock()
        self.put_off = set()

    def welcome(self, recipient):
        with self.lock:
            known = recipient in self.put_off
            (self.put_off.remove if known else self.put_off.add)(recipient)
            return known


class Session:
    def __init__(self, order, index, sock, peer, marks, greylist):
        self.order, self.index, self.marks, self.greylist = order, index, marks, greylist
        self.peer, self.port = peer[0].removeprefix("::ffff:"), peer[1]
        self.connection = Connection(sock)
        self.tls = False
        self.lmtp = False
        self.recipients = 0
        self.late, self.later = 0.0, 0.0  # how late replies come, and how much later each one is than the last
        self.message = b""

    def reply(self, text):
        time.sleep(self.late)
        self.late += self.later
        self.connection.send(text.encode("latin-1") + b"\r\n")

    def take_message(self, message):
        found = identity_of(message)
        report("received", id=found[0] if found else None, hash=found[1] if found else None, octets=len(message), peer=self.peer)

    def read_body(self, stop_after=None):
        """Reads the body to its dot; or, with stop_after, only that many octets of it. True at the dot."""
        deadline = time.monotonic() + WAIT
        lines, count = [], 0
        while True:
            if stop_after is not None:
                self.connection.exactly(stop_after, deadline)
                return False
            line = self.connection.line(deadline)
            if line == b".\r\n":
                break
            lines.append(line[1:] if line.startswith(b".") else line)
            count += len(line)
        self.message = b"".join(lines)
        self.take_message(self.message)
        return True

    def start_tls(self, least=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if least == "1.3":
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.order["certificate"], self.order["key"])
        self.connection.sock.settimeout(WAIT)
        self.connection.sock = context.wrap_socket(self.connection.sock, server_side=True)
        self.connection.buffer = b""
        self.tls = True

    def answer_recipient(self, line, everybody_grey):
        address = re.sub(r"(?i)^rcpt to:\s*", "", line)
        if address.startswith("<nobody"):
            self.reply("550 5.1.1 Recipient address rejected: User unknown")
        elif (everybody_grey or address.startswith("<grey")) and not self.greylist.welcome(address):
            self.reply("450 4.2.0 Recipient address rejected: Greylisted, try again later")
        else:
            self.recipients += 1
            self.reply("250 2.1.5 Ok")

    def answer_authentication(self, words):
        if len(words) < 2 or words[1].upper() not in ("PLAIN", "LOGIN"):
            self.reply("504 5.5.4 Unrecognized authentication type")
            return
        asked = [] if len(words) > 2 else [""] if words[1].upper() == "PLAIN" else ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"]
        for question in asked:
            self.reply("334 " + question)
            self.connection.line(time.monotonic() + WAIT)
        self.reply("235 2.7.0 Authentication successful")

    def serve(self, until, tls_least=None, everybody_grey=False):
        """An ordinary server, until the command `until` has come (unanswered), or QUIT. False when the session is over."""
        stop_body = int(until[5:]) if until.startswith("body:") else None
        chunks = b""
        while True:
            line = self.connection.line(time.monotonic() + WAIT).decode("latin-1").strip()
            verb = (line.split() or [""])[0].upper()
            if verb == until:
                return True
            if verb in ("EHLO", "LHLO"):
                self.lmtp = verb == "LHLO"
                words = EXTENSIONS + ([] if self.tls else ["STARTTLS"])
                lines = ["server.test"] + self.order.get("extensions", words)
                self.reply("\r\n".join(f"250{'-' if i + 1 < len(lines) else ' '}{word}" for i, word in enumerate(lines)))
            elif verb == "DATA":
                if everybody_grey and not self.recipients:
                    self.reply("554 5.5.1 Error: no valid recipients")
                    continue
                self.reply("354 End data with <CR><LF>.<CR><LF>")
                if not self.read_body(stop_body) or until == "dot":
                    return True
                for _ in range(self.recipients if self.lmtp else 1):
                    self.reply("250 2.0.0 Ok: queued")
            elif verb == "BDAT":
                words = line.split()
                chunks += self.connection.exactly(int(words[1]), time.monotonic() + WAIT)
                if words[-1].upper() == "LAST":
                    self.take_message(chunks)
                    chunks = b""
                self.reply("250 2.0.0 Ok: octets received")
            elif verb == "MAIL":
                self.recipients = 0
                self.reply("250 2.1.0 Ok")
            elif verb == "RCPT":
                self.answer_recipient(line, everybody_grey)
            elif verb == "AUTH":
                self.answer_authentication(line.split())
            elif verb == "STARTTLS":
                self.reply("220 2.0.0 Ready to start TLS")
                self.start_tls(tls_least)
            elif verb == "QUIT":
                self.reply("221 2.0.0 Bye")
                return False
            else:
                self.reply("250 2.0.0 Ok")

    def perform(self, step):
        verb, connection = step.verb, self.connection
        if verb == "greet":
            self.reply("220 server.test ESMTP scripted")
        elif verb == "serve":
            self.late, self.later = step.number("late", 0), step.number("later", 0)
            return self.serve(step.options.get("until", "QUIT-without-end"), step.options.get("tls-least"), "grey" in step.words)
        elif verb == "body":
            self.read_body()
        elif verb == "tls":
            self.start_tls()
        elif verb == "send":
            connection.send(unescape(step.rest) + b"\r\n")
        elif verb == "send-raw":
            connection.send(unescape(step.rest))
        elif verb == "expect":
            line = connection.line(time.monotonic() + step.number("within", WAIT)).decode("latin-1")
            if not re.match(step.word(), line, re.IGNORECASE):
                raise StepFailed(f"expected {step.word()}, got '{line.strip()}'")
        elif verb == "expect-close":
            connection.wait_end(step.number("within", WAIT))
        elif verb == "sleep":
            time.sleep(float(step.word()))
        elif verb == "ident":  # asks the client's ident port, as old servers did before they greeted
            try:
                socket.create_connection((self.peer, 113), float(step.word())).close()
            except OSError:
                pass
        elif verb == "drain":  # read and forget for so long
            deadline = time.monotonic() + float(step.word())
            try:
                while True:
                    connection.fill(deadline)
                    connection.buffer = b""
            except TimeoutError:
                pass
        elif verb == "mark":
            self.marks.reach(step.word())
        elif verb == "half-close":
            connection.half_close()
        elif verb == "close":
            if self.tls:  # a server says so in TLS, too, and does not wait for the client's word
                connection.sock.settimeout(0)
                try:
                    connection.sock.unwrap()
                except OSError:
                    pass
            connection.close()
            return False
        elif verb == "reset":
            connection.reset()
            return False
        elif verb == "byte-by-byte":
            connection.write_byte_by_byte(step)
        elif verb == "decides":
            connection.decides((self.peer, self.port))
        else:
            raise StepFailed(f"unknown step '{step.line}'")
        return True

    def run(self, steps):
        failed, step = None, None
        try:
            for step in steps:
                if not self.perform(step):
                    break
        except Ended as end:
            failed = f"the connection ended by {end.how}"
        except TimeoutError:
            failed = "nothing came for too long"
        except (StepFailed, OSError, ValueError, IndexError) as error:
            failed = f"{error.__class__.__name__}: {error}"
        self.connection.close()
        report("served", index=self.index, peer=self.peer, failed=failed, step=step.line if step and failed else None,
               ended=self.connection.ended, received=self.connection.received)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        order = json.load(file)
    scripts = [unroll(lines) for lines in order["scripts"]]
    marks, greylist = Marks(1), Greylist()
    threading.Thread(target=marks.listen, daemon=True).start()
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if order.get("receive-buffer"):  # before listen: the window's scale is agreed on at the handshake
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(order["receive-buffer"]))
    listener.bind(("::", order.get("port", 25)))
    listener.listen(order.get("backlog", 128))
    index = 0
    while index < order.get("accepts", 1 << 30):
        sock, peer = listener.accept()
        session = Session(order, index, sock, peer, marks, greylist)
        report("accepted", index=index, peer=session.peer, port=session.port)
        threading.Thread(target=session.run, args=(scripts[index % len(scripts)],), daemon=True).start()
        index += 1
    threading.Event().wait()  # it listens on, and takes nobody any more


if __name__ == "__main__":
    main()
