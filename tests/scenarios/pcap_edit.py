"""pcap_edit.py - makes a capture imperfect, as captures are: packets missing, cut short, or of one direction only."""

import ipaddress
import struct
import zlib

SLL2_OCTETS = 20  # what `tcpdump -i any` writes before each packet
PCAP_HEADER, RECORD_HEADER = struct.Struct("<IHHiIII"), struct.Struct("<IIII")
CLIENTS = [ipaddress.ip_network(network) for network in ("192.0.2.0/24", "2001:db8:1::/64")]


def _read(path):
    with open(path, "rb") as file:
        header = file.read(PCAP_HEADER.size)
        records = []
        while True:
            raw = file.read(RECORD_HEADER.size)
            if len(raw) < RECORD_HEADER.size:
                return header, records
            seconds, micros, kept, whole = RECORD_HEADER.unpack(raw)
            records.append((seconds, micros, whole, file.read(kept)))


def _tcp(frame):
    """(source address, TCP segment) of a frame, or None."""
    packet = frame[SLL2_OCTETS:]
    if len(packet) >= 40 and packet[0] >> 4 == 4 and packet[9] == 6:
        return ipaddress.ip_address(packet[12:16]), packet[(packet[0] & 15) * 4:]
    if len(packet) >= 60 and packet[0] >> 4 == 6 and packet[6] == 6:
        return ipaddress.ip_address(packet[8:24]), packet[40:]
    return None


def edit(path, target, options):
    """`options`: only = "client"|"server" (whose packets are there at all), skip = N (the first N segments are missing), thin = N
    (every Nth is missing, by chance, in both its copies), snap = N (packets are cut to so many octets)."""
    header, records = _read(path)
    seen = []
    with open(target, "wb") as file:
        file.write(header)
        for seconds, micros, whole, frame in records:
            found = _tcp(frame)
            if found is not None:
                source, segment = found
                from_client = any(source in network for network in CLIENTS)
                if options.get("only") and options["only"] != ("client" if from_client else "server"):
                    continue
                if segment not in seen[-200:]:
                    seen.append(segment)
                if len(seen) <= options.get("skip", 0):
                    continue
                if options.get("thin") and zlib.crc32(segment) % options["thin"] == 0:
                    continue
            frame = frame[:options["snap"] + SLL2_OCTETS] if options.get("snap") else frame
            file.write(RECORD_HEADER.pack(seconds, micros, len(frame), whole) + frame)
