"""Encrypted names and QUIC are made void in place, and nothing else is changed."""

from __future__ import annotations

import struct

import dns.message
import dns.rdtypes.svcbbase
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.dns_message import question
from ramfw.wire.dns_service import neutralize

NAME = "registry.example."
ALPN, ECH, HINT4 = (
    dns.rdtypes.svcbbase.ParamKey.ALPN,
    dns.rdtypes.svcbbase.ParamKey.ECH,
    dns.rdtypes.svcbbase.ParamKey.IPV4HINT,
)


def config(version: int, contents: bytes = b"key") -> bytes:
    return struct.pack("!HH", version, len(contents)) + contents


def config_list(*configs: bytes) -> bytes:
    body = b"".join(configs)
    return len(body).to_bytes(2) + body


def parameter(key: int, value: bytes) -> bytes:
    return struct.pack("!HH", key, len(value)) + value


def ids(*names: bytes) -> bytes:
    return b"".join(bytes((len(name),)) + name for name in names)


def message(*parameters: bytes, kind: str = "HTTPS", section: int = 1) -> bytes:
    made = dns.message.make_response(dns.message.make_query(NAME, kind, use_edns=0))
    data = b"\0\1\x04edge\x07example\0" + b"".join(parameters)
    rdata = dns.rdata.from_wire("IN", kind, data, 0, len(data))
    made.sections[section].append(dns.rrset.from_rdata(NAME, 60, rdata))
    return made.to_wire()


def neutralized(wire: bytes) -> bytes | None:
    asked = question(wire)
    return None if asked is None else neutralize(wire, asked)


def params(wire: bytes, section: int = 1) -> dict[int, bytes]:
    """The parameters of the only service binding, in wire form."""
    rdata = dns.message.from_wire(wire).sections[section][0][0]
    data = rdata.to_wire() or b""
    position = data.index(b"\0", 2) + 1
    found = {}
    while position < len(data):
        key, length = struct.unpack_from("!HH", data, position)
        found[key] = data[position + 4 : position + 4 + length]
        position += 4 + length
    return found


@pytest.mark.parametrize("kind", ["HTTPS", "SVCB"])
@pytest.mark.parametrize("section", [1, 2, 3])
def test_ech_and_h3_become_unknown_and_the_rest_stays(kind: str, section: int) -> None:
    hint = parameter(HINT4, b"\xc0\0\x02\x01")
    ech = config_list(config(0xFE0D), config(0xFE0A, b"older"))
    wire = message(
        parameter(ALPN, ids(b"h3", b"h2", b"h3-29", b"http/1.1")),
        hint,
        parameter(ECH, ech),
        kind=kind,
        section=section,
    )

    changed = neutralized(wire)

    assert changed is not None
    assert len(changed) == len(wire)
    assert params(changed, section) == {
        ALPN: ids(b"x3", b"h2", b"x3-29", b"http/1.1"),
        HINT4: b"\xc0\0\x02\x01",
        ECH: config_list(config(0), config(0, b"older")),
    }
    assert neutralized(changed) is None


@pytest.mark.parametrize(
    "configs",
    [
        b"\xfe\x0d\0\4key",  # a config is longer than the list
        b"\xfe\x0d\0\2key",  # a byte is left over
    ],
)
def test_the_configs_of_a_list_that_breaks_its_frame_become_zeros(configs: bytes) -> None:
    changed = neutralized(message(parameter(ECH, config_list(configs))))

    assert changed is not None
    assert params(changed) == {ECH: config_list(bytes(len(configs)))}


H3 = message(parameter(ALPN, ids(b"h3")))


@pytest.mark.parametrize(
    "wire",
    [
        message(parameter(ALPN, ids(b"h2", b"h", b"3h3", b"http/1.1"))),
        message(parameter(HINT4, b"h3h3")),
        message(parameter(65280, ids(b"h3"))),
        message(),
        H3[:2] + b"\x28" + H3[3:],  # an update
        H3[:-1],
        H3 + b"\0",
    ],
    ids=["h2", "hint", "unknown", "no parameter", "update", "cut short", "too long"],
)
def test_what_hides_no_name_or_is_no_message_stays(wire: bytes) -> None:
    assert question(wire) is not None
    assert neutralized(wire) is None


@given(st.lists(st.binary(max_size=8), max_size=4), st.binary(min_size=4, max_size=40), st.data())
def test_whatever_the_values_what_comes_out_is_a_message_of_the_same_length(
    names: list[bytes], ech: bytes, data: st.DataObject
) -> None:
    wire = bytearray(
        message(
            parameter(ALPN, ids(b"h2", *(name for name in names if name))),
            parameter(ECH, config_list(ech)),
        )
    )
    for _ in range(data.draw(st.integers(0, 2))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))

    changed = neutralized(bytes(wire))

    if changed is not None:
        assert len(changed) == len(wire)
        assert neutralized(changed) is None
        dns.message.from_wire(changed)
