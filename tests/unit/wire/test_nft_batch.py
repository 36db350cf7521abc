"""How operations on grants are gathered. What the kernel makes of it: tests/lab/test_queue.py."""

from __future__ import annotations

import struct
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.transaction import AddGrant, DeleteGrant, GrantKey
from ramfw.wire import netlink
from ramfw.wire.nft_batch import Batch, Grant, _additions, _messages, _runs, batch, pack

BEGIN, END, NEW, DELETE = 16, 17, 0x0A0C, 0x0A0E


def key(number: int, name: str = "permitted4") -> GrantKey:
    return GrantKey.of(name, ip_network(0xC0000200 + number), "tcp", 443)


def wide(number: int) -> GrantKey:
    return GrantKey.of("permitted_ranges4", ip_network(f"198.51.{number}.0/24"), "tcp", 443)


def attributes(data: bytes) -> list[tuple[int, bytes]]:
    position, found = 0, []
    while position < len(data):
        length, kind = struct.unpack_from("=HH", data, position)
        found.append((kind & netlink.NLA_TYPE_MASK, data[position + 4 : position + length]))
        position += netlink.align(length)
    return found


def read(batch: Batch) -> list[tuple[int, str, list[bytes]]]:
    """Each message between begin and end: its kind, its map, the addresses of its elements."""
    first, *middle, last = netlink.messages(batch.data)
    assert (first.kind, last.kind) == (BEGIN, END)
    found = []
    for message in middle:
        parts = dict(attributes(batch.data[message.start + 4 : message.end]))
        assert parts[1] == b"ramfw\0"
        addresses = []
        for _, element in attributes(parts[3]):
            value = dict(attributes(dict(attributes(element))[1]))[1]
            addresses.append(value[: len(value) - 8])
        found.append((message.kind, parts[2].rstrip(b"\0").decode(), addresses))
    return found


def test_an_element_is_packed_as_the_kernel_keeps_it() -> None:
    """192.0.2.1 . tcp . 443 timeout 60s : 0:10."""
    batch = pack([AddGrant(key(1), 16, 60)], 5)
    key_value = "14000180 10000100 c0000201 06000000 01bb0000"
    timeout = "0c000400 000000000000ea60"
    data = "0c000280 08000100 10000000"
    element = bytes.fromhex(key_value + timeout + data)

    assert batch.data.count(element) == 1
    assert (batch.first, batch.last) == (5, 6)


def test_elements_of_one_map_share_a_message_and_the_last_is_answered() -> None:
    batch = pack([*(AddGrant(key(n), 16, 60) for n in range(3)), DeleteGrant(wide(1))], 5)
    messages = list(netlink.messages(batch.data))

    assert read(batch) == [
        (NEW, "permitted4", [b"\xc0\0\2\0", b"\xc0\0\2\1", b"\xc0\0\2\2"]),
        (DELETE, "permitted_ranges4", [b"\xc6\x33\1\0"]),
    ]
    assert [message.sequence for message in messages] == [5, 6, 7, 8]
    answered = [m.sequence for m in messages if m.flags & netlink.NLM_F_ACK]
    assert (answered, batch.last) == ([7], 7)
    assert [bool(m.flags & netlink.NLM_F_CREATE) for m in messages] == [False, True, False, False]


def test_many_refreshes_are_three_messages() -> None:
    operations: list[Grant] = [
        one
        for n in range(50)
        for one in (AddGrant(key(n), 16, 9), DeleteGrant(key(n)), AddGrant(key(n), 16, 60))
    ]

    batch = read(pack(operations, 1))
    assert [(kind, len(addresses)) for kind, _, addresses in batch] == [
        (NEW, 50),
        (DELETE, 50),
        (NEW, 50),
    ]


def test_ranges_keep_their_order() -> None:
    operations: list[Grant] = [
        DeleteGrant(wide(1)),
        AddGrant(wide(2), 16, 60),
        DeleteGrant(wide(3)),
    ]

    assert [kind for kind, _, _ in read(pack(operations, 1))] == [DELETE, NEW, DELETE]


def test_more_elements_than_one_message_holds_go_into_several() -> None:
    operations = [AddGrant(key(n), 16, 60) for n in range(5000)]
    batch = read(pack(operations, 1))

    assert len(batch) == 4
    assert sum(len(addresses) for _, _, addresses in batch) == 5000


def test_a_batch_of_nothing_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        pack([], 1)


def operation(number: int, name: str, *, adds: bool) -> Grant:
    return AddGrant(key(number, name), 16, 60) if adds else DeleteGrant(key(number, name))


grants = st.builds(
    operation,
    st.integers(0, 3),
    st.sampled_from(["permitted4", "engines4"]),
    adds=st.booleans(),
)


@given(st.lists(grants, min_size=1, max_size=30))
def test_no_operation_is_lost_and_each_key_keeps_its_order(operations: list[Grant]) -> None:
    packed = [
        (name, address, kind == NEW)
        for kind, name, addresses in read(pack(operations, 1))
        for address in addresses
    ]
    meant = [
        (one.key.map, one.key.network.network_address.packed, isinstance(one, AddGrant))
        for one in operations
    ]

    assert sorted(packed) == sorted(meant)
    for same in {(name, address) for name, address, _ in meant}:
        assert [p for p in packed if p[:2] == same] == [m for m in meant if m[:2] == same]


additions = st.builds(
    lambda number, name, entry: AddGrant(key(number, name), entry, 60),
    st.integers(0, 9),
    st.sampled_from(["permitted4", "engines4", "permitted6"]),
    st.sampled_from([16, 17]),
)


@given(st.lists(additions, min_size=1, max_size=30, unique_by=lambda one: one.key))
def test_additions_alone_are_packed_quickly_into_the_same(operations: list[AddGrant]) -> None:
    assert _additions(operations) == _runs(operations)


@given(additions, st.integers(1, 1 << 31))
def test_one_addition_is_cast_into_the_same(operation: AddGrant, sequence: int) -> None:
    assert pack([operation], sequence) == batch(_messages(_runs([operation])), sequence)


def test_what_is_not_an_addition_of_an_address_is_packed_with_care() -> None:
    for other in (DeleteGrant(key(1)), AddGrant(wide(1), 16, 60)):
        assert _additions([AddGrant(key(2), 16, 60), other]) is None
