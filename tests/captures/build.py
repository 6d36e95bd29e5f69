#!/usr/bin/python3
"""build.py - writes capture files octet by octet: every sequence number, TTL, IP ID and time is ours to choose.

    build.py DIRECTORY                  the built sessions, and EXPECTED.tsv beside them: file, fault, cause, what it shows
    build.py --envelopes FILE DIRECTORY  one capture of Ethernet frames in every envelope replay must open

Standard library only. A session is seen from a router in its middle: what the network before or behind it loses is simply
not written, or written again, as a router would see it."""
import ipaddress
import struct
import sys
from pathlib import Path

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
CLIENT, SERVER, ROUTER = "192.0.2.7", "198.51.100.25", "203.0.113.1"
CLIENT6, SERVER6, ROUTER6 = "2001:db8:1::7", "2001:db8:2::25", "2001:db8:3::1"
CLIENT_TTL, SERVER_TTL = 63, 62
MSS = 1448
START = 1_700_000_000.0


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_packet(source, destination, protocol, payload, ttl, ip_id=0):
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    if source.version == 6:
        return struct.pack("!IHBB", 0x60000000, len(payload), protocol, ttl) + source.packed + destination.packed + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ip_id, 0x4000, ttl, protocol, 0,
                       source.packed, destination.packed)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ethernet(packet):
    kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    return b"\x02\0\0\0\0\x02" + b"\x02\0\0\0\0\x01" + struct.pack("!H", kind) + packet


class Side:
    def __init__(self, address, port, isn, ttl):
        self.address, self.port, self.seq, self.ttl = address, port, isn, ttl
        self.ip_id = 1000
        self.window = 501
        self.other = None
        self.acked = 0  # what it has told the other side to have received


