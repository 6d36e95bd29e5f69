"""The packet hook's rules made with nft: what the kernel takes of them, and that they queue what those of iptables queue.

For the comparison NFQUEUE and `queue` are replaced by rules that count, so it needs no queue in the kernel: packet after
packet is sent through the router, and which counter it moves is compared."""

import contextlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile

from hook_lab import RULES, claim, rules, saved, skipped
from lab import ADDRESS, CLIENT, ROUTER, SERVER, inside, run

QUEUE_PLAIN, QUEUE_COUNTS = r"queue num (\d+) bypass", r'counter accept comment "queue \1"'
LOW = "0x1000000/0x1000000"
TUNNEL = ["--queues", "4", "--port", "25,587", "--in-interface", "r0", "--exempt", "10.81.1.77,fd81:1::77"]
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def shown(*words):
    return rules("show", *words).stdout


def router(*command, text=None):
    return subprocess.run(["ip", "netns", "exec", ROUTER, *command], input=text, check=False, capture_output=True, text=True)


def nft_text(text):
    """What stands between the lines of the shell's here-document."""
    return text.split("\n", 1)[1].rsplit("END", 1)[0]


def has_queue():
    return router("nft", "-c", "-f", "-", text="table inet a { chain b { queue num 1 bypass; }; }").returncode == 0


def faults_of(text):
    """nft's errors, those of a kernel without `queue` left out."""
    found = router("nft", "-c", "-f", "-", text=text).stderr
    errors = re.findall(r"Error: ([^\n]*)\n([^\n]*)\n([^\n]*)", found)
    return [(error, line) for error, line, marker in errors
            if not (error.startswith("Could not process rule: No such file") and line[marker.index("^"):].startswith("queue"))]


VARIANTS = (
    ["--queues", "1"], TUNNEL, TUNNEL + ["--bypass"], ["--bypass", "--family", "4"], ["--bypass", "--family", "6"],
    ["--place", "host", "--queues", "2"], ["--in-interface", "eth1", "--in-interface", "ppp+", "--queues", "16", "--bypass"],
    ["--mark", "0x30/0x30", "--bypass", "--port", "2525"],
)


def test_nft_syntax():
    for words in VARIANTS:
        text = nft_text(shown("--tool", "nft", *words))
        faults = faults_of(text)
        claim(text.count("queue num") >= 3 and not faults, f"nft {' '.join(words)}: nft understands every rule", faults)
        counted = re.sub(QUEUE_PLAIN, QUEUE_COUNTS, text)
        done = router("nft", "-c", "-f", "-", text=counted)
        claim(done.returncode == 0, f"nft {' '.join(words)}: the kernel takes all but `queue` itself", done.stderr)
    broken = text.replace("queue num", "queue numb", 1)
    claim(len(faults_of(broken)) > 0, "nft: a mistake would be found")


def test_nft_load():
    """With a kernel that has `queue` the rules are loaded; else what becomes of the attempt is looked at."""
    rules("unload")
    before, tables = saved(ROUTER), router("nft", "list", "tables").stdout
    found = rules("check", check=False).stdout
    auto = shown()
    claim("iptables NFQUEUE: yes, ip6tables NFQUEUE: yes, nft queue: " + ("yes" if has_queue() else "no") in found and
          "made with iptables" in found, "nft: check says what the kernel has", found)
    claim(auto.startswith("iptables-restore"), "nft: where iptables has NFQUEUE, it is used", auto[:60])
    if not has_queue():
        refused = rules("load", "--tool", "nft", check=False)
        claim(refused.returncode == 1 and "the kernel or nft lacks 'queue'" in refused.stderr and "--tool iptables" in refused.stderr,
              "nft: a kernel without queue is told, with the remedy", refused.stderr)
        claim(saved(ROUTER) == before and router("nft", "list", "tables").stdout == tables, "nft: and nothing is changed")
        skipped("nft load: this kernel has no queue expression for nft; its place is taken by counters in what follows")
        return
    rules("load")
    rules("load", "--tool", "nft", "--bypass")
    once = router("nft", "list", "table", "inet", "smtpwitness_nfq").stdout
    claim(once and saved(ROUTER) == before, "nft: its rules take the place of those of iptables")
    rules("load", "--tool", "nft", "--bypass")
    claim(router("nft", "list", "table", "inet", "smtpwitness_nfq").stdout == once, "nft: loading twice is loading once")
    claim(rules("status").stdout.count("nft: loaded") == 1, "nft: status says so")
    rules("unload")
    claim(saved(ROUTER) == before and router("nft", "list", "tables").stdout == tables, "nft: unload leaves nothing")


