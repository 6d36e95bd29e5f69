#!/usr/bin/python3
"""worker.py - performs one scenario in one way. Started by run.py as the first process of its own process and mount
namespaces: whatever happens to it, the kernel ends everything it started and drops everything it mounted.

    worker.py FILE SCENARIO WAY DIRECTORY PREFIX [--verbose] [--keep]

SCENARIO is the name of one of the file's scenarios (a variant's is FILE.VARIANT). DIRECTORY gets result.json, a judgement
for each way that was seen ({"nfq": {"verdict": "right", "problems": [], "said": [...]}, "replay": ...}), and, unless all is
well, logs/."""

import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
PROJECT = os.path.dirname(TESTS)
sys.path[:0] = [HERE, os.path.join(TESTS, "mta"), os.path.join(TESTS, "peers")]

import expectations  # noqa: E402
import mta  # noqa: E402
import pcap_edit  # noqa: E402
import topology  # noqa: E402
from scenario_file import load  # noqa: E402
from smtp_peer import identity_of, message_of, text_hash  # noqa: E402

PROGRAM = os.environ.get("SMTPWITNESS") or os.path.join(PROJECT, "build", "smtpwitness")
RULES = os.path.join(PROJECT, "rules", "smtpwitness-rules")
TPROXY_PORT = 10025
# What a scenario's configuration says unless the scenario says otherwise: suspicion and notices come soon, because
# a scenario's stalls last seconds, not minutes.
WITNESS_DEFAULTS = {
    "timeouts": {"stall-notice": "1s"},
    "proxy": {"workers": "2", "probe-after": "1s", "drain": "5s"},
    "nfq": {"queues": "2", "probe-after": "1s"},
}
CONFIG = "/run/smtpwitness-scenario.conf"


class Failure(Exception):
    """The scenario could not be performed; the text is its one problem."""


class Lines:
    """Lines from many processes: kept per source, and told to the runner's queue."""

    def __init__(self):
        self.queue = queue.Queue()
        self.kept = {}
        self.came = {}  # as kept, with the times

    def follow(self, source, stream):
        self.kept.setdefault(source, [])

        def read():
            for raw in stream:
                self.add(source, raw.decode("utf-8", "replace").rstrip("\n"))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def add(self, source, line):
        self.came.setdefault(source, []).append((time.monotonic(), line))
        self.kept.setdefault(source, []).append(line)
        self.queue.put((source, line))

    def of(self, source):
        return list(self.kept.get(source, []))


