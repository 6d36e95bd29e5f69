"""What becomes of mail when the proxy dies, hangs, stops or is full, with the real rules loaded. Run by run.sh."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from lab import (ADDRESS, CLIENT, FIREWALL, PROGRAM, ROUTER, Witness, claim, connect, ending, inside, listen, reset, rule, run, run_tests,
                 text_of, until)

RULES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "rules", "smtpwitness-rules")
BOUND = 5.0  # seconds after a death or a hang in which every new connection must be through
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17


def rules(*words):
    done = subprocess.run(["ip", "netns", "exec", ROUTER, RULES, "proxy", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@contextlib.contextmanager
def loaded(*words):
    status, said = rules("load", "--in-interface", "r0", *words)
    if status != 0:
        raise RuntimeError(said)
    try:
        yield
    finally:
        rules("unload")


class Server:
    """Greets everybody, answers every line with 250, in both families."""

    def __enter__(self):
        self.listeners = [listen(4), listen(6)]
        for listener in self.listeners:
            listener.settimeout(None)
            threading.Thread(target=self.accept, args=(listener,), daemon=True).start()
        return self

    def __exit__(self, *_):
        for listener in self.listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=(listener.accept()[0],), daemon=True).start()

    @staticmethod
    def serve(session):
        with contextlib.suppress(OSError), session:
            session.sendall(b"220 server.test ESMTP\r\n")
            while line := session.recv(1000):
                session.sendall(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 ok\r\n")
                if line.startswith(b"QUIT"):
                    return


class Attempt(threading.Thread):
    """One short session; how long it took from the first SYN to the greeting, and how it went."""

    def __init__(self, version, timeout=2 * BOUND + 5):
        super().__init__(daemon=True)
        self.version, self.timeout = version, timeout
        self.name_text, self.seconds, self.outcome = "", None, "waiting"
        self.begun = time.monotonic()
        self.start()

    def run(self):
        try:
            client = connect(self.version, timeout=self.timeout, wait=False)
            client.connect(("10.81.3.2" if self.version == 4 else "fd81:3::2", 25))
            self.outcome = "connected"
            greeting = client.recv(100)
            self.seconds = time.monotonic() - self.begun
            client.sendall(b"QUIT\r\n")
            ending(client)
            self.name_text = text_of(client)
            client.close()
            self.outcome = "mail" if greeting.startswith(b"220 ") else "refused"
        except ConnectionError:
            self.outcome = "reset"
        except TimeoutError:
            self.outcome = "timeout"


def attempts(seconds, every=0.25):
    """New connections of both families, one after the other, for so long."""
    made = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        made += [Attempt(4), Attempt(6)]
        time.sleep(every)
    return made


def both():
    pair = [Attempt(4), Attempt(6)]
    for attempt in pair:
        attempt.join(BOUND + 6)
    return pair


def witnessed(witness, attempt):
    return bool(witness.verdict_of(attempt.name_text, 0.5))


def taken_again(witness):
    """Seconds until both families are intercepted."""
    begun = time.monotonic()
    for version in (4, 6):
        def taken(version=version):
            attempt = Attempt(version)
            attempt.join(BOUND + 6)
            return attempt.outcome == "mail" and witnessed(witness, attempt)
        if not until(taken, BOUND):
            return None
    return time.monotonic() - begun


def bounded(made, text):
    for attempt in made:
        attempt.join(BOUND + 6)
    outcomes = sorted({attempt.outcome for attempt in made})
    slowest = max((attempt.seconds for attempt in made if attempt.seconds is not None), default=99)
    claim(outcomes == ["mail"] and slowest < BOUND, text, f"{len(made)} connections, the slowest {slowest:.1f} s, {outcomes}")


def hold(version):
    client = connect(version)
    client.recv(100)
    return client


def still_talks(client):
    client.settimeout(3)
    try:
        client.sendall(b"NOOP\r\n")
        return client.recv(100) == b"250 ok\r\n"
    except OSError:
        return False


def test_never_started():
    with Server():
        both()  # neighbours are known from now on
        never_started_loaded()


def never_started_loaded():
    with loaded():
        pair = both()
        claim(all(a.outcome == "mail" and a.seconds < 1 for a in pair), "rules without a witness intercept nothing, at once",
              f"{pair[0].seconds} s, {pair[1].seconds} s")
        claim("no sign of life" in rules("status")[1], "... and status says so")
        with Witness() as witness:
            seconds = taken_again(witness)
            claim(seconds is not None, "a witness started after the rules is seen", f"{seconds} s")
            claim("gives signs of life" in rules("status")[1], "... and status says so")
            claim(until(lambda: any("fail open" in line for line in witness.messages), 2), "... and so does its log")
            rules("unload")
            with loaded():
                seconds = taken_again(witness)
                claim(seconds is not None, "rules unloaded and loaded again under a running witness take connections", f"{seconds} s")


def test_killed():
    with Server(), loaded():
        with Witness() as witness:
            taken_again(witness)
            held = [hold(4), hold(6)]
            witness.process.kill()
            witness.process.wait()  # while it is dying the kernel still accepts, and resets
            killed = time.monotonic()
            bounded(attempts(3.5), "after kill -9 every new connection reaches the server")
            claim(all(ending(client)[1] == "reset" for client in held), "... the open ones were reset")
        pair = both()
        claim(all(a.outcome == "mail" and a.seconds < 1 for a in pair), "... and later ones pass at once",
              f"{time.monotonic() - killed:.1f} s after")
        passing = [hold(4), hold(6)]
        with Witness() as witness:
            seconds = taken_again(witness)
            claim(seconds is not None, "a new witness is seen", f"{seconds} s")
            claim(all(still_talks(client) for client in passing), "... and what passed meanwhile goes on")


def test_stopped_for_good():
    """SIGSTOP: what the kernel accepted for us in the first two seconds waits; everything later passes."""
    with Server(), loaded(), Witness() as witness:
        taken_again(witness)
        held = hold(4)
        witness.process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        made = attempts(4.5)
        late = [a for a in made if a.begun - begun > 2.7]
        bounded(late, "a hung witness: new connections pass")
        queued = [a for a in made if a.outcome == "connected"]
        claim(all(a.begun - begun < 2.7 for a in queued), "... all that wait came in the first seconds",
              f"{len(queued)} of {len(made)}, the last at {max((a.begun - begun for a in queued), default=0):.1f} s")
        witness.process.send_signal(signal.SIGCONT)
        for attempt in queued:
            attempt.join(5)
        claim(queued and all(a.outcome == "mail" for a in queued), "... those are served when it goes on")
        claim(still_talks(held), "... and so is what was open")
        seconds = taken_again(witness)
        claim(seconds is not None, "... and new ones are taken again", f"{seconds} s")
        witness.process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        waiting = [Attempt(4), Attempt(6)]
        until(lambda: all(a.outcome == "connected" for a in waiting), 3)
        witness.process.kill()
        for attempt in waiting:
            attempt.join(3)
        claim(all(a.outcome == "reset" for a in waiting), "... when it is killed instead, they are reset and come again",
              f"{[a.outcome for a in waiting]}")


@contextlib.contextmanager
def frozen(thread):
    """Stops one thread of another process, as a deadlock would; the whole of it in a thread of ours, as ptrace wants."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    over, stopped = threading.Event(), threading.Event()

    def hold_it():
        libc.ptrace(PTRACE_SEIZE, thread, None, None)
        libc.ptrace(PTRACE_INTERRUPT, thread, None, None)
        os.waitpid(thread, 0x40000000)  # __WALL
        stopped.set()
        over.wait()
        libc.ptrace(PTRACE_DETACH, thread, None, None)

    holder = threading.Thread(target=hold_it)
    holder.start()
    if not stopped.wait(5):
        raise RuntimeError("the thread could not be stopped")
    try:
        yield
    finally:
        over.set()
        holder.join()


