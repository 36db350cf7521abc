"""What each decoder promises for whatever bytes; a broken promise raises."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress

import dns.flags
import dns.message

from ramfw.core.opening import BrokenHello, Hello, Unfinished
from ramfw.wire import first_bytes, netlink, nflog, nfqueue, packet, tcp, tls_hello
from ramfw.wire.dns_answer import answer_to
from ramfw.wire.dns_message import answers, question
from ramfw.wire.dns_service import neutralize
from ramfw.wire.dns_stream import Reassembler
from tests.unit.wire.hello_sample import openssl


class BrokenPromiseError(Exception):
    """A decoder did what it promises not to do."""


def promise(kept: object, what: str) -> None:
    if not kept:
        raise BrokenPromiseError(what)


def dns_message(data: bytes) -> None:
    """Nothing opens that dnspython refuses, and the addresses are the same."""
    asked = question(data)
    if asked is None:
        return
    said = answers(data, asked)
    if said is None or not said.addresses:
        return
    message = dns.message.from_wire(data)
    promise(message.flags & dns.flags.QR, "opened by a query")
    judged = answer_to(message, message)
    addresses = {address.packed for address, _ in judged.addresses}
    promise(addresses == set(said.addresses), f"{said} but {judged}")
    promise({ttl for _, ttl in judged.addresses} == {said.ttl}, f"{said} but {judged}")


def dns_service(data: bytes) -> None:
    """The length stays, the message stays one, and once is enough."""
    asked = question(data)
    changed = neutralize(data, asked) if asked else None
    if asked is None or changed is None:
        return
    promise(len(changed) == len(data), "another length")
    promise(question(changed) == asked, "another question")
    promise(neutralize(changed, asked) is None, "changed again")
    dns.message.from_wire(changed)


def dns_stream(data: bytes) -> None:
    """A stream that is cut, doubled and mixed says the same as a whole one, or is broken."""
    if len(data) < 2:
        return
    cuts, stream = data[1 : 1 + data[0] % 16], data[1 + data[0] % 16 :]
    whole = [one.payload for one in Reassembler(7).feed(7, stream)]
    places = sorted({0, *(cut % (len(stream) + 1) for cut in cuts)})
    pieces = [(at, stream[at : at + 1 + len(stream) // 3]) for at in places]
    pieces += [(at, stream[at:]) for at in cuts[:2]]
    mixed = Reassembler(7)
    found = [one.payload for at, piece in pieces for one in mixed.feed(7 + at, piece)]
    promise(found == whole[: len(found)], "other messages than in the whole stream")


def ip_packet(data: bytes) -> None:
    """Positions are inside the packet, and writing the same back changes a checksum only."""
    segment = packet.parse(data)
    if segment is None:
        return
    promise(20 <= segment.transport < segment.start <= segment.end <= len(data), f"{segment}")
    again = packet.replace(data, segment, 0, data[segment.start : segment.end])
    at = segment.transport + (6 if segment.protocol == packet.UDP else 16)
    promise(again[:at] + again[at + 2 :] == data[:at] + data[at + 2 :], "more was changed")
    promise(packet.replace(again, segment, 0, b"") == again, "another checksum")


def kernel(data: bytes) -> None:
    """Datagrams of the kernel are read or are a ValueError."""
    head = struct.pack("=IHHIIBBH", 20 + len(data), 0, 0, 0, 0, 2, 0, 0)
    for kind, read in ((0x300, nfqueue.packets), (0x400, nflog.packets)):
        for buffer in (data, head[:4] + struct.pack("=H", kind) + head[6:] + data):
            with suppress(ValueError):
                read(buffer)
    with suppress(ValueError):
        list(netlink.errors(data))


def hello(data: bytes) -> None:
    """OpenSSL reads no other name than the one that is read here."""
    found = tls_hello.read(data)
    heard, name = openssl().reads(data)
    if not heard:
        return
    promise(isinstance(found, Hello | BrokenHello), f"OpenSSL reads {name}, here it is {found}")
    if isinstance(found, Hello):
        promise(found.server_name == (name and name.lower()), f"{found} but {name}")


def opening(data: bytes) -> None:
    """What a stream is does not hang on where it is cut, and stays when more comes."""
    if len(data) < 2:
        return
    cuts, stream = data[1 : 1 + data[0] % 8], data[1 + data[0] % 8 :]
    whole = first_bytes.read(stream)
    so_far = Unfinished()
    for cut in sorted(cuts):
        found = first_bytes.read(stream[: cut * len(stream) // 255], so_far)
        if not isinstance(found, Unfinished):
            promise(type(found) is type(whole), f"{found} became {whole}")
            return
        so_far = found
    promise(
        type(first_bytes.read(stream, so_far)) is type(whole), f"{whole} is not found in pieces"
    )


def tcp_segment(data: bytes) -> None:
    """Every packet that answers one is one that its receiver takes."""
    found = tcp.read(data)
    if found is None:
        return
    promise(found.transport + 20 <= found.start <= found.end <= len(data), f"{found}")
    made = tcp.answer(data, found, b"x", found.key.reverse)
    again = tcp.read(made)
    promise(again is not None, "a packet that is none")
    if again is not None:
        promise(tcp.checksum(again.key, made[again.transport :]) == 0, "a wrong checksum")


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(dns_message, dns_service, dns_stream, ip_packet, kernel),
        *(hello, opening, tcp_segment),
    )
}
