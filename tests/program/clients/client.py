# SPDX-License-Identifier: MIT OR Apache-2.0
"""Receives with each of Python's ways of waiting: recv, timeout, selectors, asyncio."""
import asyncio
import os
import selectors
import signal
import socket
import struct
import sys


def print_event(datagram):
    what, = struct.unpack_from("=I", datagram, 36)
    data = struct.unpack_from("=6I", datagram, 52)
    print({
        0: lambda: "ack",
        0x1: lambda: f"fork {data[0]} {data[2]}",
        0x2: lambda: f"exec {data[0]}",
        0x4: lambda: f"uid {data[0]} {data[2]} {data[3]}",
        0x40: lambda: f"gid {data[0]} {data[2]} {data[3]}",
        0x80: lambda: f"sid {data[0]}",
        0x100: lambda: f"ptrace {data[0]} {data[2]}",
        0x200: lambda: f"comm {data[0]} {datagram[60:76].split(bytes(1))[0].decode()}",
        0x40000000: lambda: f"coredump {data[0]}",
        0x80000000: lambda: f"exit {data[0]} {data[2]}",
    }[what](), flush=True)


def blocking(sock):
    while True:
        datagram, sender = sock.recvfrom(4096)
        assert sender == (0, 1), sender
        print_event(datagram)


def selecting(sock):
    sock.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    while True:
        for _ in selector.select():
            print_event(sock.recv(4096))


async def awaiting(sock):
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    while True:
        print_event(await loop.sock_recv(sock, 4096))


def main():
    mode = sys.argv[1]
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11)
    sock.bind((os.getpid(), 1))
    assert sock.getsockname() == (os.getpid(), 1)
    sock.send(struct.pack("=IHHIIIIIIHHI", 40, 3, 0, 0, os.getpid(), 1, 1, 0, 0, 4, 0, 1))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if mode == "timeout":
        sock.settimeout(60)
    try:
        if mode == "selectors":
            selecting(sock)
        elif mode == "asyncio":
            asyncio.run(awaiting(sock))
        else:
            blocking(sock)
    except KeyboardInterrupt:
        pass


main()
