"""Opens connections by the hundred and finishes nothing that it begins, until it is ended.

Arguments: an address, a port, how many. Each connection is of one of these kinds: one that says
nothing, one that says what is no protocol, one that sends a TLS hello byte by byte, one that does
the same with a request. What ends is opened again. Says `open` once all were tried, and then each
second how many are open.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import sys

BEGINNINGS = {
    "silent": b"",
    "noise": os.urandom(4096),
    "hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "request": b"GET /v2/ HTTP/1.1\r\nHost: ghcr.io\r\nx: ",
}
DRIP = 0.2


class Strangers:
    def __init__(self, address: str, port: int) -> None:
        self.place = address, port
        self.open = 0
        self.ended = 0

    async def stay(self, kind: str) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                await self.once(kind)
            self.ended += 1
            await asyncio.sleep(DRIP)

    async def once(self, kind: str) -> None:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(*self.place)
        self.open += 1
        try:
            writer.write(BEGINNINGS[kind])
            while not reader.at_eof() and reader.exception() is None:
                await asyncio.sleep(DRIP)
                if kind in ("hello", "request"):
                    writer.write(b"a")
                    await writer.drain()
        finally:
            self.open -= 1
            writer.transport.abort()


async def main(address: str, port: str, many: str) -> None:
    strangers = Strangers(address, int(port))
    async with asyncio.TaskGroup() as group:
        for _, kind in zip(range(int(many)), itertools.cycle(BEGINNINGS), strict=False):
            group.create_task(strangers.stay(kind))
        await asyncio.sleep(1)
        print("open", flush=True)  # noqa: T201
        while True:
            now = f"{strangers.open} are open, {strangers.ended} ended"
            print(now, flush=True)  # noqa: T201
            await asyncio.sleep(1)


if __name__ == "__main__":
    some, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
    asyncio.run(main(*sys.argv[1:]))
