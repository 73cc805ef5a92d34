# SPDX-License-Identifier: MIT OR Apache-2.0
"""Two listening threads, of which the second one subscribes long after the first one."""
import os
import signal
import socket
import struct
import threading

counts = [0, 0]


def listen(listener):
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11)
    sock.bind((0, 1))
    sock.send(struct.pack("=IHHIIIIIIHHI", 40, 3, 0, 0, 0, 1, 1, 0, 0, 4, 0, 1))
    while True:
        sock.recv(4096)
        counts[listener] += 1


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
threading.Thread(target=listen, args=[0], daemon=True).start()
sum(range(3_000_000))
threading.Thread(target=listen, args=[1], daemon=True).start()
signal.sigwait([signal.SIGINT])
print(counts[0], counts[1], sep="\n", flush=True)
os._exit(0)
