"""The explainer on a real socket: what clients see of it, and what it withstands."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509

from ramfw.explainer.server import FIRST_BYTE, MOST_AT_ONCE, PATIENCE, Explainer
from ramfw.explainer.tls import MOST_RECEIVED
from tests.unit.explainer.test_contexts import names

POLICY = """\
version = 1
[organization]
name = "Example Corp"
contact = "https://it.example.com/registries"
[[allow]]
registry = "docker.io"
"""
ABOUT_GHCR = (
    "Access to ghcr.io has been restricted by your administrators (Example Corp). "
    "Allowed: docker.io. See https://it.example.com/registries"
)
SOON = 1.0
"""Seconds within which a person has the answer."""


class Running:
    def __init__(self, explainer: Explainer, port: int, policy: Path) -> None:
        self.explainer = explainer
        self.port = port
        self.policy = policy

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, data: bytes) -> bytes:
        """All that comes back for some bytes."""
        reader, writer = await self.connect()
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE + 2)
        except ConnectionResetError:
            return b"reset"
        finally:
            writer.close()

    async def get(self, name: str, path: str = "/v2/") -> bytes:
        """What a client gets over TLS that accepts every certificate."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=careless(), server_hostname=name
        )
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer


def careless() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    explainer = Explainer(policy, tmp_path / "nobody.sock")
    server = await asyncio.start_server(explainer.serve, "127.0.0.1", 0, backlog=1024)
    async with server:
        yield Running(explainer, server.sockets[0].getsockname()[1], policy)


async def within(seconds: float, work: Awaitable[bytes]) -> bytes:
    return await asyncio.wait_for(work, seconds)


async def test_over_tls_the_registrys_error_has_the_message(running: Running) -> None:
    answer = await within(SOON, running.get("ghcr.io"))
    (error,) = json.loads(answer.partition(b"\r\n\r\n")[2])["errors"]
    assert error == {"code": "DENIED", "message": ABOUT_GHCR, "detail": {"host": "ghcr.io"}}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_certificate_says_it_to_a_client_that_looks_no_further(
    running: Running, version: ssl.TLSVersion
) -> None:
    context = careless()
    context.minimum_version = context.maximum_version = version
    _, writer = await asyncio.open_connection(
        "127.0.0.1", running.port, ssl=context, server_hostname="ghcr.io"
    )
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert names(x509.load_der_x509_certificate(shown)) == [ABOUT_GHCR]


async def test_a_client_that_checks_refuses_the_certificate_at_once(running: Running) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(
            "127.0.0.1", running.port, ssl=ssl.create_default_context(), server_hostname="ghcr.io"
        )
    assert await within(SOON, running.get("ghcr.io"))


async def test_a_client_that_knows_only_old_ciphers_is_told_too(running: Running) -> None:
    old = careless()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", running.port, ssl=old, server_hostname="ghcr.io"
    )
    writer.write(b"GET /v2/ HTTP/1.1\r\nHost: ghcr.io\r\n\r\n")
    assert ABOUT_GHCR.encode() in await within(SOON, reader.read())
    writer.close()


async def test_without_a_name_the_address_and_the_port_are_told(running: Running) -> None:
    answer = await within(SOON, running.get(""))
    (error,) = json.loads(answer.partition(b"\r\n\r\n")[2])["errors"]
    about = ABOUT_GHCR.replace("ghcr.io", f"127.0.0.1 port {running.port}")
    assert (error["message"], error["detail"]) == (about, {"host": "127.0.0.1"})


async def test_a_client_that_checks_an_address_refuses_the_certificate(running: Running) -> None:
    """Its address is right, and nobody whom the client trusts has signed it."""
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        await asyncio.open_connection("127.0.0.1", running.port, ssl=ssl.create_default_context())


async def test_in_plain_the_name_is_the_hosts(running: Running) -> None:
    answer = await within(SOON, running.say(b"GET /v2/ HTTP/1.1\r\nHost: GHCR.io:80\r\n\r\n"))
    assert ABOUT_GHCR.encode() in answer
    assert answer.startswith(f"HTTP/1.1 403 {ABOUT_GHCR}\r\n".encode())


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("ghcr.io:443", "ghcr.io"),
        ("ghcr.io:5000", "ghcr.io:5000"),
        ("ghcr.io:500000000", "ghcr.io"),
    ],
)
async def test_what_a_proxy_was_asked_for_is_named_as_an_image_would_name_it(
    running: Running, target: str, named: str
) -> None:
    asked = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
    answer = await within(SOON, running.say(asked.encode()))
    assert answer.startswith(f"HTTP/1.1 403 Access to {named} has been restricted".encode())


@pytest.mark.parametrize("host", ["<script>", "a b", "x\x7fy", "", "203.0.113.20:5000", "[::1]"])
async def test_what_is_no_name_is_never_repeated(running: Running, host: str) -> None:
    answer = await within(SOON, running.say(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()))
    if answer != b"reset":
        assert f"Access to 127.0.0.1 port {running.port} has been".encode() in answer
        assert not host or host.encode() not in answer


