"""The rule with an xt target. What nft reads of each statement: tests/lab/test_queue.py."""

from __future__ import annotations

import struct

import pytest

from ramfw.wire import netlink, nft_rule
from ramfw.wire.nft_batch import batch


@pytest.mark.parametrize(("bypass", "flags"), [(True, 1), (False, 0)])
def test_the_target_is_of_revision_3_and_padded(*, bypass: bool, flags: int) -> None:
    packed = nft_rule.xt_nfqueue(5353, bypass=bypass)

    assert netlink.attribute(1, b"target\0") in packed
    assert netlink.attribute(1, b"NFQUEUE\0") in packed
    assert netlink.attribute(2, b"\0\0\0\3") in packed
    assert netlink.attribute(3, struct.pack("=HHHH", 5353, 1, flags, 0)) in packed


def test_a_rule_is_appended_to_a_chain_of_the_table() -> None:
    packed = batch([nft_rule.append("watch", [nft_rule.count("seen")])], 5)
    _, message, _ = netlink.messages(packed.data)

    assert (message.kind, message.sequence) == (0x0A06, 6)
    assert message.flags == (
        netlink.NLM_F_REQUEST | netlink.NLM_F_ACK | netlink.NLM_F_CREATE | netlink.NLM_F_APPEND
    )
    payload = packed.data[message.start : message.end]
    assert payload.startswith(
        b"\1\0\0\0" + netlink.attribute(1, b"ramfw\0") + netlink.attribute(2, b"watch\0")
    )
    assert payload.endswith(nft_rule.count("seen"))


def test_what_a_segment_acknowledges_is_taken_as_it_stands() -> None:
    """Of TCP alone, the four bytes from the eighth of its header on (RFC 9293, section 3.1)."""
    packed = nft_rule.acknowledged_to_priority()

    names = [name for name in (b"cmp\0", b"payload\0", b"byteorder\0") if name in packed]
    assert names == [b"cmp\0", b"payload\0"], "in network order, whatever the machine's"
    assert packed.count(netlink.attribute(1, b"meta\0")) == 2
    assert netlink.attribute(1, b"\6") in packed
    assert netlink.u32(2, 2) + netlink.u32(3, 8) + netlink.u32(4, 4) in packed