class Session:
    """Sends as both sides; `lost=True` moves the sequence number on and writes nothing."""

    def __init__(self, capture, version=4, port=40000, server_port=25, client_isn=1000, server_isn=5_000_000):
        self.capture = capture
        self.version = version
        addresses = (CLIENT, SERVER) if version == 4 else (CLIENT6, SERVER6)
        self.client = Side(addresses[0], port, client_isn, CLIENT_TTL)
        self.server = Side(addresses[1], server_port, server_isn, SERVER_TTL)
        self.client.other, self.server.other = self.server, self.client
        self.scale = 7
        self.server_scales = True

    def raw(self, side, flags, seq, ack, payload=b"", options=b"", window=None, ttl=None, ip_id=None, sack=None):
        if sack:
            options += b"\1\1\5" + bytes([2 + 8 * len(sack)]) + b"".join(struct.pack("!II", *block) for block in sack)
        options += b"\0" * (-len(options) % 4)
        if ip_id is None:
            side.ip_id = side.ip_id + 1 & 0xFFFF
            ip_id = side.ip_id
        head = struct.pack("!HHIIBBHHH", side.port, side.other.port, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF,
                           (20 + len(options)) // 4 << 4, flags, side.window if window is None else window, 0, 0)
        packet = ip_packet(side.address, side.other.address, 6, head + options + payload,
                           side.ttl if ttl is None else ttl, ip_id)
        self.capture.add(packet)

    def syn(self, side=None, scale=True):
        side = side or self.client
        options = struct.pack("!BBHBBBBB", 2, 4, MSS + 12, 4, 2, 1, 3, 3) + bytes([self.scale])
        if not scale:
            options = struct.pack("!BBH", 2, 4, MSS + 12)
        answer = side is self.server
        self.raw(side, SYN | (ACK if answer else 0), side.seq, self.client.seq + 1 if answer else 0, options=options,
                 window=64240)

    def handshake(self):
        self.syn()
        self.capture.wait(0.01)
        self.syn(self.server, self.server_scales)
        self.client.seq += 1
        self.server.seq += 1
        self.client.acked, self.server.acked = self.server.seq, self.client.seq
        self.capture.wait(0.005)
        self.ack(self.client)

    def ack(self, side, **more):
        self.raw(side, ACK, more.pop("seq", side.seq), more.pop("ack", side.acked), **more)

    def send(self, side, data, lost=False, ack=True, push=True, flags=0, **more):
        if isinstance(data, str):
            data = data.encode()
        start = side.seq
        side.seq += len(data)
        if not lost:
            self.raw(side, ACK | (PSH if push else 0) | flags, start, side.acked, data, **more)
            side.other.acked = side.seq
        if ack and not lost:
            self.capture.wait(0.005)
            self.ack(side.other)
        return start, data

    def again(self, side, segment, **more):
        start, data = segment
        self.raw(side, ACK | PSH, start, side.acked, data, **more)

    def fin(self, side, lost=False):
        if not lost:
            self.raw(side, FIN | ACK, side.seq, side.acked)
        side.seq += 1
        if not lost:
            side.other.acked = side.seq

    def rst(self, side, **more):
        self.raw(side, RST, more.pop("seq", side.seq), 0, window=0, **more)

    # Dialogue.
    def says(self, side, text, pause=0.02, **more):
        self.capture.wait(pause)
        return self.send(side, text, **more)

    def hello(self):
        self.handshake()
        self.says(self.server, "220 server.test ESMTP\r\n")
        self.says(self.client, "EHLO client.test\r\n")
        self.says(self.server, "250-server.test\r\n250-PIPELINING\r\n250 SIZE 10000000\r\n")

    def envelope(self):
        self.hello()
        self.says(self.client, "MAIL FROM:<a@client.test>\r\n")
        self.says(self.server, "250 2.1.0 Ok\r\n")
        self.says(self.client, "RCPT TO:<b@server.test>\r\n")
        self.says(self.server, "250 2.1.5 Ok\r\n")

    def data(self):
        self.envelope()
        self.says(self.client, "DATA\r\n")
        self.says(self.server, "354 End data with <CR><LF>.<CR><LF>\r\n")

    def body(self, segments=6):
        for i in range(segments):
            self.says(self.client, filler(i), pause=0.001)
        self.says(self.client, "\r\n.\r\n")

    def quit(self):
        self.says(self.client, "QUIT\r\n")
        self.says(self.server, "221 2.0.0 Bye\r\n")
        self.capture.wait(0.001)
        self.fin(self.server)
        self.capture.wait(0.005)
        self.fin(self.client)
        self.capture.wait(0.005)
        self.ack(self.server)

    def mail(self, segments=6):
        self.data()
        self.body(segments)
        self.says(self.server, "250 2.0.0 Ok: queued\r\n")

    def icmp(self, sender, kind, code, seq, of=None, mtu=0):
        """An ICMP error to `of` (the client unless said) about the segment it sent with `seq`."""
        of = of or self.client
        quoted = ip_packet(of.address, of.other.address, 6,
                           struct.pack("!HHII", of.port, of.other.port, seq & 0xFFFFFFFF, 0) + b"\x50\x02" + b"\0" * 6, 60)
        if self.version == 4:
            message = struct.pack("!BBHHH", kind, code, 0, 0, mtu) + quoted[:28]
            self.capture.add(ip_packet(sender, of.address, 1, message, 63))
        else:
            message = struct.pack("!BBHI", kind, code, 0, mtu) + quoted
            self.capture.add(ip_packet(sender, of.address, 58, message, 63))


def filler(number):
    line = f"line {number:06d} of a message without meaning ".encode() + b"x" * 34 + b"\r\n"
    return (line * (MSS // len(line) + 1))[:MSS]


class Capture:
    def __init__(self):
        self.now = START
        self.packets = []

    def wait(self, seconds):
        self.now += seconds

    def at(self, seconds):
        self.now = START + seconds

    def add(self, packet):
        self.packets.append((self.now, packet))


def write_pcap(path, frames, link=1, snap=262144, order="<", nanoseconds=False):
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    unit = 1_000_000_000 if nanoseconds else 1_000_000
    with open(path, "wb") as file:
        file.write(struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link))
        for when, frame in frames:
            cut = frame[:snap]
            total = round(when * 1_000_000) * (unit // 1_000_000)
            file.write(struct.pack(order + "IIII", total // unit, total % unit, len(cut), len(frame)) + cut)


def write_pcapng(path, frames, link=1, order="<"):
    def block(kind, body):
        body += b"\0" * (-len(body) % 4)
        return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)

    with open(path, "wb") as file:
        file.write(block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)))
        file.write(block(1, struct.pack(order + "HHI", link, 0, 0)))
        for when, frame in frames:
            micro = round(when * 1_000_000)
            file.write(block(6, struct.pack(order + "IIIII", 0, micro >> 32, micro & 0xFFFFFFFF, len(frame), len(frame)) + frame))


# --- the built sessions: name, fault, cause, what ------------------------------------------------------------------

BUILT = []


def built(name, fault, cause, what, **options):
    def register(function):
        BUILT.append((name, fault, cause, what, options, function))
        return function
    return register


@built("clean", "none", "clean", "a mail, QUIT, both FINs")
def _(s):
    s.mail()
    s.quit()


@built("clean-wrap", "none", "clean", "both sequence numbers pass 2^32", session={"client_isn": 0xFFFFF000, "server_isn": 0xFFFFFFF0})
def _(s):
    s.mail()
    s.quit()


@built("s01-dead", "server-network", "connect-unanswered", "SYN at 0, 1, 3 and 7 s, nothing comes back")
def _(s):
    for at in (0, 1.0, 3.0, 7.0):
        s.capture.at(at)
        s.syn()


@built("s01-half", "server-network", "connect-unanswered", "the same in half the time")
def _(s):
    for at in (0, 0.5, 1.5, 3.5):
        s.capture.at(at)
        s.syn()


@built("single-syn", "unknown", "undetermined", "one SYN alone accuses nobody")
def _(s):
    s.syn()


@built("late-syn-ack", "none", "clean", "the server answers the third SYN")
def _(s):
    s.syn()
    s.capture.at(1)
    s.syn()
    s.capture.at(3)
    s.mail()
    s.quit()


@built("s03-closed", "server", "port-closed", "RST to the SYN, from as far away as the server is")
def _(s):
    first = Session(s.capture, s.version, port=39999)
    first.mail()
    first.quit()
    s.capture.wait(1)
    s.syn()
    s.capture.wait(0.01)
    s.raw(s.server, RST | ACK, 0, s.client.seq + 1, window=0, ip_id=0)


@built("s03-closed-alone", "server", "port-closed", "RST to the SYN, and nothing to compare it with")
def _(s):
    s.syn()
    s.capture.wait(0.01)
    s.raw(s.server, RST | ACK, 0, s.client.seq + 1, window=0, ip_id=0)


@built("s04-rejected", "middlebox", "connect-rejected", "RST to the SYN, from nearer than the server")
def _(s):
    first = Session(s.capture, s.version, port=39999)
    first.mail()
    first.quit()
    s.capture.wait(1)
    s.syn()
    s.capture.wait(0.01)
    s.raw(s.server, RST | ACK, 0, s.client.seq + 1, window=0, ip_id=0, ttl=SERVER_TTL + 1)


@built("s05-prohibited", "middlebox", "admin-prohibited", "ICMP 3/13 to the SYN")
def _(s):
    s.syn()
    s.capture.wait(0.01)
    if s.version == 4:
        s.icmp(ROUTER, 3, 13, s.client.seq)
    else:
        s.icmp(ROUTER6, 1, 1, s.client.seq)


@built("s06-unreachable", "server-network", "unreachable", "ICMP 3/1 to the SYN")
def _(s):
    s.syn()
    s.capture.wait(3)
    if s.version == 4:
        s.icmp(ROUTER, 3, 1, s.client.seq)
    else:
        s.icmp(ROUTER6, 1, 3, s.client.seq)


@built("rejected-icmp", "middlebox", "connect-rejected", "ICMP 3/3 from another box")
def _(s):
    s.syn()
    s.capture.wait(0.01)
    if s.version == 4:
        s.icmp(ROUTER, 3, 3, s.client.seq)
    else:
        s.icmp(ROUTER6, 1, 4, s.client.seq)


@built("icmp-forged", "none", "clean", "ICMP 3/1 that quotes nothing under way is nobody's")
def _(s):
    s.data()
    s.icmp(ROUTER if s.version == 4 else ROUTER6, 3 if s.version == 4 else 1, 1 if s.version == 4 else 3, 77)
    s.body()
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


@built("s07-syn-ack-lost", "client-network", "leg-unanswered", "SYN and SYN-ACK pass again and again, no third packet")
def _(s):
    for at in (0, 1, 3, 7):
        s.capture.at(at)
        s.syn()
        s.capture.wait(0.01)
        s.syn(s.server)


@built("s08-backlog", "server", "backlog-full", "the server repeats its SYN-ACK though it was acknowledged")
def _(s):
    s.handshake()
    for at in (1, 3, 7, 15):
        s.capture.at(at)
        s.raw(s.server, SYN | ACK, s.server.seq - 1, s.client.seq, window=64240,
              options=struct.pack("!BBHBBBBB", 2, 4, MSS + 12, 4, 2, 1, 3, 3) + bytes([s.scale]))
        s.capture.wait(0.01)
        s.ack(s.client)
    s.capture.at(30)
    s.fin(s.client)


@built("s09-client-only", "none,unknown", "", "only what the client sends is seen", keep="client")
def _(s):
    s.mail()
    s.quit()


@built("s09-server-only", "none,unknown", "", "only what the server sends is seen", keep="server")
def _(s):
    s.mail()
    s.quit()


@built("s09-client-only-stall", "none,unknown", "", "half of a stall accuses nobody", keep="client")
def _(s):
    s.envelope()
    s.says(s.client, "DATA\r\n")
    s.capture.wait(60)
    s.fin(s.client)


@built("s09-server-only-said", "none,unknown", "", "what the server alone says is no answer to anything", keep="server")
def _(s):
    s.data()
    s.says(s.client, filler(0))
    s.says(s.server, "552 5.3.4 Message too big for system\r\n")
    s.fin(s.server)
    s.capture.wait(0.01)
    s.rst(s.client)


@built("s10-probe", "none", "probe-only", "connects and resets")
def _(s):
    s.handshake()
    s.capture.wait(0.001)
    s.rst(s.client)


@built("s10-probe-fin", "none", "probe-only", "connects and leaves")
def _(s):
    s.handshake()
    s.fin(s.client)
    s.capture.wait(0.01)
    s.fin(s.server)
    s.capture.wait(0.01)
    s.ack(s.client)


@built("s21-hung", "server", "reply-stall", "the command is acknowledged, the server's host answers, its program does not",
       paces=(2,))  # in half the time the client would be the impatient one
def _(s):
    s.envelope()
    s.says(s.client, "RSET\r\n")
    s.capture.wait(310)
    s.fin(s.client)
    s.capture.wait(0.01)
    s.ack(s.server)


@built("s22-command-lost", "server-network", "leg-unanswered", "a command is repeated and never acknowledged")
def _(s):
    s.hello()
    lost = s.says(s.client, "MAIL FROM:<a@client.test>\r\n", ack=False)
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8):
        s.capture.wait(wait)
        s.again(s.client, lost)
    s.capture.wait(5)
    s.fin(s.client)


@built("s22-once", "none", "clean", "a command is repeated once and gets through")
def _(s):
    s.hello()
    lost = s.says(s.client, "NOOP\r\n", ack=False)
    s.capture.wait(0.2)
    s.again(s.client, lost)
    s.capture.wait(0.01)
    s.says(s.server, "250 Ok\r\n")
    s.quit()


@built("s22-orphans", "server-network", "leg-unanswered", "what the client repeats every two minutes, gone long since, is no other session",
       sessions=1, paces=(0.5,))
def _(s):
    s.hello()
    lost = s.says(s.client, "MAIL FROM:<a@client.test>\r\n", ack=False)
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2):
        s.capture.wait(wait)
        s.again(s.client, lost)
    s.capture.wait(10)
    s.fin(s.client)
    for wait in (92.4, 120, 120, 120, 120):
        s.capture.wait(wait)
        s.raw(s.client, ACK | PSH | FIN, lost[0], s.client.acked, lost[1])


