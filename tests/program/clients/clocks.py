# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads the clocks in several threads. Modes: events: at each event; waits: with time-outs."""
import os
import queue
import signal
import socket
import struct
import sys
import threading
import time

received = queue.SimpleQueue()


def receive(sock):
    while True:
        datagram = sock.recv(4096)
        received.put((struct.unpack_from("=I", datagram, 36)[0], time.monotonic_ns(), time.time_ns()))


def since(what, wait):
    began = time.monotonic()
    result = wait()
    print(what, result, round((time.monotonic() - began) * 1000), flush=True)


def get_nothing():
    try:
        queue.Queue().get(timeout=0.05)
    except queue.Empty:
        return "empty"


def end(*_):
    received.put(None)


def print_waits():
    since("sleep", lambda: time.sleep(0.03))
    since("event", lambda: threading.Event().wait(0.04))
    since("queue", get_nothing)
    started = threading.Event()
    threading.Thread(target=started.set).start()
    print("started", started.wait(3600), flush=True)


def print_events():
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11)
    sock.bind((os.getpid(), 1))
    sock.send(struct.pack("=IHHIIIIIIHHI", 40, 3, 0, 0, os.getpid(), 1, 1, 0, 0, 4, 0, 1))
    threading.Thread(target=receive, args=(sock,), daemon=True).start()
    while item := received.get(timeout=3600):
        what, mono, real = item
        if what:
            print("clocks", mono, real, flush=True)


{"events": print_events, "waits": print_waits}[sys.argv[1]]()