def stand_in(directory):
    """An nft that has `queue` in any kernel, for the program to be loaded with: it loads counters in its place."""
    path = directory + "/nft"
    with open(path, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\nreal=$(command -v -p nft || echo /usr/sbin/nft)\nlast=\nfor word; do last=$word; done\n"
                   "case $* in *-f*) ;; *) exec \"$real\" \"$@\" ;; esac\n"
                   "sed -E 's/queue num ([0-9]+) bypass/counter accept comment \"queue \\1\"/' \"$last\" >\"$last.counts\"\n"
                   "while [ $# -gt 1 ]; do set -- \"$@\" \"$1\"; shift; case $1 in \"$last\") break ;; esac; done\n"
                   "shift; exec \"$real\" \"$@\" \"$last.counts\"\n")
    subprocess.run(["chmod", "755", path], check=True)
    return path


def test_nft_stand_in(directory="/run"):
    """Load, load again, switch, fail and unload, with an nft in whose place counters stand for `queue`."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        stand_in(folder)
        environment = dict(os.environ, PATH=folder + ":" + os.environ.get("PATH", "/usr/bin:/bin"))

        def call(*words):
            return subprocess.run(["ip", "netns", "exec", ROUTER, RULES, "nfq", *words], check=False, capture_output=True,
                                  text=True, env=environment)

        def table():
            listed = router("nft", "list", "table", "inet", "smtpwitness_nfq").stdout
            return re.sub(r"packets \d+ bytes \d+", "", listed)

        rules("unload")
        before, tables = saved(ROUTER), router("nft", "list", "tables").stdout
        call("load")
        done = call("load", "--tool", "nft", "--bypass", "--queues", "2")
        once = table()
        claim(done.returncode == 0 and once.count("queue 2526") >= 3 and saved(ROUTER) == before,
              "nft: its rules take the place of those of iptables", done.stderr)
        done = call("load", "--tool", "nft", "--bypass", "--queues", "2")
        claim(done.returncode == 0 and table() == once, "nft: loading twice is loading once", done.stderr)
        claim("nft: loaded" in call("status").stdout, "nft: status says that they are loaded")
        run(ROUTER, "nft", "add table inet other; add chain inet other c { type filter hook forward priority 0; }; "
                           "add rule inet other c ct mark 7 accept")
        done = call("load", "--tool", "iptables")
        claim(done.returncode == 0 and not table() and "NFQUEUE" in saved(ROUTER)[0], "nft: and the other way round", done.stderr)
        call("load", "--tool", "nft")
        call("unload")
        claim(not table() and saved(ROUTER) == before and "inet other" in router("nft", "list", "tables").stdout,
              "nft: unload leaves nothing of ours and everything of others")
        run(ROUTER, "nft", "delete table inet other")
        claim(router("nft", "list", "tables").stdout == tables, "nft: every table is as it was")


def test_nft_alone():
    """A router without iptables: nft is chosen without being asked for. The stand-in has the `queue` this kernel may lack."""
    tools = os.path.realpath(shutil.which("iptables-save"))
    if tools != os.path.realpath(shutil.which("ip6tables-save")):
        skipped("nft alone: iptables is no single program here, and cannot be hidden")
        return
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        stand_in(folder)
        nothing = folder + "/nothing"
        with open(nothing, "w", encoding="ascii"):
            pass
        environment = dict(os.environ, PATH=folder + ":" + os.environ.get("PATH", "/usr/bin:/bin"))

        def call(*words):
            hidden = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
            return subprocess.run(["ip", "netns", "exec", ROUTER, "unshare", "-m", "sh", "-c", hidden, "sh", nothing, tools, RULES,
                                   "nfq", *words], check=False, capture_output=True, text=True, env=environment)

        rules("unload")
        before = router("nft", "list", "tables").stdout
        claim(call("show").stdout.startswith("nft -f -"), "nft alone: it is what would be loaded", call("show"))
        done = call("load", "--bypass")
        claim(done.returncode == 0 and "nft: loaded" in call("status").stdout, "nft alone: loaded", done)
        found = call("check")
        claim(found.returncode == 0 and "iptables NFQUEUE: no, ip6tables NFQUEUE: no, nft queue: yes" in found.stdout,
              "nft alone: check says what there is", found)
        done = call("unload")
        claim(done.returncode == 0 and router("nft", "list", "tables").stdout == before, "nft alone: unloaded", done)


# ---- which packets are queued ----

def checksum(octets):
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def header(version, source, target, protocol, length, options=b""):
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, length, protocol, 64) + socket.inet_pton(socket.AF_INET6, source) + \
            socket.inet_pton(socket.AF_INET6, target)
    size = 20 + len(options)
    fields = struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, size + length, 1, 0, 64, protocol, 0) + \
        socket.inet_aton(source) + socket.inet_aton(target) + options
    return fields[:10] + struct.pack("!H", checksum(fields)) + fields[12:]


def pseudo(version, source, target, protocol, payload):
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    return ends + (struct.pack("!BBH", 0, protocol, len(payload)) if version == 4 else struct.pack("!IHBB", len(payload), 0, 0, protocol))


def tcp(version, source, target, ports, flags, sequence=1000, payload=b""):
    segment = struct.pack("!HHIIBBHHH", *ports, sequence, 1 if flags & ACK else 0, 0x50, flags, 8192, 0, 0) + payload
    segment = segment[:16] + struct.pack("!H", checksum(pseudo(version, source, target, 6, segment) + segment)) + segment[18:]
    return header(version, source, target, 6, len(segment)) + segment


def icmp(version, source, target, kind, quoted):
    message = struct.pack("!BBHI", kind, 0, 0, 0) + quoted
    protocol = 1 if version == 4 else 58
    covered = message if version == 4 else pseudo(version, source, target, 58, message) + message
    message = message[:2] + struct.pack("!H", checksum(covered)) + message[4:]
    return header(version, source, target, protocol, len(message)) + message


class Sender:
    def __init__(self, namespace, version):
        with inside(namespace):
            self.socket = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        if version == 6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL

    def send(self, target, octets):
        self.socket.sendto(octets, (target, 0))


def samples(version):
    """(name, who sends it, octets): what a router meets."""
    client, server = ADDRESS[version]["cl"], ADDRESS[version]["sv"]
    exempt = {4: "10.81.1.77", 6: "fd81:1::77"}[version]
    for port in (25, 587, 26, 2525):
        for own in (40000, 40001, 40002, 40003):
            yield f"SYN {own}>{port}", CLIENT, server, tcp(version, client, server, (own, port), SYN)
            yield f"SYN ACK {port}>{own}", SERVER, client, tcp(version, server, client, (port, own), SYN | ACK)
        yield f"data >{port}", CLIENT, server, tcp(version, client, server, (40001, port), ACK | PSH, 1001, b"EHLO\r\n")
        yield f"large >{port}", CLIENT, server, tcp(version, client, server, (40001, port), ACK, 1007, b"x" * 900)
        yield f"RST >{port}", CLIENT, server, tcp(version, client, server, (40001, port), RST, 1001)
    yield "a client's port that is one of ours", SERVER, client, tcp(version, server, client, (40001, 25), SYN)
    yield "exempt source", CLIENT, server, tcp(version, exempt, server, (40000, 25), SYN)
    yield "exempt target", SERVER, exempt, tcp(version, server, exempt, (25, 40000), SYN | ACK)
    router_own = {4: "10.81.1.1", 6: "fd81:1::1"}[version]
    quote = header(version, client, server, 6, 20) + struct.pack("!HHI", 40002, 25, 1000)
    yield "the router's RST in the server's name", ROUTER, client, tcp(version, server, client, (25, 40002), RST | ACK)
    yield "the router's RST in its own name", ROUTER, client, tcp(version, router_own, client, (25, 40002), RST | ACK)
    yield "the router's other words", ROUTER, client, tcp(version, router_own, client, (25, 40002), ACK)
    yield "the router's ICMP", ROUTER, client, icmp(version, router_own, client, 3 if version == 4 else 1, quote)
    yield "udp", CLIENT, server, header(version, client, server, 17, 8) + struct.pack("!HHHH", 40000, 25, 8, 0)
    for kind in range(0, 14) if version == 4 else (1, 2, 3, 4, 128, 129):
        for ports in ((40002, 25), (25, 40003), (587, 40001), (40000, 26)):
            ends = (client, server) if ports[1] < 1000 else (server, client)
            quote = header(version, *ends, 6, 20) + struct.pack("!HHI", *ports, 1000)
            sender, target = (SERVER, client) if ends[0] == client else (CLIENT, server)
            yield f"ICMP {kind} about {ports}", sender, target, icmp(version, ADDRESS[version]["sv" if sender == SERVER else "cl"],
                                                                    target, kind, quote)


def counters_nft():
    listed = json.loads(router("nft", "-j", "list", "table", "inet", "smtpwitness_nfq").stdout)
    counts = {}
    for item in listed["nftables"]:
        rule = item.get("rule", {})
        if rule.get("comment", "").startswith("queue "):
            packets = sum(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
            counts[rule["comment"]] = counts.get(rule["comment"], 0) + packets
    return counts


def counters_iptables():
    counts = {}
    for tool in ("iptables-save", "ip6tables-save"):
        for packets, name in re.findall(r"\[(\d+):\d+\] -A SMTPWITNESS_\S+ .*--comment \"(queue \d+)\"", router(tool, "-c").stdout):
            counts[name] = counts.get(name, 0) + int(packets)
    return counts


def load_counting(tool, *words):
    rules("unload")
    text = shown("--tool", tool, *words)
    if tool == "nft":
        text = re.sub(QUEUE_PLAIN, QUEUE_COUNTS, text)
    else:
        text = re.sub(r"-j NFQUEUE --queue-num (\d+) --queue-bypass", r'-m comment --comment "queue \1" -j ACCEPT', text)
    done = router("sh", text=text)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return counters_nft if tool == "nft" else counters_iptables


def unload_counting(tool):
    if tool == "nft":
        run(ROUTER, "nft", "delete", "table", "inet", "smtpwitness_nfq")
    rules("unload")


def meet():
    """Client, router and server have found each other: link-local addresses are not ready at once."""
    for version in (4, 6):
        with inside(CLIENT):
            ends = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        ends.settimeout(10)
        try:
            ends.connect((ADDRESS[version]["sv"], 9))
        except ConnectionRefusedError:
            pass
        ends.close()


@contextlib.contextmanager
def mute_hosts():
    """Client and server answer nothing, so that what is counted is what was sent."""
    extra = (("10.81.1.77/24", ()), ("fd81:1::77/64", ("nodad",)))
    meet()
    for namespace in (CLIENT, SERVER):
        for tool in ("iptables", "ip6tables"):
            run(namespace, tool, "-w", "-A", "INPUT", "-p", "tcp", "-j", "DROP")
            run(namespace, tool, "-w", "-A", "INPUT", "-p", "udp", "-j", "DROP")
    for address, words in extra:
        run(CLIENT, "ip", "addr", "add", address, "dev", "c0", *words)
    try:
        yield
    finally:
        for address, _ in extra:
            run(CLIENT, "ip", "addr", "del", address, "dev", "c0")
        for namespace in (CLIENT, SERVER):
            for tool in ("iptables", "ip6tables"):
                run(namespace, tool, "-w", "-F", "INPUT")


def where_each_goes(tool, *words):
    counters = load_counting(tool, *words)
    seen, before = {}, counters()
    for version in (4, 6):
        senders = {name: Sender(name, version) for name in (CLIENT, SERVER, ROUTER)}
        for name, sender, target, octets in samples(version):
            senders[sender].send(target, octets)
            after = counters()
            moved = {queue: after[queue] - before.get(queue, 0) for queue in after if after[queue] != before.get(queue, 0)}
            seen[f"v{version} {name}"] = moved
            before = after
    unload_counting(tool)
    return seen


def test_nft_equal():
    for words in (["--queues", "1"], TUNNEL, ["--family", "4", "--queues", "2"], ["--family", "6", "--queues", "2"]):
        with mute_hosts():
            with_iptables, with_nft = (where_each_goes(tool, *words) for tool in ("iptables", "nft"))
        differs = {name: (with_iptables[name], with_nft[name]) for name in with_iptables if with_iptables[name] != with_nft[name]}
        queued = sum(1 for moved in with_iptables.values() if moved)
        claim(queued >= 16 and queued < len(with_iptables) and not differs,
              f"nft {' '.join(words)}: each of {len(with_iptables)} packets goes where iptables sends it, {queued} to a queue", differs)


# ---- the bypass ----

def bypass_story(tool):
    """Which segments of a connection in the midst of a body are queued. The kernel's own `conntrack` marks it as the witness
    would."""
    counters = load_counting(tool, "--bypass", "--port", "25")
    story = {}
    for version in (4, 6):
        client, server = ADDRESS[version]["cl"], ADDRESS[version]["sv"]
        tables = "iptables" if version == 4 else "ip6tables"
        sender = Sender(CLIENT, version)

        def passed(name, ports, flags, payload, count=6):
            sequence, before = 1000, sum(counters().values())
            for _ in range(count):
                sender.send(server, tcp(version, client, server, ports, flags, sequence, payload))
                sequence += len(payload)
            story[f"v{version} {name}"] = count - (sum(counters().values()) - before)

        def mark(port, value):
            run(ROUTER, "conntrack", "-U", "-f", f"ipv{version}", "-p", "tcp", "-s", client, "--sport", str(port), "--mark", value)

        run(ROUTER, "conntrack", "-F")
        for port in (41001, 41002):
            passed(f"not marked {port}", (port, 25 if port == 41001 else 26), ACK, b"x" * 900)
            mark(port, LOW)
        passed("marked, large", (41001, 25), ACK, b"x" * 900)
        passed("marked, small", (41001, 25), ACK, b"x" * 100)
        passed("marked, FIN", (41001, 25), ACK | FIN, b"x" * 900, 1)
        passed("marked, pushed, LF", (41001, 25), ACK | PSH, b"x" * 899 + b"\n")
        passed("marked, final dot, not pushed", (41001, 25), ACK, b"x" * 895 + b"\r\n.\r\n")
        passed("marked, line end, not pushed", (41001, 25), ACK, b"x" * 897 + b".\r\n")
        passed("marked, another port", (41002, 26), ACK, b"x" * 900)
        followed = [tables, "-w", "-A", "FORWARD", "-p", "tcp", "--dport", "25", "-j", "MARK", "--set-xmark", "0x2000000/0x2000000"]
        run(ROUTER, *followed)
        passed("followed: twice", (41003, 25), ACK, b"x" * 100, 1)
        run(ROUTER, tables, "-w", "-D", *followed[3:])
        mark(41001, "0/0x1000000")
        passed("no more marked", (41001, 25), ACK, b"x" * 900)
    unload_counting(tool)
    return story


def test_nft_bypass():
    if not shutil.which("conntrack"):
        skipped("nft bypass: conntrack is not installed")
        return
    with mute_hosts():
        with_iptables, with_nft = bypass_story("iptables"), bypass_story("nft")
    wanted = {"not marked 41001": 0, "not marked 41002": 6, "marked, large": 6, "marked, small": 0, "marked, FIN": 0, "marked, pushed, LF": 0,
              "marked, final dot, not pushed": 0, "marked, line end, not pushed": 6, "marked, another port": 6, "followed: twice": -1,
              "no more marked": 0}
    claim(with_iptables == {f"v{version} {name}": count for version in (4, 6) for name, count in wanted.items()},
          "bypass: of a marked connection, what is large and no end of anything passes by", with_iptables)
    ends = ("v4 marked, final dot, not pushed", "v6 marked, final dot, not pushed")
    for end in ends:
        del with_iptables[end]
    claim([with_nft.pop(end) for end in ends] == [6, 6], "nft --bypass: a final dot that is not pushed passes by, as the manual says")
    claim(with_nft == with_iptables, "nft --bypass: else the same segments pass unseen as with iptables", (with_iptables, with_nft))