@built("s25-orphans", "client-network", "leg-unanswered", "both sides repeat their last octets with a FIN, and the client gets nothing",
       sessions=1, paces=(0.5,))
def _(s):
    s.hello()
    command = s.says(s.client, "MAIL FROM:<a@client.test>\r\n")
    reply = s.says(s.server, "250 2.1.0 Ok\r\n", ack=False)
    s.client.acked -= len(reply[1])
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6):
        s.capture.wait(wait)
        s.again(s.server, reply)
        s.capture.wait(0.05)
        s.again(s.client, command)
        s.ack(s.server, sack=[(command[0], s.client.seq)])
    s.fin(s.client)
    s.capture.wait(0.01)
    s.fin(s.server)
    for wait in (51.2, 102.4, 120, 120, 120, 120):
        s.capture.wait(wait)
        s.raw(s.client, ACK | PSH | FIN, command[0], s.client.acked, command[1])
        s.capture.wait(0.01)
        s.raw(s.server, ACK | PSH | FIN, reply[0], s.client.seq, reply[1])


@built("s23-reply-lost", "server-network", "octets-lost", "the server's acknowledgements are ahead of what came by here")
def _(s):
    s.envelope()
    command = s.says(s.client, "DATA\r\n", ack=False)
    s.server.acked = s.client.seq
    s.send(s.server, "354 go\r\n", lost=True)
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2):
        s.capture.wait(wait)
        s.again(s.client, command)
        s.capture.wait(0.01)
        s.ack(s.server, sack=[(command[0], s.client.seq)])
    s.client.acked = s.server.seq - len("354 go\r\n")
    s.capture.wait(20)
    s.fin(s.client)
    s.capture.wait(0.01)
    s.ack(s.server, ack=s.client.seq)