class Worker:
    def __init__(self, scenario, way, directory, prefix, verbose):
        self.scenario, self.way, self.directory, self.verbose = scenario, way, directory, verbose
        self.mode = "nfq" if way == "nfq-bypass" else way
        self.live = os.path.join(directory, "live")
        self.started = time.monotonic()
        self.topology = topology.Topology(prefix, self.trace, scenario.topology.get("offload", False))
        self.lines = Lines()
        self.server = None          # Mta, or Popen of the scripted server
        self.clients = []           # (name, Popen or Mta)
        self.witness = None
        self.witness_exits = []
        self.capture = None         # tcpdump, in the ways whose packets are also replayed
        self.readers = {}
        self.done_marks = set()
        self.done_clients = set()
        self.events = {}            # source -> events of scripted peers
        self.sent = {}              # identity -> hash
        self.problems = []
        self.cells = {}             # way -> judgement

    def trace(self, text):
        if self.verbose:
            print(f"[{self.scenario.name} {self.way} {time.monotonic() - self.started:6.2f}] {text}", flush=True)

    def command(self, words, **options):
        self.trace(" ".join(words))
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)
        if done.returncode != 0:
            raise Failure(f"'{' '.join(words)}' failed ({done.returncode}): {(done.stderr or done.stdout).strip()[-600:]}")
        return done.stdout

    def wait(self, what, test, seconds):
        deadline = time.monotonic() + seconds
        while not test():
            if time.monotonic() > deadline:
                raise Failure(f"{what}: not within {seconds:g} s")
            time.sleep(0.05)

    # -- the private machine -----------------------------------------------------------------------------------

    def isolate(self):
        """A /run, a /dev and a scratch directory of our own."""
        os.makedirs(self.live, exist_ok=True)
        for words in (["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.live],
                      ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]):
            self.command(words)
        os.makedirs("/run/netns")
        os.makedirs("/run/lock", exist_ok=True)
        new = os.path.join(self.live, "dev")
        os.makedirs(new)
        self.command(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", new])
        for node in ("null", "zero", "full", "random", "urandom", "tty"):
            self.command(["cp", "-a", f"/dev/{node}", f"{new}/{node}"])
        for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            os.symlink(target, os.path.join(new, name))
        os.makedirs(os.path.join(new, "shm"))
        self.command(["mount", "--move", new, "/dev"])
        log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        log.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        log.bind("/dev/log")
        os.chmod("/dev/log", 0o666)
        self.lines.kept["syslog"] = []

        def read():
            while True:
                for line in log.recv(65536).decode("utf-8", "replace").rstrip("\n\0").split("\n"):
                    self.lines.add("syslog", line)

        threading.Thread(target=read, daemon=True).start()

    # -- the server --------------------------------------------------------------------------------------------

    def start_server(self):
        kind = self.scenario.server.get("kind", "postfix")
        if kind == "none":
            return
        if kind in mta.KINDS:
            directory = os.path.join(self.live, "server")
            shutil.rmtree(directory, ignore_errors=True)
            self.server = mta.Mta(directory, kind, self.topology.name("srv"), "server.test", topology.HOSTS,
                                  self.scenario.server.get("settings"), self.scenario.server.get("services", ()), self.trace)
            self.server.start()
        else:
            order = {key: self.scenario.server[key] for key in ("receive-buffer", "backlog", "accepts", "extensions") if key in self.scenario.server}
            order["scripts"] = self.scenario.server.get("scripts") or [self.scenario.server.get("script", ["greet", "serve"])]
            order["certificate"], order["key"] = self.certificate()
            self.server = self.start_peer("server", "srv", "server.py", order)

    def wait_server(self):
        if isinstance(self.server, mta.Mta):
            self.server.wait_ready()
        elif self.server is not None:
            self.wait("the scripted server listens", lambda: self.topology.listening("srv", 25), 10)

    def stop_server(self):
        if isinstance(self.server, mta.Mta):
            self.server.stop()
        elif self.server is not None:
            self.server.kill()
            self.server.wait()
        self.server = None

    def certificate(self):
        certificate, key = os.path.join(self.live, "server.pem"), os.path.join(self.live, "server.key")
        if not os.path.exists(key) and "tls" in json.dumps([self.scenario.server, self.scenario.clients]):
            names = range(self.scenario.server.get("certificate-octets", 0) // 20)
            more = ["-addext", "subjectAltName=" + ",".join(f"DNS:name{i:05}.server.test" for i in names)] if names else []
            self.command(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                          "-out", certificate, "-days", "2", "-subj", "/CN=server.test", *more])
        return certificate, key

    def start_peer(self, source, node, program, order):
        path = os.path.join(self.live, source + ".json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(order, file)
        words = self.topology.inside(node, ["/usr/bin/python3", "-u", os.path.join(TESTS, "peers", program), path])
        self.trace(" ".join(words))
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=open(os.path.join(self.live, source + ".stderr"), "wb"))
        self.events[source] = []
        self.readers[source] = self.lines.follow(source, process.stdout)
        return process

    # -- the witness -------------------------------------------------------------------------------------------

    def config_text(self):
        sections = {name: dict(values) for name, values in WITNESS_DEFAULTS.items()}
        for name, values in self.scenario.witness.items():
            if isinstance(values, dict):
                sections.setdefault(name, {}).update(values)
        if self.way == "nfq-bypass":
            sections["nfq"]["bypass"] = "yes"
        return "\n".join(f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
                         for name, values in sections.items())

    def write_config(self, text):
        with open(CONFIG, "w", encoding="utf-8") as file:
            file.write(text)
        self.trace("configuration:\n    " + text.strip().replace("\n", "\n    "))

    def start_witness(self, load_rules=True):
        if self.way == "forward":
            return
        if load_rules:
            self.write_config(self.config_text())
            self.start_capture()
        words = [PROGRAM, self.mode, "--config", CONFIG]
        if self.scenario.witness.get("read", "stderr") == "stderr":
            words.append("--foreground")
        words = self.topology.inside("mid", words)
        self.trace(" ".join(words))
        self.witness = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.readers["witness"] = self.lines.follow("witness", self.witness.stderr)

        def ready():
            if self.witness.poll() is not None:
                raise Failure(f"the witness ended at start ({self.witness.returncode}): {' / '.join(self.lines.of('witness')[-3:])}")
            if self.mode == "nfq":
                return any("nfq: ready" in line for line in self.witness_log())
            return self.topology.listening("mid", TPROXY_PORT)

        self.wait("the witness listens", ready, 15)
        if load_rules:
            more = ["--queues", "2"] if self.mode == "nfq" else []
            more += ["--bypass"] if self.way == "nfq-bypass" else []
            self.command(self.topology.inside("mid", [RULES, self.mode, "load", "--in-interface", "to-rc", "--port", "25"] + more))

    def witness_log(self):
        return self.lines.of("syslog" if self.scenario.witness.get("read") == "syslog" else "witness")

    def stop_witness(self, number=signal.SIGTERM, seconds=15):
        if self.witness is None:
            return
        if self.witness.poll() is None:
            self.trace(f"signal {signal.Signals(number).name} to the witness")
            self.witness.send_signal(number)
            try:
                self.witness.wait(seconds)
            except subprocess.TimeoutExpired:
                self.problems.append(f"the witness did not end within {seconds} s of {signal.Signals(number).name}")
                self.witness.kill()
                self.witness.wait()
        self.readers["witness"].join(5)
        self.witness_exits.append(self.witness.returncode)
        self.witness = None

    # -- the capture -------------------------------------------------------------------------------------------

    def capture_file(self):
        return os.path.join(self.live, "mid.pcap")

    def start_capture(self):
        """All packets on both sides of the hook, as an administrator would take them: `tcpdump -i any`."""
        if self.way != "nfq" or "replay" not in self.scenario.ways:
            return
        largest = "66000" if self.topology.offload else "2000"  # the ring of 32 MB has a slot of this size for each packet
        words = self.topology.inside("mid", ["tcpdump", "-i", "any", "-n", "-U", "--immediate-mode", "-B", "32768", "-s", largest,
                                             "-Z", "root", "-w", self.capture_file()])
        self.trace(" ".join(words))
        self.capture = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.readers["tcpdump"] = self.lines.follow("tcpdump", self.capture.stderr)
        self.wait("tcpdump listens", lambda: any("listening on" in line for line in self.lines.of("tcpdump")), 10)

    def stop_capture(self):
        if self.capture is None:
            return
        time.sleep(0.1)  # what came last is still on its way to it
        self.capture.terminate()
        self.capture.wait(10)
        self.readers["tcpdump"].join(5)

    def replay(self):
        """What the witness says about the capture: verdict lines as read_lines() gives them."""
        if self.scenario.capture:
            whole = os.path.join(self.live, "whole.pcap")
            os.rename(self.capture_file(), whole)
            pcap_edit.edit(whole, self.capture_file(), self.scenario.capture)
        words = [PROGRAM, "replay", "--config", CONFIG, "--format=json", self.capture_file()]
        self.trace(" ".join(words))
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        self.lines.kept["replay"] = (done.stdout + done.stderr).splitlines()
        problems = []
        if done.returncode != 0:
            problems.append(f"replay ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        lost = [line for line in self.lines.of("tcpdump") if "dropped by kernel" in line and not line.startswith("0 ")]
        problems += [f"the capture is not complete: {line}" for line in lost]
        found, malformed = expectations.read_json(done.stdout)
        return found, problems + malformed

    # -- clients -----------------------------------------------------------------------------------------------

    def start_client(self, index, client):
        name = client.get("name", f"client{index}")
        kind = client.get("kind", "scripted")
        if kind in mta.KINDS:
            # A mail server as a client: it gets its mail by submission and relays it to the server.
            settings = {"relayhost": "[server.test]"} if kind == "postfix" else {}
            settings.update(client.get("settings", {}))
            instance = mta.Mta(os.path.join(self.live, name), kind, self.topology.name("cli"), "client.test", topology.HOSTS,
                               settings, (), self.trace)
            instance.start()
            self.clients.append((name, instance))
            instance.wait_ready()
            for number in range(client.get("messages", 1)):
                identity = f"{name}-{number}"
                message = message_of(identity, client.get("size", 3000))
                self.sent[identity] = text_hash(message)
                self.trace(f"submit message {identity} ({len(message)} octets) to {name}")
                instance.submit(message.replace(b"\r\n", b"\n"), "u1@client.test", "u1@server.test")
            return
        order = {key: client[key] for key in ("sources", "parallel", "sessions", "stagger", "receive-buffer") if key in client}
        order["target"] = {"4": topology.SERVER4, "6": topology.SERVER6}.get(str(client.get("target", 4)), client.get("target"))
        order.setdefault("sources", [topology.CLIENT6 if ":" in order["target"] else topology.CLIENT4])
        order["scripts"] = client.get("scripts") or [client.get("script", ["hello", "mail", "quit"])]
        order["name"] = name
        self.clients.append((name, self.start_peer(name, "cli", "client.py", order)))

    def clients_busy(self):
        return any(isinstance(process, subprocess.Popen) and not self.session_over(name) for name, process in self.clients)

    def session_over(self, name):
        process = dict(self.clients)[name]
        if not isinstance(process, subprocess.Popen):
            return True
        return name in self.done_clients or self.stays(name) or (
            process.poll() is not None and not self.readers[name].is_alive())

    def stays(self, name):
        """All its sessions have reached `stay`: they hold their connections until the run is over."""
        client = next(client for index, client in enumerate(self.scenario.clients) if client.get("name", f"client{index}") == name)
        staying = sum(event["event"] == "staying" for event in self.events[name])
        return staying > 0 and staying >= client.get("parallel", 1)

    # -- actions -----------------------------------------------------------------------------------------------

    def perform(self, action):
        if self.mode not in action.get("ways", (self.mode,)):
            return
        within = action.get("within", 15)
        if "run" in action:
            self.topology.shell(action["on"], action["run"])
        elif "signal" in action:
            words = (action["to"], action.get("process"))
            self.send_signal(getattr(signal, "SIG" + action["signal"]), *words)
            if "wakes-after" in action:
                timer = threading.Timer(action["wakes-after"], self.send_signal, (signal.SIGCONT, *words))
                timer.daemon = True
                timer.start()
        elif "stop-server" in action:
            self.trace("stop the server")
            self.stop_server()
        elif "start-server" in action:
            self.start_server()
            self.wait_server()
        elif self.way == "forward":
            return
        elif "config" in action:
            self.write_config(action["config"])
        elif "start-witness" in action:
            if self.witness is not None:
                self.wait("the old witness ended", lambda: self.witness.poll() is not None, within)
                self.stop_witness()
            self.start_witness(load_rules=False)
        elif "wait-log" in action:
            pattern = re.compile(action["wait-log"])
            self.wait(f"the witness's log has '{action['wait-log']}'", lambda: any(map(pattern.search, self.witness_log())), within)

    def send_signal(self, number, receiver, process):
        self.trace(f"signal {number.name} to the {receiver}")
        if receiver == "witness":
            if self.way != "forward":
                self.witness.send_signal(number)
            return
        target = self.server if receiver == "server" else next(
            (process for name, process in self.clients if receiver in ("client", name)), None)
        if target is None:
            raise Failure(f"signal {number.name}: no {receiver} is running")
        if isinstance(target, mta.Mta):
            if target.signal(number, process) == 0:
                raise Failure(f"signal {number.name}: no process '{process}' in the {receiver}")
        else:
            target.send_signal(number)

    def perform_at(self, moment):
        for action in self.scenario.actions:
            if action.get("at", "start") == moment:
                self.perform(action)

    # -- the course --------------------------------------------------------------------------------------------

    def run(self):
        deadline = self.started + self.scenario.seconds
        self.isolate()
        self.topology.up()
        self.start_server()  # starts while the witness does
        self.start_witness()
        self.wait_server()
        self.perform_at("start")
        begun = time.monotonic()
        due = [(begun + action["at"], action) for action in self.scenario.actions if isinstance(action.get("at"), (int, float))]
        due += [(begun + float(client.get("at", 0)), client) for client in self.scenario.clients if "after" not in client]
        later = [client for client in self.scenario.clients if "after" in client]
        due.sort(key=lambda pair: pair[0])
        numbers = {id(client): index for index, client in enumerate(self.scenario.clients)}
        while due or later or self.clients_busy():
            for client in list(later):
                if any(name == client["after"] and self.session_over(name) for name, _ in self.clients):
                    later.remove(client)
                    due.append((time.monotonic() + float(client.get("at", 0)), client))
                    due.sort(key=lambda pair: pair[0])
            now = time.monotonic()
            if now > deadline:
                raise Failure(f"not over after {self.scenario.seconds} s: {self.unfinished()}")
            while due and due[0][0] <= now:
                _, item = due.pop(0)
                if id(item) in numbers:
                    self.start_client(numbers[id(item)], item)
                else:
                    self.perform(item)
            try:
                self.take(*self.lines.queue.get(timeout=0.05))
                self.drain_queue()
            except queue.Empty:
                pass
        self.trace("the clients are done")
        self.perform_at("clients-done")
        self.await_mail(deadline)
        self.await_lines(deadline)
        self.drain_queue()
        self.perform_at("end")
        self.stop_witness()
        self.stop_capture()
        self.drain_queue()

    def unfinished(self):
        return ", ".join(name for name, process in self.clients if isinstance(process, subprocess.Popen) and not self.session_over(name))

    def drain_queue(self):
        while True:
            try:
                self.take(*self.lines.queue.get_nowait())
            except queue.Empty:
                return

    def take(self, source, line):
        """One line from a process: an event of a scripted peer, or the witness's."""
        self.trace(f"{source}> {line}")
        if source not in self.events:
            return
        try:
            event = json.loads(line)
        except ValueError:
            raise Failure(f"{source} said '{line}'") from None
        self.events[source].append(event)
        if event["event"] == "sent":
            self.sent[event["id"]] = event["hash"]
        elif event["event"] == "done":
            self.done_clients.add(source)
        elif event["event"] == "mark":
            first = event["name"] not in self.done_marks
            self.done_marks.add(event["name"])
            if first:
                self.perform_at("mark " + event["name"])
            process = self.server if source == "server" else dict(self.clients)[source]
            if process is not None:
                try:
                    process.stdin.write(f"go {event['name']}\n".encode())
                    process.stdin.flush()
                except BrokenPipeError:
                    pass

    # -- what came ---------------------------------------------------------------------------------------------

    def received(self):
        """What the server got: from its mailbox, or what the scripted server said."""
        if isinstance(self.server, mta.Mta):
            return [identity_of(mail) for mail in self.server.mails()]
        return [(event["id"], event["hash"]) if event["id"] else None for event in self.events.get("server", [])
                if event["event"] == "received"]

    def await_mail(self, deadline):
        """Real servers deliver after they have answered, real clients send when they please."""
        for item in self.scenario.expected("mail", self.way):
            least = expectations.count_of({"count": item["delivered"]})[0]
            until = min(deadline, time.monotonic() + 30)
            while time.monotonic() < until and len(self.received()) < least:
                self.drain_queue()
                time.sleep(0.1)

    def await_lines(self, deadline):
        """The verdicts may come a little after the client has gone."""
        if self.way == "forward":
            return
        least = sum(expectations.count_of(item)[0] for item in self.scenario.expected("verdict", self.way))
        until = min(deadline, time.monotonic() + self.scenario.settle)
        while time.monotonic() < until:
            found, _ = expectations.read_lines(self.witness_log())
            if len(found["verdict"]) >= least:
                break
            time.sleep(0.1)
        time.sleep(0.2)  # one too many would come now

    def check(self):
        problems = self.problems
        sessions = [event for name, process in self.clients if isinstance(process, subprocess.Popen)
                    for event in self.events[name] if event["event"] == "session"]
        problems += expectations.check_clients(self.scenario.expected("client", self.way), sessions)
        for item in self.scenario.expected("mail", self.way):
            problems += expectations.check_mail(item["delivered"], self.sent, self.received())
        self.check_log("server-log", self.server.log() if isinstance(self.server, mta.Mta) else "")
        self.check_log("client-log", "".join(client.log() for _, client in self.clients if isinstance(client, mta.Mta)))
        if self.way == "forward":
            return
        log = self.witness_log()
        self.check_log("witness-log", "\n".join(log))
        wanted = self.scenario.expect.get("witness-exit", [0])
        if self.witness_exits != wanted:
            tail = " / ".join(self.lines.of("witness")[-3:])
            problems.append(f"the witness ended with {self.witness_exits}, expected {wanted}: {tail}")
        for line in self.lines.of("witness"):
            if "Sanitizer" in line or "runtime error:" in line:
                problems.append(f"a sanitizer spoke: {line}")
                break
        found, malformed = expectations.read_lines(log)
        problems += malformed
        self.cells[self.way] = self.judge(self.way, found)
        self.check_delays(self.cells[self.way])
        if self.capture is not None:
            again, spoilt = self.replay()
            self.cells["replay"] = self.judge("replay", again)
            if not self.scenario.capture:
                self.cells["replay"]["problems"] += expectations.check_same(found["verdict"], again["verdict"])
            self.cells["replay"]["spoilt"] = spoilt

    def judge(self, way, found):
        """The judgement of what was said in a way: what differs, and what that makes of it."""
        problems = expectations.check_lines("verdict", self.scenario.expected("verdict", way), found["verdict"], True)
        if way != "replay":  # which tells no stalls: they are over
            for kind in ("stall", "refusal", "forecast"):
                problems += expectations.check_lines(kind, self.scenario.expected(kind, way), found[kind], False)
        for text, values in found["verdict"]:
            problems += expectations.check_ledger(text, values)
            if values.get("mode") != (way if way == "replay" else self.mode):
                problems.append(f"expected another mode: {text}")
        return {"problems": problems, "said": [expectations.summary(values) for _, values in found["verdict"]],
                "faults": [values.get("fault") for _, values in found["verdict"]],
                "naive": expectations.naive_lines(self.scenario.naive, found),
                "honest": expectations.only_honest(self.scenario.expected("verdict", way), found["verdict"])}

    def check_delays(self, cell):
        """How long each verdict took after what decided it; where the scripts say what that was."""
        within = self.scenario.expect.get("decided-within")
        if within is None:
            return
        decisions = {event["client"]: event["at"] for events in self.events.values() for event in events if event["event"] == "decides"}
        source = "syslog" if self.scenario.witness.get("read") == "syslog" else "witness"
        cell["delays"], problems = expectations.delays(decisions, self.lines.came.get(source, ()))
        cell["problems"] += problems + expectations.check_delays(within, cell["delays"])

    def check_log(self, key, text):
        for pattern in self.scenario.expect.get(key, []):
            if not re.search(pattern, text, re.MULTILINE):
                self.problems.append(f"{key}: expected '{pattern}'; it ended: {text[-300:].strip()!r}")
        for pattern in self.scenario.expect.get(key + "-absent", []):
            match = re.search(f".*{pattern}.*", text)
            if match:
                self.problems.append(f"{key}: expected no '{pattern}', got: {match.group(0)}")

    def save_logs(self):
        folder = os.path.join(self.directory, "logs")
        os.makedirs(folder, exist_ok=True)
        texts = {source + ".log": "\n".join(lines) + "\n" for source, lines in self.lines.kept.items()}
        if isinstance(self.server, mta.Mta):
            texts["server.log"] = self.server.log()
        for name, client in self.clients:
            if isinstance(client, mta.Mta):
                texts[name + ".log"] = client.log()
        if os.path.exists(self.capture_file()):
            shutil.copy(self.capture_file(), folder)
        for name in os.listdir(self.live):
            if name.endswith(".stderr"):
                with open(os.path.join(self.live, name), encoding="utf-8", errors="replace") as file:
                    texts[name] = file.read()
        for name, text in texts.items():
            if text.strip():
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(text)


def result_of(worker):
    """What was judged for each way. What went wrong with the run itself spoils all of them."""
    cells = worker.cells
    if not cells:
        cells[worker.way] = {"problems": [], "said": [], "naive": [], "honest": False}
    for cell in cells.values():
        spoilt = worker.problems + cell.pop("spoilt", [])
        if spoilt:
            cell["verdict"] = "failed"
        elif cell["naive"]:
            cell["verdict"] = "naive"
        elif not cell["problems"]:
            cell["verdict"] = "right"
        else:
            cell["verdict"] = "honest-unknown" if cell["honest"] else "wrong"
        cell["problems"] = spoilt + [f"the naive verdict: {text}" for text in cell.pop("naive")] + cell["problems"]
        del cell["honest"]
    return cells


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    path, name, way, directory, prefix = words
    verbose, keep = "--verbose" in sys.argv, "--keep" in sys.argv
    worker = Worker(next(scenario for scenario in load(path) if scenario.name == name), way, directory, prefix, verbose)
    try:
        worker.run()
        worker.check()
    except (Failure, mta.MtaError, RuntimeError, OSError, ValueError) as error:
        worker.problems.insert(0, f"{error}" if isinstance(error, (Failure, mta.MtaError, RuntimeError)) else repr(error))
    cells = result_of(worker)
    if keep or any(cell["problems"] for cell in cells.values()):
        worker.save_logs()
    with open(os.path.join(directory, "result.json"), "w", encoding="utf-8") as file:
        json.dump(cells, file)
    if keep:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # run.py ends it, and says how to enter
        while True:
            time.sleep(3600)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
