"""Elements of a dump: those of grants, and those that ramfw cannot have written."""

from __future__ import annotations

import struct
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.tablestate import FOREIGN, HeldGrant
from ramfw.core.transaction import AddGrant, GrantKey
from ramfw.wire import netlink, nft_elements
from ramfw.wire.netlink import attribute, nested
from ramfw.wire.nft_batch import pack

ONE = GrantKey.of("m", ip_network("192.0.2.10"), "tcp", 443)
SIX = GrantKey.of("m", ip_network("2001:db8::10"), "udp", 53)
RANGES = [
    GrantKey.of("m", ip_network(text), "tcp", 443)
    for text in ("198.51.100.0/24", "10.0.0.0/8", "0.0.0.0/0", "2001:db8:5::/64", "192.0.2.4/31")
]
ENDS = attribute(5, struct.pack("!Q", 299_999))
ID = nested(2, attribute(1, struct.pack("=I", 16)))


def dump(*elements: bytes) -> bytes:
    """A message of the kernel's with these elements."""
    body = b"\1\0\0\0" + attribute(1, b"ramfw\0") + attribute(2, b"m\0")
    return netlink.message(10 << 8 | 12, 2, 7, body + nested(3, *(nested(1, e) for e in elements)))


def read(*elements: bytes) -> list[nft_elements.Found]:
    (one,) = netlink.messages(dump(*elements))
    assert nft_elements.is_elements(one.kind)
    return list(nft_elements.elements(dump(*elements), one.start, one.end))


def key(packed: bytes) -> bytes:
    return nested(1, attribute(1, packed))


@pytest.mark.parametrize("grant", [ONE, SIX, *RANGES], ids=lambda grant: str(grant.network))
def test_what_was_packed_is_read(grant: GrantKey) -> None:
    """The kernel tells a grant as it was given, and how long it has left, rounded down."""
    (_, given_, _) = netlink.messages(pack([AddGrant(grant, 16, 300)], 1).data)
    data = pack([AddGrant(grant, 16, 300)], 1).data[given_.start : given_.end]
    element = data[data.index(netlink.ATTRIBUTE.pack(*struct.unpack_from("=HH", key_in(data)))) :]
    timeout = attribute(4, struct.pack("!Q", 300_000))
    before, after = element[: element.index(timeout)], element[element.index(timeout) :]
    assert read(before + after + ENDS) == [(grant.packed, HeldGrant(16, 299))]


def key_in(data: bytes) -> bytes:
    """From the first element's own attributes on."""
    return data[4 + 12 + len(attribute(2, b"m\0")) + 8 :]


def test_what_has_no_end_or_no_id_is_foreign_and_is_said_to_live_on() -> None:
    verdict = nested(2, nested(2, attribute(1, struct.pack("!i", -3))))
    assert read(key(ONE.packed) + ID, key(SIX.packed) + ENDS + verdict) == [
        (ONE.packed, HeldGrant(FOREIGN, nft_elements.ENDLESS)),
        (SIX.packed, HeldGrant(FOREIGN, 299)),
    ]
    assert read(key(ONE.packed) + ENDS) == [(ONE.packed, HeldGrant(FOREIGN, 299))]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (b"\xc0\0\2\1" + ONE.packed[4:], b"\xc0\0\2\3" + ONE.packed[4:]),
        (b"\xc0\0\2\2" + ONE.packed[4:], b"\xc0\0\2\5" + ONE.packed[4:]),
        (ONE.packed, ONE.packed[:9] + b"\xff" + ONE.packed[10:]),
        (ONE.packed, SIX.packed),
        (b"\xc0\0\2\1" + b"\x84" + ONE.packed[5:], b""),
        (ONE.packed[:4], b""),
        (b"", b""),
    ],
    ids=["no prefix", "not aligned", "ports", "another size", "sctp", "an address alone", "all"],
)
def test_what_ramfw_cannot_have_written_has_no_key(first: bytes, last: bytes) -> None:
    element = (key(first) if first else b"") + ENDS + ID
    if last:
        element += nested(10, attribute(1, last))
    assert read(element) == [(None, HeldGrant(16, 299))]


def test_it_asks_for_a_dump_of_the_map() -> None:
    (one,) = netlink.messages(nft_elements.request("permitted4", 5))
    assert (one.kind, one.flags, one.sequence) == (10 << 8 | 13, 0x301, 5)
    assert attribute(2, b"permitted4\0") in nft_elements.request("permitted4", 5)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_a_value_error(data: bytes) -> None:
    for buffer in (data, dump(data), dump(key(ONE.packed) + data)):
        try:
            list(nft_elements.elements(buffer, min(20, len(buffer)), len(buffer)))
        except ValueError:
            continue