@built("s24-client-octets-lost", "client-network", "octets-lost", "the client's acknowledgements are ahead of what came by here")
def _(s):
    s.hello()
    s.send(s.client, "MAIL FROM:<a@client.test>\r\n", lost=True)
    s.capture.wait(40)
    s.says(s.server, "421 4.4.2 server.test Error: timeout exceeded\r\n", ack=False)
    s.capture.wait(0.001)
    s.fin(s.server)
    s.capture.wait(0.01)
    s.client.acked = s.server.seq
    s.ack(s.client)


@built("s25-reply-lost-behind", "client-network", "leg-unanswered", "the server's reply passes here again and again")
def _(s):
    s.hello()
    command = s.says(s.client, "MAIL FROM:<a@client.test>\r\n")
    reply = s.says(s.server, "250 2.1.0 Ok\r\n", ack=False)
    s.client.acked -= len(reply[1])
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4):
        s.capture.wait(wait)
        s.again(s.server, reply)
        s.capture.wait(0.05)
        s.again(s.client, command)
        s.ack(s.server, sack=[(command[0], s.client.seq)])
    s.capture.wait(3)


@built("s26-client-hung", "client", "data-start-stall", "354 acknowledged, silence, the server tires, the client's host answers")
def _(s):
    s.data()
    s.capture.wait(60)
    s.says(s.server, "421 4.4.2 server.test Error: timeout exceeded\r\n", ack=False)
    s.fin(s.server)
    s.capture.wait(0.01)
    s.client.acked = s.server.seq
    s.ack(s.client)


@built("s40-forged", "middlebox", "reset-injected", "an RST in the server's name from one hop nearer")
def _(s):
    s.envelope()
    s.says(s.client, "DATA\r\n")
    s.capture.wait(0.01)
    s.rst(s.server, ttl=SERVER_TTL + 1, ip_id=0)


@built("s40-believed", "middlebox", "reset-injected", "the TTL fits, but the server goes on behind its RST")
def _(s):
    s.envelope()
    s.says(s.client, "DATA\r\n")
    s.capture.wait(0.01)
    s.rst(s.server, ip_id=0)
    s.capture.wait(0.01)
    s.send(s.server, "354 go\r\n", ack=False)


@built("s40-own", "server", "aborted", "an RST of the server's own")
def _(s):
    s.envelope()
    s.says(s.client, "DATA\r\n")
    s.capture.wait(0.01)
    s.rst(s.server, ip_id=0)


@built("s40-stray", "none", "clean", "an RST outside the window is ignored")
def _(s):
    s.data()
    s.rst(s.server, seq=s.server.seq + 900_000_000, ttl=50)
    s.body()
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


def big_segments_lost(s):
    s.data()
    big = [s.says(s.client, filler(i), pause=0.001, ack=False, push=False) for i in range(5)]
    tail = s.says(s.client, "\r\n.\r\n", pause=0.001, ack=False)
    s.server.acked = big[0][0]
    s.capture.wait(0.02)
    s.ack(s.server, sack=[(tail[0], s.client.seq)])
    return big


@built("s43-mtu-server", "server-network", "path-mtu-black-hole", "only full segments are repeated; what is small gets through")
def _(s):
    big = big_segments_lost(s)
    for wait in (0.2, 0.45, 0.9, 1.7, 3.4, 6.8, 13.6):
        s.capture.wait(wait)
        s.again(s.client, big[0])
    s.capture.wait(30)
    s.says(s.server, "421 4.4.2 server.test Error: timeout exceeded\r\n", ack=False)


@built("s43-dead", "server-network", "leg-unanswered", "the same, but nothing at all comes back: not the size")
def _(s):
    s.data()
    big = [s.says(s.client, filler(i), pause=0.001, ack=False, push=False) for i in range(5)]
    s.server.acked = big[0][0]
    for wait in (0.2, 0.45, 0.9, 1.7, 3.4, 6.8, 13.6):
        s.capture.wait(wait)
        s.again(s.client, big[0])


@built("s44-mtu-client", "client-network", "path-mtu-black-hole", "after the 354 the client is 21,720 octets ahead of what came by here")
def _(s):
    s.envelope()
    s.says(s.client, "DATA\r\n")
    go = s.says(s.server, "354 go\r\n", ack=False)
    s.client.acked -= len(go[1])
    s.client.seq += 15 * MSS
    s.client.acked += len(go[1])
    for wait in (0.2, 0.4, 0.8):
        s.capture.wait(wait)
        s.again(s.server, go)
        s.capture.wait(0.01)
        s.ack(s.client, sack=[(go[0], s.server.seq)])
    s.capture.wait(60)
    s.says(s.server, "421 4.4.2 server.test Error: timeout exceeded\r\n", ack=False)
    s.capture.wait(0.01)
    s.client.acked = s.server.seq
    s.ack(s.client)


@built("s45-mtu-with-icmp", "none", "clean", "ICMP says that the segments are too big, smaller ones get through")
def _(s):
    big = big_segments_lost(s)
    s.capture.wait(0.001)
    if s.version == 4:
        s.icmp(ROUTER, 3, 4, big[0][0], mtu=1400)
    else:
        s.icmp(ROUTER6, 2, 0, big[0][0], mtu=1400)
    data = b"".join(payload for _, payload in big)
    for at in range(0, len(data), 1300):
        s.capture.wait(0.001)
        s.again(s.client, (big[0][0] + at, data[at:at + 1300]))
    s.capture.wait(0.02)
    s.server.acked = s.client.seq
    s.ack(s.server)
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


@built("unreachable-midway", "server-network", "unreachable", "the server's host goes away in mid-session, a router says so")
def _(s):
    s.hello()
    lost = s.says(s.client, "MAIL FROM:<a@client.test>\r\n", ack=False)
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2):
        s.capture.wait(wait)
        s.again(s.client, lost)
        s.icmp(ROUTER if s.version == 4 else ROUTER6, 3 if s.version == 4 else 1, 1 if s.version == 4 else 3, lost[0])
    s.capture.wait(5)
    s.rst(s.client)


