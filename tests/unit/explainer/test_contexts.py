"""Which certificate a name gets, and for how long it is kept."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from ramfw.explainer.certificates import Identity
from ramfw.explainer.contexts import (
    KEPT_FOR,
    MOST_KEPT,
    SELF_MADE_KEPT_FOR,
    UNANSWERED_KEPT_FOR,
    Contexts,
)
from ramfw.explainer.signer import Signer
from ramfw.explainer.signing import PATIENCE, question
from tests.unit.explainer.authority import make_authority, policy_with

MESSAGE = "Access to ghcr.io has been restricted by your administrators."


def presented(context: ssl.SSLContext) -> x509.Certificate:
    """The certificate that a server with this context shows."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname="ghcr.io")
    answering = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering, asking):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown = asking.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def names(certificate: x509.Certificate) -> list[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return extension.value.get_values_for_type(x509.DNSName)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def running_signer(directory: Path) -> AsyncIterator[Path]:
    policy = directory / "policy.toml"
    policy.write_text(policy_with(*make_authority(directory)))
    path = directory / "signer.sock"
    async with await asyncio.start_unix_server(
        Signer(policy, Path("/nonexistent")).serve, path=path
    ):
        yield path


async def test_without_a_signer_the_certificates_name_is_the_message(tmp_path: Path) -> None:
    contexts = Contexts(tmp_path / "nobody.sock")
    for may_be_signed in (False, True):
        shown = presented(await contexts.get("ghcr.io", MESSAGE, may_be_signed=may_be_signed))
        assert names(shown) == [MESSAGE]
        assert shown.not_valid_before_utc < shown.not_valid_after_utc


@pytest.mark.parametrize("address", ["203.0.113.20", "2001:db8:f::20"])
async def test_an_address_gets_a_certificate_of_its_own_that_the_message_seems_to_have_signed(
    address: str, tmp_path: Path
) -> None:
    """The one with the message may sign nothing: not even a client that knows the key trusts it."""
    context = await Contexts(tmp_path / "nobody.sock").get(address, MESSAGE, may_be_signed=False)
    shown = presented(context)
    said = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert said.get_values_for_type(x509.IPAddress) == [ip_address(address)]
    (signer,) = shown.issuer
    assert signer.value == MESSAGE
    chain = Identity().self_made_for_address(MESSAGE, ip_address(address))
    _, above = x509.load_pem_x509_certificates(chain)
    assert above.subject == shown.issuer
    assert not above.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


async def test_with_a_signer_the_certificate_is_the_names_unless_the_name_is_permitted(
    tmp_path: Path,
) -> None:
    async with running_signer(tmp_path) as signer:
        contexts = Contexts(signer)
        refused = presented(await contexts.get("ghcr.io", MESSAGE, may_be_signed=True))
        permitted = presented(
            await contexts.get("registry-1.docker.io", MESSAGE, may_be_signed=True)
        )
    assert names(refused) == ["ghcr.io"]
    assert "Example Corp CA" in refused.issuer.rfc4514_string()
    assert names(permitted) == [MESSAGE]


async def test_a_certificate_is_kept_and_a_signer_that_comes_back_is_asked(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "signer.sock"
    contexts = Contexts(path, clock)
    self_made = await contexts.get("ghcr.io", MESSAGE, may_be_signed=True)
    async with running_signer(tmp_path):
        assert await contexts.get("ghcr.io", MESSAGE, may_be_signed=True) is self_made
        clock.now += SELF_MADE_KEPT_FOR
        signed = await contexts.get("ghcr.io", MESSAGE, may_be_signed=True)
        assert names(presented(signed)) == ["ghcr.io"]
    clock.now += KEPT_FOR - 1
    assert await contexts.get("ghcr.io", MESSAGE, may_be_signed=True) is signed
    clock.now += 1
    assert names(presented(await contexts.get("ghcr.io", MESSAGE, may_be_signed=True))) == [MESSAGE]


async def test_only_so_many_are_kept(tmp_path: Path) -> None:
    contexts = Contexts(tmp_path / "nobody.sock")
    for number in range(MOST_KEPT + 20):
        await contexts.get(f"n{number}.example", MESSAGE, may_be_signed=False)
    assert len(contexts._kept) == MOST_KEPT


@pytest.mark.parametrize("says", [b"", b"{}\n", b"no\n", b'{"chain": "x"}\n', b'{"chain": 1}\n'])
async def test_a_signer_that_says_nonsense_is_as_good_as_none(says: bytes, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(says)
        writer.close()

    path = tmp_path / "signer.sock"
    async with await asyncio.start_unix_server(serve, path=path):
        context = await Contexts(path).get("ghcr.io", MESSAGE, may_be_signed=True)
    assert names(presented(context)) == [MESSAGE]


async def test_a_chain_for_another_key_is_as_good_as_none(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(policy_with(*make_authority(tmp_path)))
    signer = Signer(policy, Path("/nonexistent"))
    answer = await signer.answer(question("ghcr.io", Identity().public_key))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    path = tmp_path / "signer.sock"
    async with await asyncio.start_unix_server(serve, path=path):
        context = await Contexts(path).get("ghcr.io", MESSAGE, may_be_signed=True)
    assert names(presented(context)) == [MESSAGE]


async def test_a_signer_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    path = tmp_path / "signer.sock"
    async with await asyncio.start_unix_server(serve, path=path):
        started = asyncio.get_running_loop().time()
        context = await Contexts(path).get("ghcr.io", MESSAGE, may_be_signed=True)
        assert asyncio.get_running_loop().time() - started < PATIENCE + 0.5
        done.set()
    assert names(presented(context)) == [MESSAGE]


async def test_a_signer_that_was_only_being_started_is_asked_again_soon(tmp_path: Path) -> None:
    """Its socket is there before it is: the question waits, and is answered too late."""
    clock = Clock()
    path = tmp_path / "signer.sock"
    contexts = Contexts(path, clock)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    self_made = await contexts.get("ghcr.io", MESSAGE, may_be_signed=True)
    assert names(presented(self_made)) == [MESSAGE]
    listener.close()
    path.unlink()
    async with running_signer(tmp_path):
        assert await contexts.get("ghcr.io", MESSAGE, may_be_signed=True) is self_made
        clock.now += UNANSWERED_KEPT_FOR
        signed = await contexts.get("ghcr.io", MESSAGE, may_be_signed=True)
    assert names(presented(signed)) == ["ghcr.io"]
