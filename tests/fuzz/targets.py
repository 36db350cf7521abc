"""What each decoder promises for whatever bytes; a broken promise raises."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import dns.exception
import dns.flags
import dns.message
import h11
from dns.rdtypes.svcbbase import ALPNParam, ECHParam, ParamKey

from ramfw.core.opening import BrokenHello, Hello, Request, Unfinished
from ramfw.wire import first_bytes, netlink, nflog, nfqueue, packet, refusal, tcp, tls_hello
from ramfw.wire.dns_answer import answer_to
from ramfw.wire.dns_message import answers, question
from ramfw.wire.dns_service import neutralize
from ramfw.wire.dns_stream import Reassembler, StreamMessage
from ramfw.wire.dns_void import Voids
from ramfw.wire.registry_answer import RegistryAnswer
from tests.unit.wire.hello_sample import openssl

ALIASED = b"\x08registry\x07example\0\0\x01\0\x01"
"""The question for the addresses of `registry.example`."""


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


def dns_aliases(data: bytes) -> None:
    """As `dns_message`, of records behind a question that is in order: CNAMEs are read quickly."""
    if len(data) > 1:
        counts = (data[0] % 8, 0, data[1] % 2)
        dns_message(struct.pack("!6H", 7, 0x8180, 1, *counts) + ALIASED + data[2:])


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


def dns_void(data: bytes) -> None:
    """Where segments are cut makes no difference, and nothing is left to hide a name with."""
    if len(data) < 2:
        return
    cuts, told = data[1 : 1 + data[0] % 16], data[1 + data[0] % 16 :]
    asked = question(told)
    whole, cut = voided(told, b""), voided(told, cuts)
    promise(cut == whole, "another cut, other bytes")
    promise(len(whole) == len(told), "another length")
    promise(question(whole) == asked, "another question")
    if asked is None or not asked.is_response:
        promise(whole == told, "changed where nothing is answered")
        return
    with suppress(dns.exception.DNSException):
        dns.message.from_wire(told)
        promise(not hides(dns.message.from_wire(whole)), "something is left to hide with")


def hides(message: dns.message.Message) -> bool:
    """Whether a client could hide a name with what it is told."""
    records = (one for section in message.sections[1:] for several in section for one in several)
    for record in records:
        parameters = getattr(record, "params", {})
        match parameters.get(ParamKey.ALPN):
            case ALPNParam(ids=ids) if any(one.startswith(b"h3") for one in ids):
                return True
        match parameters.get(ParamKey.ECH):
            case ECHParam(ech=ech) if any(versions(ech)):
                return True
    return False


def versions(configs: bytes) -> list[int]:
    """The versions in an ECHConfigList; none where it breaks its own frame, and nobody uses it."""
    found, rest = [], configs[2:]
    while rest:
        version, length = int.from_bytes(rest[:2]), int.from_bytes(rest[2:4])
        if len(rest) < 4 + length:
            return []
        found.append(version)
        rest = rest[4 + length :]
    return found if int.from_bytes(configs[:2]) == len(configs) - 2 else []


def voided(told: bytes, cuts: bytes) -> bytes:
    """What a client gets of a message that comes in these pieces."""
    voids = Voids(lambda _: True)
    places = sorted({0, *(cut * len(told) // 256 for cut in cuts), len(told)})
    out = b""
    for first, last in pairwise(places):
        voids.follow(StreamMessage(7, told[:last]))
        piece = told[first:last]
        out += voids.applied(7 + first, piece) or piece
    return out


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


READER = first_bytes.Reader()
"""It has read all that came before."""


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
    """What a stream is does not hang on where it is cut, on what came before or what follows."""
    if len(data) < 2:
        return
    cuts, stream = data[1 : 1 + data[0] % 8], data[1 + data[0] % 8 :]
    whole = first_bytes.read(stream)
    for _ in range(2):
        promise(READER.read(stream) == whole, f"{whole} is another where it is like one before")
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


def registry_answer(data: bytes) -> None:
    """What a stranger's answer comes to does not hang on where it is cut."""
    if len(data) < 2:
        return
    cuts, stream = data[1 : 1 + data[0] % 8], data[1 + data[0] % 8 :]
    places = sorted({0, *(cut * len(stream) // 256 for cut in cuts), len(stream)})
    together, apart = (RegistryAnswer("registry.example", 443, "fuzz") for _ in range(2))
    for answer, pieces in (
        (together, [stream] if stream else []),
        (apart, [stream[first:last] for first, last in pairwise(places)]),
    ):
        for piece in (*pieces, b""):
            answer.receive(piece)
    promise(together.is_whole == apart.is_whole, "whole by its cuts")
    promise(together.evidence == apart.evidence, f"{together.evidence} but {apart.evidence}")


def told(data: bytes) -> None:
    """Whoever is refused gets a whole answer that fits into a packet, in the protocol it speaks."""
    begun = first_bytes.read(data)
    if isinstance(begun, Unfinished):
        return
    answer = refusal.payload(begun, "registry.example", data.decode("latin-1"))
    if answer is None:
        promise(not isinstance(begun, Hello | BrokenHello | Request), f"{begun} is told nothing")
        return
    promise(len(answer) <= tcp.MAX_ANSWER, "too long for a packet")
    if answer == refusal.TLS_ALERT:
        promise(isinstance(begun, Hello | BrokenHello), f"{begun} is told by an alert")
        return
    method = "HEAD" if getattr(begun, "method", "") == "HEAD" else "GET"
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "registry.example")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    heard = client.next_event()
    promise(isinstance(heard, h11.Response) and heard.status_code == 403, f"{heard}")
    while not isinstance(client.next_event(), h11.EndOfMessage):
        pass
    promise(client.trailing_data == (b"", False), "more behind the answer")


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
        *(dns_message, dns_aliases, dns_service, dns_stream, dns_void, ip_packet, kernel),
        *(hello, opening, registry_answer, tcp_segment, told),
    )
}
