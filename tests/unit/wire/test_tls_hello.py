"""The server name of a hello: the one that every server reads, or none."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ramfw.core.opening import BrokenHello, Hello, Ssl2Hello
from ramfw.wire.tls_hello import (
    MAX_HELLO,
    MAX_STREAM,
    Incomplete,
    NotTls,
    Outcome,
    read,
)
from tests.unit.wire.hello_sample import (
    USUAL,
    alpn,
    extension,
    hello,
    host_name,
    message,
    name_asked_by,
    openssl,
    python_hello,
    recorded,
    records,
    server_name,
)

RECORDED = recorded()
NAMELESS = {"curl-address", "openssl-s_client-noname"}
ODD_NAME = b"registry.example"


def name_in(stream: bytes) -> str | None:
    found = read(stream)
    assert isinstance(found, Hello), found
    return found.server_name


def fed(stream: bytes, size: int) -> Outcome:
    """The outcome of a stream that comes in pieces, each look going on from the last."""
    so_far = Incomplete()
    for end in range(size, len(stream) + size, size):
        found = read(stream[:end], so_far)
        if not isinstance(found, Incomplete):
            return found
        so_far = found
    return so_far


# -- real clients --------------------------------------------------------------------------------


def test_there_are_hellos_of_five_libraries() -> None:
    assert {"curl", "go1.24-docker", "gnutls-cli", "nss-tstclnt", "java"} <= RECORDED.keys()


@pytest.mark.parametrize("client", RECORDED)
def test_a_real_client_names_what_openssl_reads(client: str) -> None:
    stream = RECORDED[client]
    expected = None if client in NAMELESS else name_asked_by(client)
    found = read(stream)

    assert isinstance(found, Hello)
    assert (found.server_name, found.encrypted, found.end) == (expected, False, len(stream))
    heard, name = openssl().reads(stream)
    assert (heard, name and name.lower()) == (True, expected)


@pytest.mark.parametrize("client", RECORDED)
@pytest.mark.parametrize("size", [1, 7, 100, 1448])
def test_a_real_hello_in_segments_and_small_records_is_the_same(client: str, size: int) -> None:
    stream = RECORDED[client]
    whole = read(stream)
    assert isinstance(whole, Hello)

    assert fed(stream, size) == whole
    small = records(stream[5:], size)
    assert fed(small, 1448) == whole._replace(end=len(small))
    assert openssl().reads(small) == openssl().reads(stream)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("protocols", [[], ["h2", "http/1.1"]])
@pytest.mark.parametrize("name", [None, "a", "registry.example", "A.Registry.EXAMPLE"])
def test_openssl_reads_its_own_hello_as_we_do(
    version: ssl.TLSVersion, protocols: list[str], name: str | None
) -> None:
    stream = python_hello(name, protocols, version)
    found = read(stream)

    assert isinstance(found, Hello)
    assert found.server_name == (name and name.lower())
    assert [one.decode() for one in found.alpn] == protocols
    assert openssl().reads(stream) == (True, name)


def test_bytes_behind_the_hello_are_not_its() -> None:
    stream = hello(server_name(b"a.example"))

    assert read(stream + b"\x14\x03\x03\0\x01\x01early data") == read(stream)


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "read_as"),
    [
        (b"registry.example", "registry.example"),
        (b"Registry.EXAMPLE", "registry.example"),
        (b"registry.example.", "registry.example."),
        (b"..", ".."),
        (b"under_score.example", "under_score.example"),
        (b"192.0.2.1", "192.0.2.1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"*.example", "*.example"),
        (b"a" * 255, "a" * 255),
    ],
)
def test_visible_ascii_is_a_name_in_lower_case(sent: bytes, read_as: str) -> None:
    stream = hello(server_name(sent))

    assert name_in(stream) == read_as
    heard, name = openssl().reads(stream)
    assert (heard, name and name.lower()) == (True, read_as)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"ghcr.io\0.registry.example", "a NUL"),
        (b"registry.example\0", "a NUL"),
        (b"registry example", "a byte that no name has"),
        (b"registry.example\n", "a byte that no name has"),
        ("registré.example".encode(), "a byte that no name has"),
        (b"\x7f", "a byte that no name has"),
        (b"", "0 bytes"),
        (b"a" * 256, "256 bytes"),
    ],
)
def test_a_name_with_other_bytes_breaks_the_hello(sent: bytes, reason: str) -> None:
    found = read(hello(server_name(sent)))

    assert isinstance(found, BrokenHello)
    assert reason in found.reason


@pytest.mark.parametrize(
    "names",
    [
        server_name(b"registry.example", b"ghcr.io"),
        server_name(b"registry.example", b"registry.example"),
        server_name(),
        extension(0),
        extension(0, b"\0\0"),
        extension(0, b"\0\x04" + host_name(b"ab")),
        extension(0, b"\0\x06" + host_name(b"ab")),
        extension(0, b"\0\x05" + host_name(b"ab") + b"c"),
        extension(0, b"\0\x05" + host_name(b"ab", kind=1)),
        extension(0, b"\0\x05\0\0\x03ab"),
        server_name(b"registry.example") + server_name(b"ghcr.io"),
        server_name(b"registry.example") + extension(65000) + extension(65000),
    ],
    ids=range(12),
)
def test_a_list_that_is_not_one_name_breaks_the_hello(names: bytes) -> None:
    """OpenSSL reads no name in any of them, but for the last, whose odd extension it passes by."""
    stream = hello(names)

    assert isinstance(read(stream), BrokenHello)
    assert openssl().reads(stream)[1] in (None, "registry.example")


def test_a_hello_without_a_name_or_extensions_has_none() -> None:
    assert name_in(hello(alpn(b"h2"))) is None
    assert name_in(records(message(b""))) is None
    assert name_in(records(message(None))) is None


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE, 0xFE08])
def test_a_hidden_hello_is_told_beside_the_outer_name(kind: int) -> None:
    found = read(hello(server_name(b"cloudflare-ech.com"), extension(kind, bytes(200))))

    assert isinstance(found, Hello)
    assert (found.server_name, found.encrypted) == ("cloudflare-ech.com", True)


# -- forms that are broken -----------------------------------------------------------------------


def cut(handshake: bytes, at: int, new: bytes) -> bytes:
    return records(handshake[:at] + new + handshake[at + len(new) :])


GOOD = message(USUAL + server_name(ODD_NAME))
PLACE_OF_EXTENSIONS = 4 + 2 + 32 + 1 + 32 + 2 + 4 + 2


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (records(b"\x02" + GOOD[1:]), "no ClientHello"),
        (records(message(b"", version=0x0203)), "unknown version"),
        (records(message(b"", session=bytes(33))), "session id"),
        (records(message(b"", ciphers=b"")), "cipher suites"),
        (records(message(b"", ciphers=b"\x13")), "cipher suites"),
        (records(message(b"", compression=b"")), "compression"),
        (cut(GOOD, PLACE_OF_EXTENSIONS, b"\0\x01"), "do not end"),
        (cut(GOOD, PLACE_OF_EXTENSIONS, b"\xff\xff"), "do not end"),
        (records(message(b"\0")), "cut short"),
        (records(message(b"\0\x2b\0\x09abc")), "cut short"),
        (records(message(b"\0\0\0\x09abc")), "cut short"),
        (records(message(alpn(b"h2") + alpn(b"h2"))), "twice"),
        (records(message(alpn())), "application protocols"),
        (records(message(alpn(b""))), "application protocol"),
        (records(message(extension(16, b"\0\x03\x05h2"))), "application protocol"),
        (records(message(extension(16, b"\0\x04\x02h2"))), "application protocols"),
        (records(b"\x01\0\0\x26" + bytes(38)), "unknown version"),
        (records(b"\x01\0\0\0"), "unknown version"),
        (records(GOOD + b"\0"), "another message"),
        (records(GOOD[:50]) + b"\x15\x03\x03\0\x02\x01\x00" + records(GOOD[50:]), "another kind"),
        (records(GOOD[:50]) + b"\x16\x02\0\0\x01\0", "another kind"),
        (b"\x16\x03\x01\0\0" + records(GOOD), "record of 0 bytes"),
        (b"\x16\x03\x01\x40\x01", "record of 16385 bytes"),
        (b"\x16\x03\x01\0\x05\x01\0\x3f\xfd\x03", f"{MAX_HELLO} are read"),
        (b"\x15\x03\x01\0\x02\x01\0", "does not begin with a handshake"),
        (b"\x14\x03\x03\0\x01\x01" + records(GOOD), "does not begin with a handshake"),
    ],
)
def test_a_hello_that_breaks_a_rule_is_broken(stream: bytes, reason: str) -> None:
    for size in (len(stream), 1):
        found = fed(stream, size)
        assert isinstance(found, BrokenHello), found
        assert reason in found.reason


def test_a_hello_in_endless_records_is_broken_in_time() -> None:
    long = message(extension(21, bytes(MAX_HELLO - 100)))
    assert len(long) < MAX_HELLO
    assert isinstance(read(records(long)), Hello)

    found = fed(records(long, 1), 1000)
    assert isinstance(found, BrokenHello)
    assert f"{MAX_STREAM} bytes" in found.reason


# -- other protocols -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream", [b"\x80\x2e\x01\0\x02\0\x15", b"\x80\x40\x01\x03\x01", b"\xff\0\x01\x03"]
)
def test_the_hello_of_ssl_2_has_no_place_for_a_name(stream: bytes) -> None:
    assert read(stream) == Ssl2Hello()
    assert all(isinstance(read(stream[:end]), Incomplete) for end in range(4))


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x02",
        b"\x16\xfe\xfd",
        b"\x17\x03\x03\0\x05",
        b"\x15\x03\x03\0\x03",
        b"\x14\x02",
        b"\x80\x2e\x02",
        b"\x80\x2e\x01\x01",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
    ],
)
def test_other_bytes_are_not_tls(stream: bytes) -> None:
    assert read(stream) == NotTls()


# -- whatever the bytes --------------------------------------------------------------------------


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x16\x03\x01", b"\x80", b"\x16\x03\x01\0\x20\x01\0"]),
)
def test_any_bytes_have_an_outcome_that_more_bytes_do_not_change(data: bytes, first: bytes) -> None:
    stream = first + data
    found = read(stream)

    if isinstance(found, Incomplete):
        assert isinstance(fed(stream, 1), Incomplete)
    else:
        assert type(fed(stream, 1)) is type(found)
        assert type(read(stream + b"more")) is type(found)


# Of a name with bytes of 8 bits Python tells nobody, but grumbles.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(
    st.sampled_from(sorted(RECORDED.values(), key=len)),
    st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=4),
)
@example(RECORDED["curl"], [])
def test_openssl_never_reads_another_name_in_a_hello_that_was_tampered_with(
    stream: bytes, changes: list[tuple[int, int]]
) -> None:
    tampered = bytearray(stream)
    for place, value in changes:
        tampered[place % len(tampered)] = value
    found = read(bytes(tampered))
    heard, name = openssl().reads(bytes(tampered))

    if heard and isinstance(found, Hello):
        assert found.server_name == (name and name.lower())
    elif heard:
        assert isinstance(found, BrokenHello | Ssl2Hello)


@given(st.text(st.sampled_from("aZ0-._"), min_size=1, max_size=60), st.integers(1, 400))
def test_every_name_is_read_as_openssl_reads_it_in_records_of_any_size(
    name: str, size: int
) -> None:
    stream = hello(alpn(b"h2"), server_name(name.encode()), extension(0xFF01, b"\0"), size=size)

    assert name_in(stream) == name.lower()
    assert openssl().reads(stream) == (True, name)