async def test_a_permitted_name_was_refused_for_its_address_and_that_is_said(
    running: Running,
) -> None:
    answer = await within(SOON, running.get("registry-1.docker.io"))
    place = f"registry-1.docker.io at 127.0.0.1 port {running.port}"
    assert f"Access to {place} has been restricted".encode() in answer


async def test_a_changed_policy_changes_the_words_and_a_bad_one_does_not(
    running: Running,
) -> None:
    running.policy.write_text("version = 1\n[[alow]]\n")
    assert ABOUT_GHCR.encode() in await running.get("ghcr.io")
    running.policy.write_text(POLICY.replace("Example Corp", "Other Corp"))
    assert b"(Other Corp)" in await running.get("ghcr.io")
    running.policy.unlink()
    assert b"(Other Corp)" in await running.get("ghcr.io")


async def test_an_upload_is_answered_though_its_body_still_comes(running: Running) -> None:
    head = b"PUT /v2/x HTTP/1.1\r\nHost: ghcr.io\r\nContent-Length: 500000\r\n\r\n"
    assert ABOUT_GHCR.encode() in await within(SOON, running.say(head + b"x" * 400_000))


# -- hostile clients ---------------------------------------------------------------------------


async def test_whoever_waits_for_a_greeting_is_refused_before_a_person_notices(
    running: Running,
) -> None:
    assert await within(SOON, running.say(b"")) == b"reset"
    assert FIRST_BYTE < SOON


@pytest.mark.parametrize(
    "noise",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16" * 1000,
        b"\x16\x03\x01\xff\xff" + b"\x01" * 70_000,
        b"\x80\x2e\x01\x00\x02" + b"\0" * 40,  # an SSLv2 hello
        bytes(range(256)) * 8,
    ],
)
async def test_noise_is_closed_at_once(running: Running, noise: bytes) -> None:
    answer = await within(SOON, running.say(noise))
    # A reset, or an alert of TLS (content type 21): no more words than that.
    assert answer == b"reset" or answer[:1] == b"\x15"
    assert ABOUT_GHCR.encode() in await running.get("ghcr.io")


@pytest.mark.parametrize("begin", [b"GET /v2/", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_slow_client_has_an_end(running: Running, begin: bytes) -> None:
    reader, writer = await running.connect()
    started = asyncio.get_running_loop().time()

    async def drip() -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(begin[:1] if begin[0] == 0x47 else b"\0")
                await writer.drain()
                await asyncio.sleep(0.05)

    writer.write(begin)
    async with asyncio.TaskGroup() as group:
        dripping = group.create_task(drip())
        with suppress(ConnectionResetError):
            await reader.read()
        dripping.cancel()
    writer.close()
    assert asyncio.get_running_loop().time() - started < PATIENCE + 1


async def test_a_client_that_sends_without_end_is_cut_off(running: Running) -> None:
    line = b"GET / HTTP/1.1\r\nHost: ghcr.io\r\n"
    assert await within(SOON, running.say(line + b"a: b\r\n" * MOST_RECEIVED)) == b"reset"
    hello = b"\x16\x03\x01\x40\x00\x01\x01\xff\xff" + b"\0" * MOST_RECEIVED * 2
    assert (await within(SOON, running.say(hello)))[:1] in (b"r", b"\x15")


async def test_a_thousand_that_never_finish_do_not_keep_one_person_waiting(
    running: Running,
) -> None:
    opened = [await running.connect() for _ in range(1000)]
    for number, (_, writer) in enumerate(opened):
        writer.write(b"\x16\x03\x01\x02\x00\x01" if number % 2 else b"GET / HTTP/1.1\r\nx: ")
    answer = await within(SOON, running.get("ghcr.io"))
    assert ABOUT_GHCR.encode() in answer
    assert len(running.explainer._open) <= MOST_AT_ONCE
    for _, writer in opened:
        writer.transport.abort()


async def test_a_thousand_at_once_are_all_answered_or_refused(running: Running) -> None:
    request = b"GET /v2/ HTTP/1.1\r\nHost: ghcr.io\r\n\r\n"
    answers = await asyncio.gather(*(running.say(request) for _ in range(1000)))
    explained = sum(ABOUT_GHCR.encode() in answer for answer in answers)
    assert explained > MOST_AT_ONCE // 2
    assert set(answers) - {b"reset", b""} == {next(a for a in answers if a.startswith(b"HTTP"))}
    assert ABOUT_GHCR.encode() in await within(SOON, running.get("ghcr.io"))


async def test_a_client_that_vanishes_leaves_nothing(running: Running) -> None:
    for data in (b"", b"GET / HT", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: ghcr.io\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(data)
    assert await within(SOON, running.get("ghcr.io"))
    left = list(running.explainer._open)
    if left:
        await asyncio.wait(left, timeout=SOON)
    assert not running.explainer._open