@built("s58-state-expired", "middlebox", "state-expired", "after ten minutes of idleness nothing gets through any more")
def _(s):
    s.mail()
    s.capture.wait(600)
    lost = s.says(s.client, "MAIL FROM:<a@client.test>\r\n", ack=False)
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8):
        s.capture.wait(wait)
        s.again(s.client, lost)
    s.capture.wait(10)
    s.fin(s.client)


def zero_window(s, rounds):
    s.data()
    for i in range(4):
        s.says(s.client, filler(i), pause=0.001, ack=False, push=False)
    s.capture.wait(0.01)
    s.server.acked = s.client.seq
    s.ack(s.server, window=0)
    wait = 0.2
    for _ in range(rounds):
        s.capture.wait(wait)
        s.raw(s.client, ACK, s.client.seq - 1, s.client.acked)
        s.capture.wait(0.005)
        s.ack(s.server, window=0)
        wait = min(wait * 2, 30)


@built("s47-not-reading", "server", "not-reading", "the server's window is closed, every probe is answered")
def _(s):
    zero_window(s, 9)
    s.capture.wait(5)
    s.fin(s.client)


@built("s47-full", "server", "not-reading", "its buffer is full: it drops what it had a window for, and says so to every repetition")
def _(s):
    s.data()
    s.server.window = 40
    flight = [s.says(s.client, filler(i), pause=0.001, ack=False, push=False) for i in range(6)]
    s.server.acked = flight[2][0]
    s.capture.wait(0.01)
    s.ack(s.server, window=0)
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2):
        s.capture.wait(wait)
        s.again(s.client, flight[2])
        s.capture.wait(0.01)
        s.ack(s.server, window=0)
    s.capture.wait(90)
    s.rst(s.client)


@built("s47-opens", "none", "clean", "the window opens again")
def _(s):
    zero_window(s, 4)
    s.capture.wait(0.1)
    s.ack(s.server)
    s.says(s.client, "\r\n.\r\n")
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


@built("s49-body-stall", "client", "body-stall", "the body stops, keepalives of the server are answered")
def _(s):
    s.data()
    for i in range(4):
        s.says(s.client, filler(i), pause=0.001)
    for _ in range(3):
        s.capture.wait(60)
        s.raw(s.server, ACK, s.server.seq - 1, s.server.acked)
        s.capture.wait(0.01)
        s.ack(s.client)
    s.says(s.server, "421 4.4.2 server.test Error: timeout exceeded\r\n", ack=False)
    s.fin(s.server)
    s.capture.wait(0.01)
    s.client.acked = s.server.seq
    s.ack(s.client)


@built("s50-client-gone", "client-network", "leg-unanswered", "the body stops, nothing sent to the client is acknowledged any more")
def _(s):
    s.data()
    for i in range(4):
        s.says(s.client, filler(i), pause=0.001)
    s.capture.wait(180)
    bye = s.says(s.server, "421 4.4.2 server.test Error: timeout exceeded\r\n", ack=False)
    for wait in (0.3, 0.6, 1.2, 2.4, 4.8):
        s.capture.wait(wait)
        s.again(s.server, bye)


@built("s63-borderline", "server", "end-of-data-stall", "the client's ten minutes began when it wrote the dot; here it passed a second later",
       paces=(2,))
def _(s):
    s.data()
    s.body()
    s.capture.wait(598.9)
    s.fin(s.client)
    s.capture.wait(0.01)
    s.ack(s.server)


@built("s64-client-tires", "client", "unterminated-body", "lines that end in LF alone, to the dot; the client waits ten minutes for an answer",
       paces=(2,))
def _(s):
    s.data()
    s.says(s.client, filler(0).replace(b"\r\n", b"\n"), pause=0.001)
    s.says(s.client, "\n.\n", pause=0.001)
    s.capture.wait(600)
    s.fin(s.client)
    s.capture.wait(0.01)
    s.ack(s.server)


@built("s65-split-dot", "middlebox", "split-dot", "the end of the final dot is never acknowledged; the banner is one of asterisks")
def _(s):
    s.handshake()
    s.says(s.server, "220 ****0*********2**0***\r\n")
    s.says(s.client, "EHLO client.test\r\n")
    s.says(s.server, "250 server.test\r\n")
    s.says(s.client, "MAIL FROM:<a@client.test>\r\n")
    s.says(s.server, "250 2.1.0 Ok\r\n")
    s.says(s.client, "RCPT TO:<b@server.test>\r\n")
    s.says(s.server, "250 2.1.5 Ok\r\n")
    s.says(s.client, "DATA\r\n")
    s.says(s.server, "354 go\r\n")
    s.says(s.client, "Subject: x\r\n\r\n" + "x" * 70 + "\r\n" + "y" * 70 + "\r\n", pause=0.001)
    s.says(s.client, ".", pause=0.2)
    end = s.says(s.client, "\r\n", pause=0.3, ack=False)
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6):
        s.capture.wait(wait)
        s.again(s.client, end)
    s.capture.wait(250)
    s.fin(s.client)


@built("s66-250-lost", "client-network", "leg-unanswered", "the final 250 passes here again and again, the client never takes it")
def _(s):
    s.data()
    s.body()
    reply = s.says(s.server, "250 2.0.0 Ok: queued\r\n", ack=False)
    for wait in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4):
        s.capture.wait(wait)
        s.again(s.server, reply)


@built("s82-reset-after-quit", "none", "clean", "the client resets with the 221 unread")
def _(s):
    s.data()
    s.body()
    s.says(s.client, "QUIT\r\n")
    s.says(s.server, "250 2.0.0 Ok: queued\r\n221 2.0.0 Bye\r\n", ack=False)
    s.fin(s.server)
    s.rst(s.client)


