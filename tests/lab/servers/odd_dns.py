"""A DNS server that answers right or wrong, as the name that is asked for tells it to.

Arguments: the address to listen at, UDP and TCP. The first label of a name is what to do and a
number, which becomes the last part of the address that is given: `plain-7.cdn.example` has
203.0.113.7 and 2001:db8:f::7. What there is to do is in `ACTIONS`.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import dns.flags
import dns.message
import dns.name
import dns.rrset

TTL = 300
V4 = int(IPv4Address("203.0.113.0"))
V6 = int(IPv6Address("2001:db8:f::"))
PERMITTED = dns.name.from_text("cdn.example")
SPECIAL = {
    "A": ("127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"),  # noqa: S104
    "AAAA": ("::1", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
}
SERVICE = (
    "1 . alpn=h3,h3-29,h2 ipv4hint=203.0.113.9 "
    # An ECHConfigList with one ECHConfig of version 0xfe0d, eight bytes long (RFC 9849).
    "ech=AAz+DQAIAQIDBAUGBwg="
)
LARGEST = 65535
FOUR_NOTHINGS = b"\x01" * 4
"""Options of IPv4 (RFC 791, section 3.1)."""
PADDING = b"\0\0\x01\x04\0\0\0\0"
"""Options for the destination, in an extension header of IPv6 (RFC 8200, section 4.6)."""

Message = dns.message.Message


def give(answer: Message, name: dns.name.Name, number: int) -> None:
    """The address of this number, of the type that was asked."""
    kind = dns.rdatatype.to_text(answer.question[0].rdtype)
    if kind in ("A", "AAAA"):
        address = IPv4Address(V4 + number) if kind == "A" else IPv6Address(V6 + number)
        answer.answer.append(dns.rrset.from_text(name, TTL, "IN", kind, str(address)))


def plain(query: Message, number: int) -> list[bytes]:
    answer = dns.message.make_response(query)
    give(answer, query.question[0].name, number)
    return [answer.to_wire()]


def alias(query: Message, number: int) -> list[bytes]:
    """By way of a name that the policy does not permit."""
    return by_way_of(dns.name.from_text(f"plain-{number}.other.example"), query, number)


def leads(query: Message, number: int) -> list[bytes]:
    """By way of a name that it permits."""
    return by_way_of(dns.name.Name((b"plain", *PERMITTED.labels)), query, number)


def by_way_of(target: dns.name.Name, query: Message, number: int) -> list[bytes]:
    answer = dns.message.make_response(query)
    answer.answer.append(
        dns.rrset.from_text(query.question[0].name, TTL, "IN", "CNAME", str(target))
    )
    give(answer, target, number)
    return [answer.to_wire()]


def silent(_query: Message, _number: int) -> list[bytes]:
    return []


def wrong_id(query: Message, number: int) -> list[bytes]:
    (right,) = plain(query, number)
    return [bytes((right[0], right[1] ^ 1)) + right[2:]]


def wrong_name(query: Message, number: int) -> list[bytes]:
    """To the question for a permitted name, which was not the one."""
    other = dns.name.Name((query.question[0].name.labels[0], *PERMITTED.labels))
    return plain(as_if_for(query, other), number)


def unasked(query: Message, number: int) -> list[bytes]:
    """The right answer, and one more under the same id that nobody asked for."""
    more = dns.name.from_text(f"plain-{number + 1}.cdn.example")
    return [*plain(query, number), *plain(as_if_for(query, more), number + 1)]


def special(query: Message, _number: int) -> list[bytes]:
    answer = dns.message.make_response(query)
    name, kind = query.question[0].name, dns.rdatatype.to_text(query.question[0].rdtype)
    answer.answer.append(dns.rrset.from_text(name, TTL, "IN", kind, *SPECIAL[kind]))
    return [answer.to_wire()]


def service(query: Message, _number: int) -> list[bytes]:
    answer = dns.message.make_response(query)
    name = query.question[0].name
    answer.answer.append(dns.rrset.from_text(name, TTL, "IN", "HTTPS", SERVICE))
    return [answer.to_wire()]


def cut(query: Message, number: int) -> list[bytes]:
    """An answer whose last byte is missing."""
    return [plain(query, number)[0][:-1]]


def loop(query: Message, number: int) -> list[bytes]:
    """An answer whose owner's name is a pointer to itself."""
    (right,) = plain(query, number)
    at = right.index(b"\xc0\x0c")
    return [right[:at] + bytes((0xC0, at)) + right[at + 2 :]]


