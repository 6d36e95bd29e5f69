#!/usr/bin/env python3
"""A transparent proxy just big enough to test the rules with. It gives signs of life as the witness does.

It accepts on PORT with IP_TRANSPARENT, v4 and v6, connects to the original destination from the client's own
address and port, and relays. Before that it tells the client, in one line, who it is, whom it took the client
for and where the client wanted to go. A client may write commands to it as its first line:
  HELLO   nothing more        RELAY   relay from now on        FIRST   the proxy closes first
  MTU     send a large answer, then say what path MTU the kernel has learned for the client
"""
import contextlib
import socket
import sys
import threading
import time

IP_TRANSPARENT, IPV6_TRANSPARENT, IP_MTU, IPV6_MTU = 19, 75, 14, 24


def transparent(family):
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET:
        sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    return sock


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def path_mtu(sock):
    if sock.family == socket.AF_INET:
        return sock.getsockopt(socket.SOL_IP, IP_MTU)
    return sock.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)


def relay(client, family):
    server = transparent(family)
    server.settimeout(5)
    server.bind(client.getpeername())
    server.connect(client.getsockname())
    back = threading.Thread(target=pump, args=(server, client))
    back.start()
    pump(client, server)
    back.join()
    server.close()


def serve(client, family):
    peer, wanted = client.getpeername(), client.getsockname()
    client.settimeout(10)
    try:
        client.sendall(f"witness client={peer[0]}:{peer[1]} wanted={wanted[0]}:{wanted[1]}\n".encode())
        command = client.makefile("rb", buffering=0).readline().strip()
        if command == b"RELAY":
            relay(client, family)
        elif command == b"MTU":
            client.sendall(b"x" * 20000 + b"\n")
            client.recv(1)
            client.sendall(f"mtu={path_mtu(client)}\n".encode())
        elif command != b"FIRST":
            client.recv(1)
    except OSError as error:
        print(f"{peer}: {error}", flush=True)
    client.close()


def listen(family, port):
    sock = transparent(family)
    sock.bind(("0.0.0.0" if family == socket.AF_INET else "::", port))
    sock.listen(128)
    return sock


def accept_forever(sock):
    while True:
        client, _ = sock.accept()
        threading.Thread(target=serve, args=(client, sock.family), daemon=True).start()


def give_signs():
    """Empty datagrams of protocol 253, again and again; the rules drop them, which is told by EPERM."""
    signs = [(socket.socket(family, socket.SOCK_RAW, 253), (address, 0))
             for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))]
    while True:
        for sock, to in signs:
            with contextlib.suppress(PermissionError):
                sock.sendto(b"", to)
        time.sleep(0.2)


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 10025
    listeners = [listen(family, port) for family in (socket.AF_INET, socket.AF_INET6)]
    threading.Thread(target=give_signs, daemon=True).start()
    print("ready", flush=True)
    for sock in listeners[1:]:
        threading.Thread(target=accept_forever, args=(sock,), daemon=True).start()
    accept_forever(listeners[0])


main()
