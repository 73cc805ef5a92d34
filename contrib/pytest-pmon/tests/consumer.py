#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Prints the kind and the process of each event. The first argument chooses a way to go wrong."""
import errno
import socket
import struct
import sys


def main(mode):
    connector = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11)
    if mode == "open":
        return
    connector.bind((0, 1))
    # struct nlmsghdr, struct cn_msg, and the request to subscribe.
    connector.send(struct.pack("=IHHIIIIIIHHI", 40, 3, 0, 0, 0, 1, 1, 0, 0, 4, 0, 1))
    if mode == "subscribe":
        return
    while mode == "spin":
        pass
    for _ in range(3 if mode == "fail" else sys.maxsize):
        try:
            datagram = connector.recv(4096)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            print("ENOBUFS", flush=True)
            continue
        if not datagram:
            return
        print(*struct.unpack_from("=I12xI", datagram, 36), flush=True)
    sys.exit(3)


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