def worker_threads(process):
    """All but the main thread and that of the log."""
    found = []
    for thread in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{thread}/syscall", encoding="ascii") as call:
            if int(thread) != process.pid and call.read().split()[0] in ("232", "281"):  # epoll_wait, epoll_pwait
                found.append(int(thread))
    return found


def test_worker_hangs():
    if os.uname().machine != "x86_64":
        print("# skipped: the system calls of a thread are known by their numbers on x86_64")
        return
    with Server(), loaded(), Witness() as witness:
        taken_again(witness)
        with frozen(worker_threads(witness.process)[0]):
            begun = time.monotonic()
            until(lambda: any("hangs" in line for line in witness.messages), BOUND)
            claim(time.monotonic() - begun < 4, "a thread that hangs is noticed", f"{time.monotonic() - begun:.1f} s")
            made = attempts(0.5)
            bounded(made, "... and new connections pass")
            claim(not any(witnessed(witness, a) for a in made), "... unseen")
        seconds = taken_again(witness)
        claim(seconds is not None, "... until it goes on", f"{seconds} s")


def test_orderly():
    with Server(), loaded(), Witness(drain="10s") as witness:
        taken_again(witness)
        held = hold(4)
        witness.process.send_signal(signal.SIGTERM)
        until(lambda: any("stopping" in line for line in witness.messages), 3)
        made = both()
        claim(all(a.outcome == "mail" and a.seconds < 0.9 for a in made), "SIGTERM: new connections pass at once",
              f"{[a.seconds for a in made]}")
        claim(still_talks(held), "... and what was open goes on")
        held.close()