def huge(query: Message, number: int) -> list[bytes]:
    """As large as TCP can carry; where it does not fit, what UDP carries (RFC 6891)."""
    answer = dns.message.make_response(query)
    give(answer, query.question[0].name, number)
    text = " ".join([f'"{"x" * 250}"'] * 4)
    for one in range(63):
        owner = dns.name.from_text(f"text-{one}.cdn.example")
        answer.additional.append(dns.rrset.from_text(owner, TTL, "IN", "TXT", text))
    return [answer.to_wire(max_size=LARGEST)]


def as_if_for(query: Message, name: dns.name.Name) -> Message:
    """The same query, with its id, for another name."""
    other = dns.message.make_query(name, query.question[0].rdtype)
    other.id = query.id
    return other


ACTIONS: dict[str, Callable[[Message, int], list[bytes]]] = {
    "plain": plain,
    "split": plain,
    "options": plain,
    "alias": alias,
    "leads": leads,
    "silent": silent,
    "wrongid": wrong_id,
    "wrongname": wrong_name,
    "unasked": unasked,
    "special": special,
    "service": service,
    "splitservice": service,
    "cut": cut,
    "loop": loop,
    "huge": huge,
}


def answers(wire: bytes) -> list[bytes]:
    """What is sent back for one message."""
    query = dns.message.from_wire(wire)
    action, _, number = query.question[0].name.labels[0].decode().lower().partition("-")
    return ACTIONS[action](query, int(number or 0))


def serve_udp(server: socket.socket) -> None:
    while True:
        wire, client = server.recvfrom(65535)
        for answer in answers(wire):
            if b"options" in wire.lower():
                send_with_options(server, answer, client)
            elif len(answer) <= 4096:
                server.sendto(answer, client)


def send_with_options(server: socket.socket, answer: bytes, client: tuple[str, int]) -> None:
    """Send it behind an IP header that is longer than others."""
    if server.family == socket.AF_INET6:
        padded = (socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, PADDING)
        server.sendmsg([answer], [padded], 0, client)
        return
    server.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, FOUR_NOTHINGS)
    server.sendto(answer, client)
    server.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")


def serve_stream(client: socket.socket) -> None:
    """Answer all that has come in one go; one that is to be split goes byte by byte."""
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting = b""
        while received := client.recv(65535):
            waiting += received
            out, is_split = b"", False
            while len(waiting) >= 2 and len(waiting) >= (
                end := 2 + int.from_bytes(waiting[:2], "big")
            ):
                wire, waiting = waiting[2:end], waiting[end:]
                is_split |= b"split" in wire
                out += b"".join(len(a).to_bytes(2, "big") + a for a in answers(wire))
            step = 7 if is_split else max(len(out), 1)
            for start in range(0, len(out), step):
                client.sendall(out[start : start + step])
                if is_split:
                    time.sleep(0.005)  # so that the kernel makes a segment of each


def main() -> None:
    address = sys.argv[1]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    udp.bind((address, 53))
    tcp = socket.create_server((address, 53), family=family, backlog=512)
    threading.Thread(target=serve_udp, args=(udp,), daemon=True).start()
    print("listening", flush=True)  # noqa: T201
    while True:
        client, _ = tcp.accept()
        threading.Thread(target=serve_stream, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
