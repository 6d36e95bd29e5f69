"""topology.py - five network namespaces in a row, the witness in the middle.

    cli ---- rc ---- mid ---- rs ---- srv
    client   router  witness  router  server

    192.0.2.0/24     cli .2, .10-.19   rc .1        2001:db8:1::/64 alike
    198.51.100.0/25  rc .1             mid .2       2001:db8:2::/64
    198.51.100.128/25 mid .129         rs .130      2001:db8:3::/64
    203.0.113.0/24   rs .1             srv .2       2001:db8:4::/64 alike

Every interface is named after the node it leads to: to-rc in cli, to-cli and to-mid in rc, and so on. Faults are
made in rc, rs and the endpoints; mid is the witness's own machine. The names of the namespaces carry a prefix of
the run (`sc123-mid`); they live in a /run of the run's own (worker.py), so they end with it.
"""

import subprocess

NODES = ("cli", "rc", "mid", "rs", "srv")
LINKS = (
    # node, its IPv4, its IPv6, node, its IPv4, its IPv6, prefix length of the IPv4 network
    ("cli", "192.0.2.2", "2001:db8:1::2", "rc", "192.0.2.1", "2001:db8:1::1", 24),
    ("rc", "198.51.100.1", "2001:db8:2::1", "mid", "198.51.100.2", "2001:db8:2::2", 25),
    ("mid", "198.51.100.129", "2001:db8:3::1", "rs", "198.51.100.130", "2001:db8:3::2", 25),
    ("rs", "203.0.113.1", "2001:db8:4::1", "srv", "203.0.113.2", "2001:db8:4::2", 24),
)
CLIENT4, CLIENT6 = "192.0.2.2", "2001:db8:1::2"
SERVER4, SERVER6 = "203.0.113.2", "2001:db8:4::2"
MORE_CLIENTS = range(10, 20)  # 192.0.2.10 to .19 and 2001:db8:1::10 to ::19
HOSTS = [
    f"{CLIENT4} client.test", f"{CLIENT6} client.test client6.test",
    f"{SERVER4} server.test", f"{SERVER6} server6.test",
] + [f"192.0.2.{i} client{i}.test" for i in MORE_CLIENTS] + [f"2001:db8:1::{i} client{i}.test" for i in MORE_CLIENTS]


class Topology:
    def __init__(self, prefix, trace, offload=False):
        self.prefix, self.trace, self.offload = prefix, trace, offload

    def name(self, node):
        if node not in NODES:
            raise ValueError(f"unknown node '{node}': one of {' '.join(NODES)}")
        return f"{self.prefix}-{node}"

    def inside(self, node, command):
        """The command line that runs `command` (a list) in a node."""
        return ["ip", "netns", "exec", self.name(node)] + list(command)

    def shell(self, node, text, check=True):
        """Runs a line of shell in a node."""
        self.trace(f"{node}: {text}")
        done = subprocess.run(self.inside(node, ["sh", "-c", text]), capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise RuntimeError(f"in {node}: '{text}' failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _batch(self, node, lines):
        for line in lines:
            self.trace(f"{node}: ip {line}" if node else f"ip {line}")
        command = ["ip"] + (["-n", self.name(node)] if node else []) + ["-batch", "-"]
        done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"topology: {done.stderr.strip()}")

    def up(self):
        self._batch(None, [f"netns add {self.name(node)}" for node in NODES])
        for node in NODES:
            self.shell(node, "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv4.tcp_fin_timeout=5"
                       + (" net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1" if node in ("rc", "mid", "rs") else ""))
        lines = {node: ["link set lo up"] for node in NODES}
        for left, left4, left6, right, right4, right6, length in LINKS:
            there, back = f"to-{right}", f"to-{left}"
            self._batch(left, [f"link add {there} type veth peer name {back} netns {self.name(right)}"])
            lines[left] += [f"addr add {left4}/{length} dev {there}", f"addr add {left6}/64 dev {there} nodad", f"link set {there} up"]
            lines[right] += [f"addr add {right4}/{length} dev {back}", f"addr add {right6}/64 dev {back} nodad", f"link set {back} up"]
        lines["cli"] += [f"addr add 192.0.2.{i}/24 dev to-rc" for i in MORE_CLIENTS]
        lines["cli"] += [f"addr add 2001:db8:1::{i}/64 dev to-rc nodad" for i in MORE_CLIENTS]
        for node in NODES:
            self._batch(node, lines[node])
        routes = {
            "cli": ["route add default via 192.0.2.1", "-6 route add default via 2001:db8:1::1"],
            "rc": ["route add default via 198.51.100.2", "-6 route add default via 2001:db8:2::2"],
            "mid": ["route add 192.0.2.0/24 via 198.51.100.1", "-6 route add 2001:db8:1::/64 via 2001:db8:2::1",
                    "route add 203.0.113.0/24 via 198.51.100.130", "-6 route add 2001:db8:4::/64 via 2001:db8:3::2"],
            "rs": ["route add default via 198.51.100.129", "-6 route add default via 2001:db8:3::1"],
            "srv": ["route add default via 203.0.113.1", "-6 route add default via 2001:db8:4::1"],
        }
        for node, list_of_routes in routes.items():
            for family in ("", "-6 "):
                chosen = [route.removeprefix("-6 ") for route in list_of_routes if route.startswith("-6 ") == bool(family)]
                for route in chosen:
                    self.shell(node, f"ip {family}{route}")
        if not self.offload:
            for left, _, _, right, _, _, _ in LINKS:
                self.shell(left, f"ethtool -K to-{right} tso off gso off gro off >/dev/null")
                self.shell(right, f"ethtool -K to-{left} tso off gso off gro off >/dev/null")

    def listening(self, node, port):
        text = subprocess.run(self.inside(node, ["ss", "-H", "-l", "-t", "-n", f"sport = :{port}"]), capture_output=True, text=True,
                              check=False).stdout
        return bool(text.strip())