@built("s82-after-fins", "none", "clean", "resets behind both FINs")
def _(s):
    s.mail()
    s.quit()
    s.capture.wait(0.001)
    s.rst(s.client)
    s.rst(s.server, ttl=40)


@built("s85-midstream", "none,unknown", "", "the capture begins in the body", skip=14)
def _(s):
    s.mail(20)
    s.quit()


@built("s85-midstream-cut", "unknown", "", "the capture begins in the middle and ends in it", skip=9, only=6)
def _(s):
    s.mail(20)
    s.quit()


@built("s85-headers-only", "none,unknown", "", "a snap length of 78 octets", snap=78)
def _(s):
    s.mail()
    s.quit()


@built("s86-command-uncaptured", "none,unknown", "", "the capture lacks a command that the server acknowledged and answered")
def _(s):
    s.envelope()
    s.capture.wait(0.02)
    s.send(s.client, "DATA\r\n", lost=True)
    s.server.acked = s.client.seq
    s.says(s.server, "354 go\r\n")
    s.body()
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


@built("s86-body-uncaptured", "none", "clean", "the capture lacks a part of the body that was acknowledged")
def _(s):
    s.data()
    s.says(s.client, filler(0), pause=0.001)
    for i in range(3):
        s.send(s.client, filler(i), lost=True)
    s.server.acked = s.client.seq
    s.capture.wait(0.01)
    s.ack(s.server)
    s.body(3)
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


@built("s86-then-silence", "unknown", "capture-gap", "the capture lacks what the server said; then there is silence")
def _(s):
    s.envelope()
    s.says(s.client, "DATA\r\n")
    s.send(s.server, "354 go\r\n", lost=True)
    s.client.acked = s.server.seq
    s.capture.wait(0.01)
    s.ack(s.client)
    s.capture.wait(70)
    s.fin(s.client)
    s.capture.wait(0.01)
    s.ack(s.server)


@built("s86-body-then-silence", "unknown", "capture-gap", "the capture lacks a part of the body; then there is silence")
def _(s):
    s.data()
    s.says(s.client, filler(0), pause=0.001)
    s.send(s.client, filler(1), lost=True)
    s.server.acked = s.client.seq
    s.capture.wait(0.01)
    s.ack(s.server)
    s.capture.wait(70)
    s.says(s.server, "421 4.4.2 server.test Error: timeout exceeded\r\n", ack=False)
    s.capture.wait(0.01)
    s.client.acked = s.server.seq
    s.ack(s.client)


@built("loss-before", "none", "clean", "segments lost before us come late", segments_lost=True)
def _(s):
    s.data()
    for i in range(12):
        s.capture.wait(0.001)
        if i % 4 == 1:
            hole = s.send(s.client, filler(i), lost=True)
            continue
        s.send(s.client, filler(i), ack=False, push=False)
        if i % 4 == 3:
            for _ in range(3):
                s.ack(s.server, ack=hole[0], sack=[(hole[0] + MSS, s.client.seq)])
            s.capture.wait(0.03)
            s.again(s.client, hole)
            s.capture.wait(0.005)
            s.server.acked = s.client.seq
            s.ack(s.server)
    s.says(s.client, "\r\n.\r\n")
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


def tires(s):
    """The server's time for a body that runs is over."""
    s.says(s.server, "421 4.4.2 server.test Error: timeout exceeded\r\n")
    s.fin(s.server)
    s.capture.wait(0.01)
    s.client.acked = s.server.seq
    s.ack(s.client)


def loses_before(s, rounds):
    """Of every ten segments one is lost before us; it comes again when the server has asked for it."""
    for i in range(rounds):
        s.capture.wait(0.16)
        if i % 10 == 3:
            hole = s.send(s.client, filler(i), lost=True)
        elif i % 10 == 6:
            s.send(s.client, filler(i), ack=False, push=False)
            for _ in range(3):
                s.ack(s.server, ack=hole[0], sack=[(hole[0] + MSS, s.client.seq)])
            s.capture.wait(0.25)
            s.again(s.client, hole)
            s.capture.wait(0.005)
            s.server.acked = s.client.seq
            s.ack(s.server)
        else:
            s.send(s.client, filler(i), ack=i % 10 not in (4, 5), push=False)


def loses_behind(s, rounds, offset=0):
    """... one is lost behind us; the server's SACK blocks are `offset` beside the octets they mean."""
    for i in range(rounds):
        s.capture.wait(0.16)
        if i % 10 == 3:
            hole = s.send(s.client, filler(i), ack=False, push=False)
        elif i % 10 in (4, 5, 6):
            s.send(s.client, filler(i), ack=False, push=False)
            s.ack(s.server, ack=hole[0], sack=[((hole[0] + MSS + offset) % 2**32, (s.client.seq + offset) % 2**32)])
            if i % 10 == 6:
                s.capture.wait(0.25)
                s.again(s.client, hole)
                s.capture.wait(0.005)
                s.server.acked = s.client.seq
                s.ack(s.server)
        else:
            s.send(s.client, filler(i), push=False)


def queues(s, rounds, flight=10, pause=0.18):
    """A slow link behind us: each acknowledgement lets one segment go, and every one waits behind `flight` others."""
    ends = []
    for i in range(rounds):
        s.send(s.client, filler(i), ack=False, push=False)
        ends.append(s.client.seq)
        if i >= flight:
            s.capture.wait(pause)
            s.server.acked = ends[i - flight]
            s.ack(s.server)
    s.capture.wait(pause)
    s.server.acked = s.client.seq
    s.ack(s.server)


@built("s51-loss-client", "client-network", "loss", "a tenth is lost before us until the server tires")
def _(s):
    s.data()
    loses_before(s, 100)
    tires(s)


@built("s51-fine", "none", "clean", "the same, and the server is patient")
def _(s):
    s.data()
    loses_before(s, 100)
    s.says(s.client, "\r\n.\r\n")
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


@built("s52-loss-server", "server-network", "loss", "a tenth is lost behind us until the server tires")
def _(s):
    s.data()
    loses_behind(s, 100)
    tires(s)


