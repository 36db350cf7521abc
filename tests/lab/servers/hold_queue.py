"""Holds a number of NFQUEUE, as any other program that uses it would, and reads nothing.

Argument: the number. Formats: linux/netfilter/nfnetlink.h, nfnetlink_queue.h.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys

NETLINK_NETFILTER = 12
CONFIG = 3 << 8 | 2
REQUEST_AND_ACK = 5
CFG_CMD, BIND = 1, 1


def main() -> None:
    command = struct.pack("=HHBxH", 8, CFG_CMD, BIND, 0)
    body = struct.pack("=BB", 0, 0) + struct.pack("!H", int(sys.argv[1])) + command
    header = struct.pack("=IHHII", 16 + len(body), CONFIG, REQUEST_AND_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as holder:
        holder.bind((0, 0))
        holder.send(header + body)
        (failed,) = struct.unpack_from("=i", holder.recv(4096), 16)
        if failed:
            raise OSError(-failed, "the queue cannot be had")
        print("holding", flush=True)  # noqa: T201
        signal.pause()


if __name__ == "__main__":
    main()
