#!/usr/bin/python3
"""client.py - the scripted SMTP client. Its order is one JSON object in the file named on the command line:
{"target": "203.0.113.2", "port": 25, "sources": ["192.0.2.2"], "scripts": [[step, ...], ...], "parallel": 1,
 "sessions": 1, "stagger": 0}. It prints one JSON line per event; the last of a session is "session"."""

import json
import re
import socket
import ssl
import sys
import threading
import time

from smtp_peer import (REPLIES_KEPT, Connection, Ended, Marks, Step, StepFailed, message_of, report, size_of, stuffed, text_hash,
                       unescape, unroll)

CONNECTING = ("connect", "expect-no-service", "probe")
WAIT = 30.0  # seconds for a reply, unless within= says otherwise


def mail_from(sender, step):
    """With size=, as clients say it where the server offers SIZE."""
    return f"MAIL FROM:<{sender}>" + (f" SIZE={size_of(step.options['size'])}" if "size" in step.options else "")


class Session:
    def __init__(self, order, index, marks):
        self.order, self.index, self.marks = order, index, marks
        self.connection = None
        self.resets = False
        self.replies = []
        self.mails = 0
        self.started = time.monotonic()
        self.waited = 0.0

    # -- connection --------------------------------------------------------------------------------------------

    def open(self, seconds=20.0):
        sources = self.order.get("sources") or [None]
        source = sources[self.index % len(sources)]
        family = socket.AF_INET6 if ":" in self.order["target"] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(seconds)
        if self.order.get("receive-buffer"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(self.order["receive-buffer"]))
        self.started = time.monotonic()
        try:
            if source:
                sock.bind((source, 0))
            sock.connect((self.order["target"], self.order.get("port", 25)))
        except TimeoutError:
            raise Ended("timeout") from None
        except ConnectionRefusedError:
            raise Ended("refused") from None
        except ConnectionResetError:
            raise Ended("reset") from None
        except OSError as error:
            raise Ended("unreachable" if error.errno in (101, 113) else (error.strerror or str(error))) from None
        self.connection = Connection(sock)

    def reply(self, seconds):
        """One complete reply, as text without its final line end."""
        deadline = time.monotonic() + seconds
        started = time.monotonic()
        lines = []
        try:
            while True:
                line = self.connection.line(deadline).decode("latin-1").rstrip("\r\n")
                lines.append(line)
                if line[3:4] != "-":
                    break
        except TimeoutError:
            self.keep(lines)
            raise StepFailed(f"no reply within {seconds:g} s") from None
        except Ended:
            self.keep(lines)
            raise
        finally:
            self.waited = time.monotonic() - started
        text = "\n".join(lines)
        self.keep([text])
        return text

    def keep(self, texts):
        if len(self.replies) < REPLIES_KEPT:
            self.replies.extend(texts)

    def expect(self, code, seconds=WAIT):
        text = self.reply(seconds)
        if not re.match(code, text):
            raise StepFailed(f"expected {code}, got '{text}'")

    def command(self, text, code, seconds=WAIT):
        self.connection.send(text.encode("latin-1") + b"\r\n")
        self.expect(code, seconds)

    # -- mail --------------------------------------------------------------------------------------------------

    def next_message(self, step):
        self.mails += 1
        identity = f"{self.order.get('name', 'client')}-{self.index}-{self.mails}"
        return identity, message_of(identity, size_of(step.word(0, "2000")), header=size_of(step.options.get("header", "0")))

    def tell_sent(self, identity, message):
        report("sent", id=identity, hash=text_hash(message), octets=len(message))

    def do_body(self, step):
        identity, message = self.next_message(step)
        stop = size_of(step.options.get("stop-after", "0"))
        self.connection.send_paced(stuffed(message), float(size_of(step.options.get("rate", "0"))),
                                   size_of(step.options.get("chunk", "0")), stop, step.number("within", 60))
        if not stop:
            self.tell_sent(identity, message)

    def do_bdat(self, step):
        identity, message = self.next_message(step)
        chunk = size_of(step.options.get("chunk", "0")) or len(message)
        stop, rate = size_of(step.options.get("stop-after", "0")), float(size_of(step.options.get("rate", "0")))
        if stop or rate:  # one chunk, paced or broken off
            self.connection.send(f"BDAT {len(message)} LAST\r\n".encode())
            self.connection.send_paced(message, rate, chunk if chunk < len(message) else 0, stop, step.number("within", 60))
            if stop:
                return
            self.tell_sent(identity, message)
            self.expect("250", step.number("within", WAIT))
            return
        for start in range(0, len(message), chunk):
            piece = message[start:start + chunk]
            last = " LAST" if start + chunk >= len(message) else ""
            self.connection.send(f"BDAT {len(piece)}{last}\r\n".encode() + piece, step.number("within", WAIT))
            self.expect("250", step.number("within", WAIT))
        self.tell_sent(identity, message)

    def do_starttls(self, step):
        self.command("STARTTLS", "220")
        self.do_tls(step)
        if "hello" in step.words:
            self.command("EHLO client.test", "250")

    def do_tls(self, step):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED if "verify" in step.words else ssl.CERT_NONE
        version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[step.options.get("version", "1.3")]
        context.minimum_version = context.maximum_version = version
        self.connection.sock.settimeout(step.number("within", WAIT))
        try:
            self.connection.sock = context.wrap_socket(self.connection.sock, server_hostname="server.test")
        except (OSError, ssl.SSLError) as error:
            raise StepFailed(f"TLS handshake: {error}") from None
        self.connection.buffer = b""

    def do_mail(self, step):
        sender = step.options.get("from", "u1@client.test")
        recipient = step.options.get("to", "u1@server.test")
        wait = step.number("within", WAIT)
        if "bdat" in step.words:
            self.command(mail_from(sender, step), "250", wait)
            self.command(f"RCPT TO:<{recipient}>", "250", wait)
            self.do_bdat(step)
            return
        if "pipelined" in step.words:
            self.connection.send(f"{mail_from(sender, step)}\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
            for code in ("250", "250", "354"):
                self.expect(code, wait)
        else:
            self.command(mail_from(sender, step), "250", wait)
            self.command(f"RCPT TO:<{recipient}>", "250", wait)
            self.command("DATA", "354", wait)
        self.do_body(step)
        if "quit" in step.words:  # as Postfix does: QUIT right behind the dot
            self.connection.send(b".\r\nQUIT\r\n")
            self.expect("250", wait)
            self.expect("221", wait)
            self.connection.close()
        else:
            self.command(".", "250", wait)

    # -- the script --------------------------------------------------------------------------------------------

    def perform(self, step):
        verb, connection = step.verb, self.connection
        if verb == "connect":
            self.open(step.number("within", 20))
        elif verb == "probe":
            self.open(step.number("within", 20))
        elif verb == "expect-no-service":
            self.expect_no_service(step.number("within", 10))
        elif verb == "hello":
            self.expect("220", step.number("within", WAIT))
            self.command("EHLO " + step.word(0, "client.test"), "250", step.number("within", WAIT))
        elif verb == "expect":
            self.expect(step.word(), step.number("within", WAIT))
        elif verb == "command":  # command CODE TEXT
            code, _, text = step.rest.partition(" ")
            self.command(text, code)
        elif verb == "envelope":
            self.command(mail_from("u1@client.test", step), "250")
            self.command(f"RCPT TO:<{step.options.get('to', 'u1@server.test')}>", "250")
        elif verb == "data":
            self.command("DATA", "354", step.number("within", WAIT))
        elif verb == "send":
            connection.send(unescape(step.rest) + b"\r\n")
        elif verb == "send-raw":
            connection.send(unescape(step.rest))
        elif verb == "body":
            self.do_body(step)
        elif verb == "data-and-body":
            self.command("DATA", "354")
            self.do_body(step)
        elif verb == "dot":
            connection.send(b".\r\n", step.number("within", WAIT))
        elif verb == "bdat":
            self.do_bdat(step)
        elif verb == "mail":
            self.do_mail(step)
        elif verb == "starttls":
            self.do_starttls(step)
        elif verb == "tls":
            self.do_tls(step)
        elif verb == "quit":
            self.command("QUIT", "221", step.number("within", WAIT))
            connection.close()
        elif verb == "sleep":
            time.sleep(float(step.word()))
        elif verb == "silence":  # nothing may come
            try:
                connection.fill(time.monotonic() + float(step.word()))
                raise StepFailed(f"expected silence, got {connection.buffer[:200]!r}")
            except TimeoutError:
                pass
        elif verb == "expect-close":
            how = connection.wait_end(step.number("within", WAIT))
            if connection.buffer:
                self.keep(connection.buffer.decode("latin-1").splitlines())
            wanted = step.options.get("how", "any")
            if wanted not in ("any", how):
                raise StepFailed(f"expected the connection to end by {wanted}, got {how}")
        elif verb == "stay":  # hold the connection open until the run is over
            time.sleep(float(step.word(0, "0")))
            self.tell(None, None, "staying")
            report("staying")
            while True:
                time.sleep(3600)
        elif verb == "on-failure":
            self.resets = step.word() == "reset"
        elif verb == "half-close":
            connection.half_close()
        elif verb == "close":
            connection.close()
        elif verb == "reset":
            connection.reset()
        elif verb == "byte-by-byte":
            connection.write_byte_by_byte(step)
        elif verb == "decides":
            connection.decides(connection.sock.getsockname())
        elif verb == "mark":
            self.marks.reach(step.word())
        else:
            raise StepFailed(f"unknown step '{step.line}'")

    def expect_no_service(self, seconds):
        """Passes when the client learns within `seconds` that there is no server: no connection, or one that is reset."""
        started = time.monotonic()
        try:
            self.open(seconds)
            text = self.reply(max(seconds - (time.monotonic() - started), 0.1))
        except Ended as end:
            self.ended = end.how
            if end.how == "timeout":
                raise StepFailed(f"not told within {seconds:g} s that there is no service") from None
            return
        raise StepFailed(f"expected no service, got '{text}'")

    def run(self, steps):
        failed, self.ended = None, None
        step = None
        try:
            if not steps or steps[0].verb not in CONNECTING:
                self.open()
            for step in steps:
                self.perform(step)
        except Ended as end:
            self.ended = end.how
            failed = f"the connection ended by {end.how}"
        except StepFailed as error:
            failed = str(error)
        except (OSError, ValueError, KeyError) as error:
            failed = f"{error.__class__.__name__}: {error}"
        ended = self.ended or (self.connection.ended if self.connection else None)
        if self.connection is not None and self.connection.ended is None:
            ended = "own"
            if self.resets:
                self.connection.reset()
            else:
                self.connection.close()
        self.tell(failed, step.line if step and failed else None, ended or "own")

    def tell(self, failed, step, ended):
        report("session", index=self.index, ok=failed is None, failed=failed, step=step, ended=ended,
               seconds=round(time.monotonic() - self.started, 3), replies=self.replies, sent=self.connection.sent if self.connection else 0)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        order = json.load(file)
    scripts = [unroll(lines) for lines in order["scripts"]]
    parallel = order.get("parallel", 1)
    total = max(order.get("sessions", 0), parallel)
    marks = Marks(parallel)
    threading.Thread(target=marks.listen, daemon=True).start()
    numbers = iter(range(total))
    lock = threading.Lock()

    def work(delay):
        time.sleep(delay)
        while True:
            with lock:
                index = next(numbers, None)
            if index is None:
                break
            session = Session(order, index, marks)
            session.run(scripts[index % len(scripts)])
        marks.leave()

    stagger = order.get("stagger", 0)
    threads = [threading.Thread(target=work, args=(i * stagger,)) for i in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report("done")


if __name__ == "__main__":
    main()