@built("s53-slow-link", "server-network", "bandwidth", "the round trip behind us grows from 10 ms to 2 s")
def _(s):
    s.data()
    queues(s, 100)
    tires(s)


@built("s53-fine", "none", "clean", "the same, and the server is patient")
def _(s):
    s.data()
    queues(s, 100)
    s.says(s.client, "\r\n.\r\n")
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


@built("s54-trickle", "client", "slow-sender", "the client sends an octet at a time, all of it taken at once")
def _(s):
    s.data()
    for _ in range(60):
        s.says(s.client, "x", pause=0.25)
    tires(s)


@built("s55-unscaled", "middlebox", "window-scale-broken", "the SYN-ACK came without its window scale: the client sees 64 octets")
def _(s):
    s.server_scales = False
    s.server.window = 64
    s.data()
    for _ in range(60):
        s.says(s.client, "x" * 64, pause=0.2)
    tires(s)


@built("s55-fine", "none", "clean", "no scaling on either side, and windows that fit")
def _(s):
    s.server_scales = False
    s.server.window = 65535
    s.mail()
    s.quit()


def exceeds_window(s, lost, rounds):
    for _ in range(rounds):
        flight = [s.send(s.client, filler(i), ack=False, push=False) for i in range(6)]
        s.capture.wait(0.02)
        s.server.acked = flight[4][0] if lost else s.client.seq
        s.ack(s.server)
        for segment in flight[4:] if lost else []:
            s.capture.wait(0.5)
            s.again(s.client, segment)
            s.capture.wait(0.005)
            s.server.acked = segment[0] + MSS
            s.ack(s.server)


@built("s56-window-tracked", "middlebox", "window-scale-broken", "what goes beyond the unscaled window is dropped, and only that")
def _(s):
    s.scale, s.server.window = 2, 5840
    s.data()
    exceeds_window(s, True, 14)
    tires(s)


@built("s56-fine", "none", "clean", "what goes beyond the unscaled window passes")
def _(s):
    s.scale, s.server.window = 2, 5840
    s.data()
    exceeds_window(s, False, 14)
    s.says(s.client, "\r\n.\r\n")
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


@built("s57-sequence", "middlebox", "sequence-rewritten", "SACK blocks beside the octets they mean, always as far")
def _(s):
    s.data()
    loses_behind(s, 100, offset=0x70000000)
    tires(s)


@built("s57-fine", "none", "clean", "the same, and the server is patient")
def _(s):
    s.data()
    loses_behind(s, 50, offset=0x70000000)
    s.says(s.client, "\r\n.\r\n")
    s.says(s.server, "250 2.0.0 Ok: queued\r\n")
    s.quit()


@built("s35-tarpit", "policy", "tarpit", "each refusal comes later than the one before, until the client leaves")
def _(s):
    s.hello()
    s.says(s.client, "MAIL FROM:<a@client.test>\r\n")
    s.says(s.server, "250 2.1.0 Ok\r\n")
    for seconds in (3, 6, 9):
        s.says(s.client, "RCPT TO:<nobody@server.test>\r\n")
        s.says(s.server, "550 5.1.1 User unknown\r\n", pause=seconds)
    s.says(s.client, "RCPT TO:<nobody@server.test>\r\n")
    s.capture.wait(12)
    s.fin(s.client)
    s.capture.wait(0.01)
    s.ack(s.server)


@built("refused-and-left", "policy", "rejected", "the mail is refused, and the server closes in the same breath")
def _(s):
    s.data()
    s.body()
    s.says(s.server, "554 5.6.0 not this one\r\n", ack=False)
    s.fin(s.server)
    s.capture.wait(0.01)
    s.client.acked = s.server.seq
    s.ack(s.client)
    s.capture.wait(0.01)
    s.fin(s.client)
    s.capture.wait(0.01)
    s.ack(s.server)


@built("s41-vanished", "client-network", "reset-injected", "the client answers a reply with the reset of a host that knows no such connection")
def _(s):
    s.envelope()
    s.says(s.client, "DATA\r\n")
    s.capture.wait(5)
    s.send(s.server, "354 go\r\n", ack=False)
    s.capture.wait(0.01)
    s.rst(s.client)


@built("s62-reset", "client", "aborted", "the client resets of its own accord")
def _(s):
    s.data()
    s.says(s.client, filler(0), pause=0.001)
    s.capture.wait(0.01)
    s.raw(s.client, RST | ACK, s.client.seq, s.client.acked, window=0)


@built("duplicated", "none", "clean", "every packet captured twice", twice=True)
def _(s):
    s.mail()
    s.quit()


@built("reordered", "none", "clean", "neighbouring packets in the wrong order", swap=True)
def _(s):
    s.mail()
    s.quit()


@built("keepalives", "none", "clean", "keepalives with one octet and with none are no repetitions")
def _(s):
    s.mail()
    for payload in (b"", b"\n"):
        s.capture.wait(30)
        s.raw(s.client, ACK, s.client.seq - 1, s.client.acked, payload)
        s.capture.wait(0.01)
        s.ack(s.server)
    s.quit()


@built("syn-reuse", "none", "clean", "the same ports again at once: two sessions", sessions=2)
def _(s):
    s.mail()
    s.quit()
    s.capture.wait(0.5)
    again = Session(s.capture, s.version, client_isn=77_000_000, server_isn=99_000_000)
    again.mail()
    again.quit()


@built("clock-back", "none", "clean", "the clock of the capture steps back an hour", step=-3600)
def _(s):
    s.mail()
    s.quit()


@built("clock-forward", "none,unknown", "clean", "the clock of the capture is set two hours forward in mid-session", step=7200, paces=())
def _(s):
    s.mail()
    s.quit()


@built("clock-set", "none,unknown", "clean", "the clock of the capture is set from 1970 in mid-session", step=1_700_000_000, paces=())
def _(s):
    s.mail()
    s.quit()


