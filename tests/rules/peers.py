#!/usr/bin/env python3
"""The mail server and the clients of the rules test, reduced to what the rules can get wrong.

  peers.py server PORT                        greets with the peer's address, counts octets to the end, says how many
  peers.py hello ADDRESS PORT [SOURCE]        prints the first line that comes
  peers.py upload ADDRESS PORT SOURCE COUNT   through the proxy, with an initial sequence number of its own
  peers.py again ADDRESS PORT SOURCE          the proxy closes first, then the same port is used again at once
  peers.py mtu ADDRESS PORT                   prints the path MTU the proxy learned for us
  peers.py hold ADDRESS PORT FILE             connects, waits until FILE exists, then goes on
"""
import os
import random
import socket
import sys
import threading
import time

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_SEND_QUEUE, REPAIR_OFF = 19, 20, 21, 2, -1


def server_one(connection):
    peer = connection.getpeername()
    try:
        connection.sendall(f"server client={peer[0]}:{peer[1]}\n".encode())
        count = 0
        while data := connection.recv(65536):
            count += len(data)
        connection.sendall(f"got {count}\n".encode())
    except OSError:
        pass
    connection.close()


def server(port):
    def forever(listener):
        while True:
            threading.Thread(target=server_one, args=(listener.accept()[0],), daemon=True).start()

    listeners = [socket.create_server((a, port), family=f, backlog=64)
                 for a, f in (("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6))]
    print("ready", flush=True)
    threading.Thread(target=forever, args=(listeners[1],), daemon=True).start()
    forever(listeners[0])


def connect(address, port, source=None, source_port=0, own_sequence=False):
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(3)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if source or source_port:
        sock.bind((source or "", source_port))
    if own_sequence:  # the kernel would give both legs the same one: all namespaces share its secret
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, random.randrange(1, 2**31))
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF)
    sock.connect((address, port))
    return sock, sock.makefile("rb")


def upload(address, port, source, count):
    sock, lines = connect(address, port, source, own_sequence=True)
    print(lines.readline().decode().strip())
    sock.sendall(b"RELAY\n")
    print(lines.readline().decode().strip())
    sock.sendall(b"x" * count)
    sock.shutdown(socket.SHUT_WR)
    print(lines.readline().decode().strip())


def again(address, port, source):
    sock, lines = connect(address, port, source)
    source_port = sock.getsockname()[1]
    lines.readline()
    sock.sendall(b"FIRST\n")
    lines.read()  # the proxy closes first, so its socket is the one that keeps the TIME_WAIT
    lines.close()
    sock.close()
    time.sleep(0.1)
    _, lines = connect(address, port, source, source_port)
    print("again", lines.readline().decode().strip())


def path_mtu(address, port):
    sock, lines = connect(address, port)
    lines.readline()
    sock.sendall(b"MTU\n")
    lines.readline()
    sock.sendall(b"y")
    print(lines.readline().decode().strip())


def hold(address, port, name):
    sock, lines = connect(address, port)
    print(lines.readline().decode().strip(), flush=True)
    for _ in range(400):
        if os.path.exists(name):
            break
        time.sleep(0.05)
    sock.sendall(b"12345")
    sock.shutdown(socket.SHUT_WR)
    print(lines.readline().decode().strip())


def main():
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb == "server":
        server(int(rest[0]))
    address, port = rest[0], int(rest[1])
    try:
        if verb == "hello":
            print(connect(address, port, *rest[2:])[1].readline().decode().strip())
        elif verb == "upload":
            upload(address, port, rest[2], int(rest[3]))
        elif verb == "again":
            again(address, port, rest[2])
        elif verb == "mtu":
            path_mtu(address, port)
        elif verb == "hold":
            hold(address, port, rest[2])
    except OSError as error:
        print(f"error {error.__class__.__name__}: {error}")
        sys.exit(1)


main()
