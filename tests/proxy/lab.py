"""What the relay tests stand on: sockets in any namespace, one witness, its records."""

import contextlib
import ctypes
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

PREFIX = os.environ.get("PREFIX", "px")
PROGRAM = os.environ["PROGRAM"]
CLIENT, ROUTER, FIREWALL, SERVER = (PREFIX + end for end in ("-cl", "-rt", "-fw", "-sv"))
ADDRESS = {4: {"cl": "10.81.1.2", "sv": "10.81.3.2", "fw": "10.81.2.2"},
           6: {"cl": "fd81:1::2", "sv": "fd81:3::2", "fw": "fd81:2::2"}}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_home = os.open("/proc/self/ns/net", os.O_RDONLY)


@contextlib.contextmanager
def inside(namespace):
    """Sockets opened by this thread meanwhile belong to the namespace, and stay there."""
    there = os.open("/run/netns/" + namespace, os.O_RDONLY)
    try:
        if _libc.setns(there, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns " + namespace)
        yield
    finally:
        if _libc.setns(_home, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns home")
        os.close(there)


def run(namespace, *command):
    subprocess.run(["ip", "netns", "exec", namespace, *command], check=True)


@contextlib.contextmanager
def rule(namespace, version, *words):
    """A packet filter rule, for as long as the block runs."""
    tool = "iptables" if version == 4 else "ip6tables"
    run(namespace, tool, "-w", "-I", *words)
    try:
        yield
    finally:
        run(namespace, tool, "-w", "-D", words[0], *words[1:])


def listen(version, port=25, backlog=4096, namespace=SERVER):
    with inside(namespace):
        listener = socket.socket(FAMILY[version], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((ADDRESS[version]["sv"], port))
        listener.listen(backlog)
        listener.settimeout(10)
    return listener


def transparent_listeners():
    listeners = []
    with inside(ROUTER):
        for version in (4, 6):
            listener = socket.socket(FAMILY[version], socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if version == 6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setsockopt(socket.IPPROTO_IPV6, 75, 1)  # IPV6_TRANSPARENT
            else:
                listener.setsockopt(socket.IPPROTO_IP, 19, 1)  # IP_TRANSPARENT
            listener.bind(("" if version == 4 else "::", 10025))
            listener.listen(64)
            listeners.append(listener)
    return listeners


class Client(socket.socket):
    """Remembers its own address after it was closed."""

    name = None

    def connect(self, address):
        if self.getsockname()[1] == 0:
            self.bind((ADDRESS[6 if self.family == socket.AF_INET6 else 4]["cl"], 0))
        self.name = self.getsockname()
        super().connect(address)


def connect(version, timeout=10, port=25, source_port=0, wait=True):
    with inside(CLIENT):
        client = Client(FAMILY[version], socket.SOCK_STREAM)
    client.settimeout(timeout)
    if source_port:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((ADDRESS[version]["cl"], source_port))
    if wait:
        client.connect((ADDRESS[version]["sv"], port))
    return client


def pair(listener, version):
    """A session through the witness: the client's socket and the server's."""
    client = connect(version)
    server, peer = listener.accept()
    server.settimeout(10)
    return client, server, peer


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ending(sock, limit=1 << 30):
    """Reads to the end; returns what came and how it ended: 'fin', 'reset' or 'timeout'."""
    got = b""
    try:
        while len(got) < limit:
            octets = sock.recv(65536)
            if not octets:
                return got, "fin"
            got += octets
    except ConnectionResetError:
        return got, "reset"
    except TimeoutError:
        return got, "timeout"
    return got, "limit"


class Witness:
    """One running witness; its verdict, stall and refusal lines as dictionaries."""

    def __init__(self, settings="", descriptors=None, listeners=(), smtp="", log="rate-limit = 0", process="", preload="", **proxy):
        values = {"workers": 2, "connect-timeout": "2s", "probe-after": "1s", "drain": "1s"}
        values.update({key.replace("_", "-"): value for key, value in proxy.items()})
        self.config = tempfile.NamedTemporaryFile("w", suffix=".conf")
        self.config.write(f"[smtp]\nhostname = gate.test\n{smtp}\n[process]\nuser =\n{process}\n[log]\n{log}\n[proxy]\n")
        self.config.write("".join(f"{key} = {value}\n" for key, value in values.items()) + settings)
        self.config.flush()
        self.records, self.messages = [], []
        command = ["ip", "netns", "exec", ROUTER]
        if descriptors:
            command += ["prlimit", f"--nofile={descriptors}:{descriptors}"]
        command += [PROGRAM, "proxy", "--config", self.config.name, "--foreground", "--format=json"]
        if listeners:  # as systemd passes them: from descriptor 3 on
            high = [fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD, 20 + number) for number, listener in enumerate(listeners)]
            moves = " ".join(f"{3 + number}<&{descriptor}" for number, descriptor in enumerate(high))
            passing = f"exec {moves}; export LISTEN_PID=$$ LISTEN_FDS={len(high)}; exec \"$@\""
            command = ["bash", "-c", passing, "bash", *command]
        else:
            high = []
        if preload:  # after ip, which needs none of it
            command[4:4] = ["env", f"LD_PRELOAD={preload}"]
        self.process = subprocess.Popen(command, pass_fds=high, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for descriptor in high:
            os.close(descriptor)
        self.threads = [threading.Thread(target=self._read_records, daemon=True),
                        threading.Thread(target=self._read_messages, daemon=True)]
        for thread in self.threads:
            thread.start()
        if not until(lambda: any("ready, listening" in line for line in self.messages), 10):
            raise RuntimeError("the witness did not start: " + "".join(self.messages))

    def _read_records(self):
        for line in self.process.stdout:
            self.records.append(json.loads(line))

    def _read_messages(self):
        for line in self.process.stderr:
            if not re.match(r"smtpwitness: (verdict|stall|refusal) ", line):
                self.messages.append(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError("the witness did not stop")
        for thread in self.threads:
            thread.join(5)
        self.config.close()
        if self.process.returncode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"the witness ended with {self.process.returncode}: " + "".join(self.messages[-40:]))

    @staticmethod
    def kind(record):
        return record.get("event")

    def verdicts(self):
        return [record for record in self.records if self.kind(record) == "verdict"]

    def verdict_of(self, client, seconds=15):
        """The verdict of the session of that client socket (or address text)."""
        name = client if isinstance(client, str) else text_of(client)
        found = []
        until(lambda: found.extend(record for record in self.verdicts() if record["client"] == name) or found, seconds)
        return found[-1] if found else {}

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory_kb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))

    def processor_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def text_of(sock):
    name = getattr(sock, "name", None) or sock.getsockname()
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def until(question, seconds=10):
    """Asks again and again until the answer is true; the last answer."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer or time.monotonic() > end:
            return answer
        time.sleep(0.02)


failures = []
count = 0


def claim(true, text, detail=""):
    global count
    count += 1
    print(f"{'ok' if true else 'not ok'} {count} - {text}" + (f"  # {detail}" if detail != "" else ""), flush=True)
    if not true:
        failures.append(text)


def claim_memory(true, text, detail=""):
    """What a sanitizer's own memory would make false."""
    if os.environ.get("SANITIZED"):
        print(f"# skipped with a sanitizer: {text}", flush=True)
    else:
        claim(true, text, detail)


def greeted(listener, version=4):
    client, server, _ = pair(listener, version)
    server.sendall(b"220 x\r\n")
    client.recv(100)
    return client, server


def refused(client):
    """Over a limit: what came, and how it ended."""
    try:
        return ending(client)
    except (ConnectionResetError, BrokenPipeError):
        return b"", "reset"


def run_tests(functions):
    """Those the command line names, or all; the exit status."""
    tests = {name[5:]: function for name, function in functions.items() if name.startswith("test_")}
    for name in sys.argv[1:] or tests:
        print(f"# {name}", flush=True)
        try:
            tests[name]()
        except Exception as error:  # a test that breaks is a claim that does not hold
            claim(False, f"{name} ran to its end", f"{type(error).__name__}: {error} line {error.__traceback__.tb_next.tb_lineno}")
    print(f"1..{count}")
    print(f"{count - len(failures)} passed, {len(failures)} failed, 0 skipped")
    return 1 if failures else 0