def frames_of(options, function, version, pace=1):
    capture = Capture()
    session = Session(capture, version, **options.get("session", {}))
    function(session)
    packets = capture.packets
    side = {"client": session.client, "server": session.server}.get(options.get("keep"))
    if side:
        address = ipaddress.ip_address(side.address).packed
        packets = [p for p in packets if (p[1][12:16] if version == 4 else p[1][8:24]) == address]
    packets = packets[options.get("skip", 0):]
    packets = packets[:options.get("only", len(packets))]
    if options.get("twice"):
        packets = [(when + i * 0.00001, packet) for when, packet in packets for i in range(2)]
    if options.get("swap"):
        times = [when for when, _ in packets]
        for i in range(5, len(packets) - 4, 3):
            packets[i], packets[i + 1] = packets[i + 1], packets[i]
        packets = [(when, packet) for when, (_, packet) in zip(times, packets)]
    if "step" in options:
        half = len(packets) // 2
        packets = packets[:half] + [(when + options["step"], packet) for when, packet in packets[half:]]
    return [(START + (when - START) * pace, ethernet(packet)) for when, packet in packets]


def build_all(directory):
    with open(directory / "EXPECTED.tsv", "w", encoding="ascii") as expected:
        for name, fault, cause, what, options, function in BUILT:
            for version in (4, 6):
                path = f"{name}-v{version}.pcap"
                write_pcap(directory / path, frames_of(options, function, version), snap=options.get("snap", 262144))
                print(path, fault, cause or "-", options.get("sessions", 0), what, sep="\t", file=expected)
            for pace in options.get("paces", (0.5, 2)):  # a verdict must not hang on a threshold
                path = f"{name}-pace-{pace}.pcap"
                frames = frames_of(options, function, 4, pace)
                write_pcap(directory / path, frames, snap=options.get("snap", 262144))
                print(path, fault, cause or "-", options.get("sessions", 0), what, sep="\t", file=expected)


# --- envelopes -----------------------------------------------------------------------------------------------------

def read_pcap(path):
    data = Path(path).read_bytes()
    order = "<" if data[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    at, frames = 24, []
    while at + 16 <= len(data):
        seconds, micro, captured, _ = struct.unpack_from(order + "IIII", data, at)
        frames.append((seconds + micro / 1e6, data[at + 16:at + 16 + captured]))
        at += 16 + captured
    return frames


def envelopes(source, directory):
    frames = read_pcap(source)
    ip = [(when, frame[14:]) for when, frame in frames]

    def each(wrap):
        return [(when, wrap(packet)) for when, packet in ip]

    def kind(packet):
        return struct.pack("!H", 0x0800 if packet[0] >> 4 == 4 else 0x86DD)

    def ppp(packet):
        return struct.pack("!H", 0x0021 if packet[0] >> 4 == 4 else 0x0057) + packet

    def family(packet, order):
        return struct.pack(order + "I", 2 if packet[0] >> 4 == 4 else 24) + packet

    macs = b"\x02\0\0\0\0\x02" + b"\x02\0\0\0\0\x01"
    write_pcap(directory / "ethernet.pcap", frames)
    write_pcap(directory / "big-endian.pcap", frames, order=">")
    write_pcap(directory / "nanosecond.pcap", frames, nanoseconds=True)
    write_pcap(directory / "nanosecond-big-endian.pcap", frames, order=">", nanoseconds=True)
    write_pcapng(directory / "pcapng.pcapng", frames)
    write_pcapng(directory / "pcapng-big-endian.pcapng", frames, order=">")
    write_pcap(directory / "vlan.pcap", each(lambda p: macs + b"\x81\0\0\x64" + kind(p) + p))
    write_pcap(directory / "qinq.pcap", each(lambda p: macs + b"\x88\xa8\0\x64\x81\0\0\x65" + kind(p) + p))
    write_pcap(directory / "qinq-old.pcap", each(lambda p: macs + b"\x91\0\0\x64\x81\0\0\x65" + kind(p) + p))
    write_pcap(directory / "mpls.pcap", each(lambda p: macs + b"\x88\x47" + b"\0\1\0\x40" + b"\0\2\1\x40" + p))
    write_pcap(directory / "padded.pcap", [(when, frame + b"\0" * max(0, 60 - len(frame))) for when, frame in frames])
    write_pcap(directory / "sll.pcap", each(lambda p: b"\0\0\0\1\0\6" + b"\2\0\0\0\0\1\0\0" + kind(p) + p), link=113)
    write_pcap(directory / "sll2.pcap", each(lambda p: kind(p) + b"\0\0\0\0\0\2\0\1\0\6" + b"\2\0\0\0\0\1\0\0" + p), link=276)
    write_pcap(directory / "raw.pcap", ip, link=101)
    write_pcap(directory / "raw-old.pcap", ip, link=12)
    write_pcap(directory / "null.pcap", each(lambda p: family(p, "<")), link=0)
    write_pcap(directory / "null-big-endian.pcap", each(lambda p: family(p, ">")), link=0)
    write_pcap(directory / "loop.pcap", each(lambda p: family(p, ">")), link=108)
    write_pcap(directory / "ppp.pcap", each(ppp), link=9)
    write_pcap(directory / "ppp-hdlc.pcap", each(lambda p: b"\xff\x03" + ppp(p)), link=50)
    write_pcap(directory / "pppoe.pcap", each(
        lambda p: macs + b"\x88\x64" + struct.pack("!BBHH", 0x11, 0, 1, len(p) + 2) + ppp(p)))
    write_pcap(directory / "pppoe-alone.pcap", each(lambda p: struct.pack("!BBHH", 0x11, 0, 1, len(p) + 2) + ppp(p)), link=51)
    version = ip[0][1][0] >> 4
    write_pcap(directory / "ip-alone.pcap", ip, link=228 if version == 4 else 229)


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--envelopes":
        envelopes(sys.argv[2], Path(sys.argv[3]))
    elif len(sys.argv) == 2 and not sys.argv[1].startswith("-"):
        build_all(Path(sys.argv[1]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
