"""Asks for many fresh names, many at a time, and connects at once after each answer.

Arguments: the server, how many names, how many at a time. Each name is asked for once, by IPv6
address; the answer's is connected to, port 80, in the next instruction. With every tenth name goes
one whose answer is malformed, and with every fiftieth one of 64 KiB over TCP. Prints in the end how
many connections were made, how many failed, and the longest time from answer to connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time

PATIENCE = 5.0
PORT = 80
BASE = 1000
AAAA = 28


def question(number: int, label: str) -> bytes:
    labels = b"".join(bytes((len(p),)) + p.encode() for p in (label, "cdn", "example"))
    return (
        struct.pack("!6H", number, 0x0100, 1, 0, 0, 0)
        + labels
        + b"\0"
        + struct.pack("!2H", AAAA, 1)
    )


async def ask_udp(server: str, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)  # noqa: FBT003
        client.connect((server, 53))
        client.send(query)
        return await asyncio.wait_for(loop.sock_recv(client, 65535), PATIENCE)


async def ask_tcp(server: str, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, 53)
    writer.write(struct.pack("!H", len(query)) + query)
    size = int.from_bytes(await reader.readexactly(2), "big")
    answer = await asyncio.wait_for(reader.readexactly(size), PATIENCE)
    writer.close()
    return answer


async def connect(address: str) -> float:
    """The seconds that it took; OSError or TimeoutError where it failed."""
    loop, started = asyncio.get_running_loop(), time.monotonic()
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
        client.setblocking(False)  # noqa: FBT003
        await asyncio.wait_for(loop.sock_connect(client, (address, PORT)), PATIENCE)
        return time.monotonic() - started


async def main() -> None:
    server, names, outstanding = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    numbers, failed, slowest, largest = iter(range(names)), 0, 0.0, 0

    async def work() -> None:
        nonlocal failed, slowest, largest
        for number in numbers:
            if number % 10 == 0:
                await ask_udp(server, question(number, f"cut-{BASE + 2 * names + number}"))
            if number % 50 == 0:
                answer = await ask_tcp(server, question(number, f"huge-{BASE + names + number}"))
                largest = max(largest, len(answer))
            try:
                answer = await ask_udp(server, question(number, f"plain-{BASE + number}"))
                address = socket.inet_ntop(socket.AF_INET6, answer[-16:])
                slowest = max(slowest, await connect(address))
            except (OSError, TimeoutError):
                failed += 1

    await asyncio.gather(*(work() for _ in range(outstanding)))
    print(f"connected {names - failed} failed {failed} slowest {slowest:.3f} largest {largest}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
