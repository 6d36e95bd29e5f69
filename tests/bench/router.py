"""The testbed: a mail source, a router and a mail sink, each in a network namespace of its own.

    PREFIX-c --- 10.77.1.0/24 --- PREFIX-r --- 10.77.2.0/24 --- PREFIX-s
    source .2                  .1  router  .1                  .2  sink

The router is where the program under test runs. Everything is new for each program and round: what a proxy leaves in
TIME_WAIT would slow the next one down."""

import os
import signal
import subprocess
import time

SERVER = "10.77.2.2"
CLIENT_INTERFACE = "rc"
SYSCTLS = (
    "net.ipv4.ip_local_port_range=1024 65535",
    "net.ipv4.tcp_tw_reuse=1",
    "net.ipv4.tcp_max_syn_backlog=16384",
    "net.core.somaxconn=16384",
    "net.ipv4.tcp_max_tw_buckets=200000",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
)


class BenchError(Exception):
    """The run cannot go on; the text says why."""


def command(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip() or f'status {done.returncode}'}")
    return done.stdout


class Router:
    """Owns the namespaces and every process started in them."""

    def __init__(self, prefix, folder):
        self.prefix = prefix
        self.folder = folder
        self.processes = []
        os.makedirs(folder, exist_ok=True)

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            stop(process)
        for name in "crs":
            if os.path.exists(f"/run/netns/{self.prefix}-{name}"):
                command("ip", "netns", "del", f"{self.prefix}-{name}")

    def _build(self):
        for name in "crs":
            command("ip", "netns", "add", f"{self.prefix}-{name}")
            command("ip", "-n", f"{self.prefix}-{name}", "link", "set", "lo", "up")
        self._link("c", "c0", "10.77.1.2/24", "rc", "10.77.1.1/24")
        self._link("s", "s0", "10.77.2.2/24", "rs", "10.77.2.1/24")
        for name, gateway in (("c", "10.77.1.1"), ("s", "10.77.2.1")):
            command("ip", "-n", f"{self.prefix}-{name}", "route", "add", "default", "via", gateway)
        for name in "crs":
            self.inside(name, "sysctl", "-qw", *SYSCTLS)
        self.inside("r", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.rc.rp_filter=0", "net.ipv4.conf.rs.rp_filter=0")

    def _link(self, end, device, address, router_device, router_address):
        end, router = f"{self.prefix}-{end}", f"{self.prefix}-r"
        command("ip", "link", "add", device, "netns", end, "type", "veth", "peer", "name", router_device, "netns", router)
        for name, interface, text in ((end, device, address), (router, router_device, router_address)):
            command("ip", "-n", name, "addr", "add", text, "dev", interface)
            command("ip", "-n", name, "link", "set", interface, "up")

    def inside(self, name, *words):
        """Runs a command in the source's (c), router's (r) or sink's (s) namespace."""
        return command("ip", "netns", "exec", f"{self.prefix}-{name}", *words)

    def small_packets(self):
        """From now on packets of 1500 octets cross the router, as on a wire, not 64 kB at once."""
        for name, device in (("c", "c0"), ("r", "rc"), ("r", "rs"), ("s", "s0")):
            self.inside(name, "ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off")

    def spawn(self, name, log, *words, **options):
        """Starts a process in a namespace; it is stopped with the router."""
        with open(os.path.join(self.folder, log), "wb") as output:
            options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **options}
            process = subprocess.Popen(("ip", "netns", "exec", f"{self.prefix}-{name}") + words, **options)
        self.processes.append(process)
        return process

    def wait_for_port(self, name, port, process):
        """Until something listens there."""
        for _ in range(400):
            if self.inside(name, "ss", "-Hltn", f"sport = :{port}").strip():
                return
            if process.poll() is not None:
                raise BenchError(f"{process.args[4]} ended with status {process.returncode}, see {self.folder}")
            time.sleep(0.02)
        raise BenchError(f"nothing listens on port {port}, see {self.folder}")

    def wait_for_queue(self, number, process):
        """Until somebody holds that packet queue."""
        for _ in range(400):
            if any(line.split()[0] == str(number) for line in
                   self.inside("r", "cat", "/proc/net/netfilter/nfnetlink_queue").splitlines()):
                return
            if process.poll() is not None:
                raise BenchError(f"{process.args[4]} ended with status {process.returncode}, see {self.folder}")
            time.sleep(0.02)
        raise BenchError(f"nobody took queue {number}, see {self.folder}")

    def intercept(self, port):
        """The least rules a transparent proxy needs, as its manual shows them."""
        self.inside("r", "ip", "rule", "add", "fwmark", "0x77", "lookup", "77")
        self.inside("r", "ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "77")
        for rule in (
            "-N DIVERT",
            "-A DIVERT -j MARK --set-mark 0x77",
            "-A DIVERT -j ACCEPT",
            "-A PREROUTING -p tcp -m socket --transparent -j DIVERT",
            f"-A PREROUTING -i {CLIENT_INTERFACE} -p tcp --dport 25 -j TPROXY --tproxy-mark 0x77 --on-port {port}",
        ):
            self.inside("r", "iptables", "-w", "-t", "mangle", *rule.split())


def queue_everything(router, number):
    """The least rules a packet queue needs."""
    router.inside("r", "iptables", "-w", "-t", "mangle", "-A", "FORWARD", "-p", "tcp", "-m", "multiport", "--ports", "25",
                  "-j", "NFQUEUE", "--queue-num", str(number), "--queue-bypass")


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
