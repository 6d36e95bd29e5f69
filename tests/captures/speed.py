#!/usr/bin/python3
"""speed.py [MEGABYTES [PROGRAM]] - how fast replay reads a big capture, and in how much memory.

Builds a capture (1000 MB unless told otherwise) of some forty mail sessions at a time, with bodies from 3 kB to 2 MB, and runs
`smtpwitness replay` on it three times: as it is, once more for the text, and through standard input. Beside it what cat needs to
read the same file. Memory is never said to be less than this script's own 19 MB. Needs that much room in TMPDIR (/tmp); takes a
minute. On demand, no part of any check."""
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import build

AT_ONCE = 40
BODIES = [2] * 14 + [40] * 5 + [1400]  # segments
PORT_AT = {True: 34, False: 36}        # of the client's port in an Ethernet frame, IPv4 without options: by its direction


def template(segments):
    """One session: (time, frame) with the times from 0, and whether the client sent it."""
    capture = build.Capture()
    build.Session(capture, 4).mail(segments)
    start = capture.packets[0][0]
    client = build.ipaddress.ip_address(build.CLIENT).packed
    return [(when - start, build.ethernet(packet), packet[12:16] == client) for when, packet in capture.packets]


def write(path, octets):
    random.seed(1)
    sizes = sorted(set(BODIES))
    templates = {size: template(size) for size in sizes}
    running, clock, port, written, sessions = [], 0.0, 1024, 24, 0
    with open(path, "wb", buffering=1 << 20) as file:
        file.write(build.struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        while written < octets or running:
            while len(running) < AT_ONCE and written < octets:
                port = port + 1 if port < 65000 else 1025
                sessions += 1
                running.append([clock + random.random() / 100, 0, templates[random.choice(BODIES)], port])
            mine = min(running, key=lambda one: one[0] + one[2][one[1]][0])
            for _ in range(8):  # packets come in trains
                started, at, packets, own_port = mine
                offset, frame, by_client = packets[at]
                clock = max(clock, started + offset)
                place = PORT_AT[by_client]
                micro = int(clock * 1e6)
                frame = frame[:place] + own_port.to_bytes(2, "big") + frame[place + 2:]
                file.write(build.struct.pack("<IIII", 1_700_000_000 + micro // 1_000_000, micro % 1_000_000, len(frame),
                                             len(frame)) + frame)
                written += 16 + len(frame)
                mine[1] += 1
                if mine[1] == len(packets):
                    running.remove(mine)
                    break
    return sessions


def measure(name, command, octets, **how):
    begun = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, **how)
    lines = sum(1 for _ in child.stdout)
    _, status, usage = os.wait4(child.pid, 0)
    took = time.monotonic() - begun
    print(f"{name:<22} {octets / took / 1e6:7.0f} MB/s  {took:6.2f} s (processor {usage.ru_utime + usage.ru_stime:.2f} s)"
          f"  {usage.ru_maxrss / 1024:6.0f} MB at most  {lines} lines, status {os.waitstatus_to_exitcode(status)}")


def main():
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    program = Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parents[2] / "build/smtpwitness").resolve()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "big.pcap")
        sessions = write(path, wanted * 1_000_000)
        octets = path.stat().st_size
        print(f"{octets / 1e6:.0f} MB, {sessions} sessions")
        for _ in range(2):  # the first one brings it into memory
            measure("cat", ["sh", "-c", f"cat '{path}' | wc -c"], octets)
        for _ in range(3):
            measure("replay, logfmt", [program, "replay", "--format=logfmt", path], octets)
        measure("replay, text", [program, "replay", path], octets)
        with open(path, "rb") as file:
            measure("replay, standard input", [program, "replay", "--format=json", "-"], octets, stdin=file)


if __name__ == "__main__":
    main()
