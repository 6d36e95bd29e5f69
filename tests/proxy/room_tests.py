"""Many sessions, idle ones, and too many: descriptors, memory, the limit of sessions."""

import os
import random
import signal
import socket
import subprocess
import tempfile
import time

from lab import ADDRESS, claim, claim_memory, CLIENT, Client, connect, inside, listen, pair, reset, until, Witness

IDLE = int(os.environ.get("IDLE", "2500"))
FAILING_ACCEPT = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
int accept4(int fd, __SOCKADDR_ARG address, socklen_t *restrict length, int flags)
{
    if (access(FLAG, F_OK) == 0) {
        errno = ERROR;
        return -1;
    }
    return (int)syscall(SYS_accept4, fd, address.__sockaddr__, length, flags);
}
"""


def test_many():
    """Sessions that end in every way, in any order; nothing stays."""
    with Witness() as witness, listen(4) as listener:
        pair_sockets = pair(listener, 4)
        pair_sockets[0].close(), pair_sockets[1].close()
        time.sleep(0.3)
        base = witness.descriptors()
        memory = witness.memory_kb()
        generator = random.Random(7)
        total = 2000
        for begin in range(0, total, 250):
            sessions = [pair(listener, 4)[:2] for _ in range(250)]
            for client, server in sessions:
                way = generator.randrange(10)
                if way in (0, 1):
                    client.sendall(b"QUIT\r\n")
                first, second = (client, server) if generator.random() < 0.5 else (server, client)
                if way in (2, 3):
                    second.sendall(b"x" * 70000)
                if way < 5:
                    first.close()
                elif way < 8:
                    reset(first)
                else:
                    first.shutdown(socket.SHUT_WR)
            for client, server in sessions:
                for sock in (client, server):
                    if generator.random() < 0.3 and sock.fileno() != -1:
                        reset(sock)
                    else:
                        sock.close()
        claim(until(lambda: len(witness.verdicts()) == total + 1, 20), f"{total} sessions ended in every way: one verdict each",
              f"{len(witness.verdicts())}")
        until(lambda: witness.descriptors() == base, 6)
        claim(witness.descriptors() == base, "... no descriptor stays open", f"{witness.descriptors()} of {base}")
        ids = [record["session"] for record in witness.verdicts()]
        claim(len(set(ids)) == len(ids), "... no session id twice")
        grown = witness.memory_kb() - memory
        claim_memory(grown < 4096, "... memory does not grow", f"{grown} kB")
        witness.process.send_signal(signal.SIGUSR1)
        until(lambda: any("sessions=0 " in line for line in witness.messages), 3)
        claim(any("sessions=0 " in line and f"finished={total + 1}" in line for line in witness.messages), "... and the counters say so")


def test_idle_memory():
    """Greeted sessions that wait: process memory for each."""
    with Witness(probe_after="10min") as witness, listen(4) as listener:
        warm = [pair(listener, 4) for _ in range(100)]
        for client, server, _ in warm:
            server.sendall(b"220 server.test ESMTP\r\n")
            client.recv(100)
        time.sleep(0.3)
        before = witness.memory_kb()
        kept = []
        for _ in range(IDLE):
            client, server, _ = pair(listener, 4)
            server.sendall(b"220 server.test ESMTP\r\n")
            client.recv(100)
            client.sendall(b"EHLO c\r\n")
            server.recv(100)
            server.sendall(b"250-server.test\r\n250 PIPELINING\r\n")
            client.recv(100)
            kept.append((client, server))
        time.sleep(0.5)
        each = (witness.memory_kb() - before) * 1024 / IDLE
        claim_memory(each <= 1024, f"{IDLE} idle sessions: at most 1 kB of process memory each", f"{each:.0f} octets")
        cpu = witness.processor_seconds()
        time.sleep(3)
        cpu = witness.processor_seconds() - cpu
        claim(cpu < 0.05, "... and they cost no processor time", f"{cpu:.2f} s in 3 s")
        for client, server in kept:
            client.close(), server.close()
        claim(until(lambda: len(witness.verdicts()) >= IDLE, 20), "... and all of them end")


def test_shortage():
    """No descriptors left: no spinning, newcomers learn of it, and it recovers."""
    with Witness(descriptors=120, max_sessions=1000, workers=1) as witness, listen(4) as listener:
        held, turned = [], []
        with inside(CLIENT):
            clients = [Client() for _ in range(80)]
        for client in clients:
            client.settimeout(10)
            try:
                client.connect((ADDRESS[4]["sv"], 25))
            except ConnectionResetError:  # turned away before connect() returned
                turned.append(client)
        listener.settimeout(1)
        try:
            while True:
                held.append(listener.accept()[0])
        except TimeoutError:
            pass
        cpu = witness.processor_seconds()
        time.sleep(3)
        cpu = witness.processor_seconds() - cpu
        claim(cpu < 0.15, "out of descriptors: it does not spin", f"{cpu:.2f} s in 3 s, {len(held)} sessions")
        claim(any("no descriptor" in line for line in witness.messages), "... it says so in the log")
        for client in clients:
            client.setblocking(False)
            try:
                client.recv(1)
            except ConnectionResetError:
                turned.append(client)
            except OSError:  # nothing yet, or told at connect() already
                pass
        claim(len(turned) + len(held) == len(clients), "... those it cannot serve are reset, none waits in silence",
              f"{len(turned)} reset, {len(held)} served")
        for sock in clients + held:
            sock.close()
        listener.settimeout(10)
        time.sleep(1.5)
        client, server, _ = pair(listener, 4)
        server.sendall(b"220 x\r\n")
        claim(client.recv(100) == b"220 x\r\n", "... and serves again as soon as there are some")
        client.close(), server.close()
        claim(until(lambda: len(witness.verdicts()) == len(clients) + 1, 5), "... every connection has its verdict",
              f"{len(witness.verdicts())}")


def test_shortage_of_the_system():
    """accept() says that the whole system has no file or memory left: no descriptor of ours helps then, only a pause."""
    if os.environ.get("SANITIZED"):
        print("# skipped with a sanitizer: accept() cannot be replaced beneath it", flush=True)
        return
    for error in ("ENFILE", "ENOMEM"):
        with tempfile.TemporaryDirectory() as directory:
            flag, library = f"{directory}/flag", f"{directory}/accept.so"
            subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-o", library, f'-DFLAG="{flag}"', f"-DERROR={error}", "-"],
                           input=FAILING_ACCEPT, text=True, check=True)
            with Witness(preload=library, workers=1) as witness, listen(4) as listener:
                with open(flag, "w", encoding="ascii"):
                    pass
                client = connect(4)
                cpu = witness.processor_seconds()
                time.sleep(2)
                cpu = witness.processor_seconds() - cpu
                claim(cpu < 0.05, f"{error}: it does not spin while a client waits", f"{cpu:.2f} s in 2 s")
                claim(any("no descriptor or memory left" in line for line in witness.messages), "... it says so")
                os.unlink(flag)
                listener.settimeout(3)
                server, _ = listener.accept()
                server.sendall(b"220 x\r\n")
                claim(client.recv(100) == b"220 x\r\n", "... and that client is served as soon as there is some again")
                client.close(), server.close()


def test_max_sessions():
    with Witness(max_sessions=10) as witness, listen(4) as listener:
        first = [pair(listener, 4) for _ in range(10)]
        client = connect(4)
        listener.settimeout(0.5)
        try:
            listener.accept()
            claim(False, "at max-sessions the next one waits")
        except TimeoutError:
            claim(True, "at max-sessions the next one waits")
        for a, b, _ in first[:3]:
            a.close(), b.close()
        listener.settimeout(5)
        server, _ = listener.accept()
        server.sendall(b"220 x\r\n")
        claim(client.recv(100) == b"220 x\r\n", "... and is served when one ended")
        claim(witness.processor_seconds() < 1, "... without spinning")