def test_full():
    with Server(), loaded(), Witness(max_sessions=2) as witness:
        taken_again(witness)
        held = [hold(4), hold(6)]
        claim(until(lambda: any("full: new connections pass by" in line for line in witness.messages), 3), "max-sessions is said")
        made = both()
        claim(all(a.outcome == "mail" and a.seconds < 0.9 for a in made), "... new connections pass instead of waiting",
              f"{[a.seconds for a in made]}")
        for client in held:
            client.close()
        seconds = taken_again(witness)
        claim(seconds is not None, "... until sessions end", f"{seconds} s")


def test_both():
    """The packet hook beside the proxy sees what passes it by, and nothing else."""
    with Server(), loaded(), Witness() as witness:
        config = witness.config.name
        ours = ["ip", "netns", "exec", ROUTER]
        subprocess.run([*ours, RULES, "nfq", "load", "--in-interface", "r0"], check=True)
        with subprocess.Popen([*ours, PROGRAM, "nfq", "--config", config, "--foreground", "--format=json"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as hook:
            for line in hook.stderr:
                if "nfq: ready" in line:
                    break
            threading.Thread(target=hook.stderr.read, daemon=True).start()
            seen = []

            def read_records():
                for line in hook.stdout:
                    seen.append(json.loads(line).get("client"))

            reader = threading.Thread(target=read_records)
            reader.start()
            taken_again(witness)
            proxied = both()
            witness.process.kill()
            witness.process.wait()
            time.sleep(2.2)
            passing = both()
            claim(until(lambda: {a.name_text for a in passing} <= set(seen), 10), "the packet hook sees what passes a dead proxy by")
            claim(not {a.name_text for a in proxied} & set(seen), "... and not what the proxy took")
            hook.terminate()
            reader.join(10)
        subprocess.run([*ours, RULES, "nfq", "unload"], check=True)


def test_closed():
    with Server(), loaded("--fail", "closed"):
        with Witness(fail="closed") as witness:
            seconds = taken_again(witness)
            claim(seconds is not None, "fail = closed: connections are taken")
            witness.process.kill()
            witness.process.wait()
            made = [Attempt(4, 4), Attempt(6, 4)]
            for attempt in made:
                attempt.join(6)
            claim([a.outcome for a in made] == ["timeout", "timeout"], "... and dropped when the witness is dead",
                  f"{[a.outcome for a in made]}")
        claim("fails closed" in rules("status")[1], "... and status says so")

def ended(version, by_server):
    """The port of a session that has ended; whoever ended it last has nothing left of it but the router."""
    client = hold(version)
    port = client.getsockname()[1]
    if by_server:
        client.sendall(b"QUIT\r\n")
    else:
        client.shutdown(socket.SHUT_WR)
    ending(client)
    client.close()
    return port


def greeted_again(version, port):
    begun = time.monotonic()
    try:
        client = connect(version, 8, source_port=port)
        client.recv(100)
        client.close()
    except OSError as error:
        return error.__class__.__name__
    return time.monotonic() - begun


def time_wait(*words):
    with inside(ROUTER):
        return subprocess.run(["ss", "-Htn", *words, "state", "time-wait"], capture_output=True, text=True, check=True).stdout


def used_again(way, past):
    """Sessions through the witness, then `past` makes new ones pass it by: do the same ports work at once?"""
    with Server(), loaded(), Witness() as witness:
        taken_again(witness)
        ports = [(version, ended(version, by_server)) for version in (4, 6) for by_server in (True, False) for _ in range(2)]
        left = time_wait()
        if not all(f":{port} " in left or f":{port}\n" in left for _, port in ports):
            claim(False, f"{way}: the router has the sessions in TIME_WAIT", left)
        past(witness)
        left = time_wait() if way == "rules unload, early_demux=1" else ""
        if left:
            time_wait("-K")
            if time_wait():
                print(f"# skipped: {way}: this kernel does not let go of TIME_WAIT (ss -K)", flush=True)
            else:
                claim(False, f"{way}: what the kernel keeps has gone with the rules", left)
            return
        outcomes = [(version, greeted_again(version, port)) for version, port in ports]
        good = all(isinstance(seconds, float) and seconds < 2.5 for _, seconds in outcomes)
        claim(good, f"{way}: a port used again passes",
              " ".join(f"v{version}:{seconds if isinstance(seconds, str) else round(seconds, 2)}" for version, seconds in outcomes))


def test_port_used_again():
    """What the router keeps of a session for a minute must not catch a new connection from the same port that passes us by."""
    def killed(witness):
        witness.process.kill()
        witness.process.wait()
        time.sleep(2.2)

    # The client keeps nothing: its kernel would not use a port again that is in TIME_WAIT.
    run(CLIENT, "sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=0")
    for demux in (1, 0):
        run(ROUTER, "sysctl", "-qw", f"net.ipv4.tcp_early_demux={demux}")
        used_again(f"killed, early_demux={demux}", killed)
        used_again(f"rules unload --keep-open, early_demux={demux}", lambda _: rules("unload", "--keep-open"))
        used_again(f"rules unload, early_demux={demux}", lambda _: rules("unload"))
    run(ROUTER, "sysctl", "-qw", "net.ipv4.tcp_early_demux=1")


def dialogue(witness, listener, version, address):
    """A session through the witness to EHLO; the client's socket and the server's."""
    client = connect(version, wait=False)
    client.connect((address, 25))
    server, _ = listener.accept()
    server.settimeout(10)
    server.sendall(b"220 x\r\n")
    client.recv(100)
    client.sendall(b"EHLO c\r\n")
    server.recv(100)
    time.sleep(0.1)
    return client, server


def lost_reply(witness, listener, version, address):
    """The server spoke, and its octets were lost before us."""
    client, server = dialogue(witness, listener, version, address)
    with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--sport", "25", "--tcp-flags", "PSH", "PSH", "-j", "DROP"):
        server.sendall(b"250 lost\r\n")
        time.sleep(3)
        reset(client)
        return witness.verdict_of(client)


def lost_command(witness, listener, version, address):
    """The client spoke, and its octets were lost before us: not in its own host, whose kernel would know."""
    client, server = dialogue(witness, listener, version, address)
    server.sendall(b"250 x\r\n")
    client.recv(100)
    time.sleep(0.2)
    with rule(ROUTER, version, "PREROUTING", "-t", "raw", "-i", "r0", "-p", "tcp", "--dport", "25", "--tcp-flags", "PSH", "PSH", "-j", "DROP"):
        client.sendall(b"MAIL FROM:<a@b>\r\n")
        time.sleep(3)
        server.sendall(b"421 4.4.2 x timeout\r\n")
        server.close()
        time.sleep(0.2)
        reset(client)
        return witness.verdict_of(client)


def forged_reset(witness, listener, version, address):
    """A box between us and the server ends the session in the server's name."""
    client, _ = dialogue(witness, listener, version, address)
    with rule(FIREWALL, version, "FORWARD", "-p", "tcp", "--dport", "25", "-j", "REJECT", "--reject-with", "tcp-reset"):
        client.sendall(b"NOOP\r\n")
        ending(client)
    return witness.verdict_of(client)


def told(record):
    return " ".join(f"{key}={record.get(key)}" for key in ("fault", "cause", "confidence", "also", "probe", "notes"))


def test_translated():
    """The server's address is translated on this router (DNAT): the tap knows the packets of both legs all the same."""
    public = {4: "10.81.1.1", 6: "fd81:1::1"}
    pairs = ",".join(f"{public[version]}={ADDRESS[version]['sv']}" for version in public)
    with contextlib.ExitStack() as stack:
        for version in public:
            stack.enter_context(rule(ROUTER, version, "PREROUTING", "-t", "nat", "-d", public[version], "-p", "tcp", "--dport", "25",
                                     "-j", "DNAT", "--to-destination", ADDRESS[version]["sv"]))
        stack.enter_context(loaded("--translated", pairs))
        witness = stack.enter_context(Witness())
        rules("load", "--in-interface", "r0", "--translated", pairs)  # waits for a sign of life
        for version in public:
            with listen(version) as listener:
                record = lost_reply(witness, listener, version, public[version])
                claim((record.get("probe"), record.get("cause"), record.get("fault")) == ("revealed", "octets-lost", "server-network"),
                      f"translated, v{version}: a reply lost before us is revealed", told(record))
                claim("other-port" in record.get("notes", ""), "... and the verdict says that the server sees another port", told(record))
                record = lost_command(witness, listener, version, public[version])
                claim((record.get("probe"), record.get("cause"), record.get("fault")) == ("revealed", "octets-lost", "client-network"),
                      f"translated, v{version}: a command lost before us is revealed", told(record))
                record = forged_reset(witness, listener, version, public[version])
                claim((record.get("cause"), record.get("fault")) == ("reset-injected", "middlebox"),
                      f"translated, v{version}: a forged reset is told by its TTL", told(record))


def test_source_translated():
    """The router translates the clients' addresses (SNAT): the server leg's packets are not known to the tap, and nobody is
    accused with certainty for want of it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(rule(ROUTER, 4, "POSTROUTING", "-t", "nat", "-o", "r1", "-p", "tcp", "--dport", "25", "-j", "SNAT", "--to-source", "10.81.2.1"))
        stack.enter_context(loaded())
        witness = stack.enter_context(Witness())
        rules("load", "--in-interface", "r0")
        with listen(4) as listener:
            record = lost_reply(witness, listener, 4, ADDRESS[4]["sv"])
            claim("server-network" in (record.get("fault"), *record.get("also", [])) and
                  (record.get("fault"), record.get("confidence")) != ("server", "certain"),
                  "source translation: a reply lost before us may be the network's", told(record))
            record = forged_reset(witness, listener, 4, ADDRESS[4]["sv"])
            claim(record.get("fault") in ("middlebox", "unknown") or record.get("confidence") != "certain",
                  "source translation: a forged reset is not the server's with certainty", told(record))
            record = lost_command(witness, listener, 4, ADDRESS[4]["sv"])
            claim((record.get("probe"), record.get("cause"), record.get("fault")) == ("revealed", "octets-lost", "client-network"),
                  "source translation: a command lost before us is revealed as ever", told(record))


sys.exit(run_tests(dict(globals())))
