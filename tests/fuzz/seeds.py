"""Whole messages and packets for the search to begin with."""

from __future__ import annotations

import struct
from itertools import pairwise

import dns.message
import dns.rrset

from tests.fuzz.targets import ALIASED
from tests.unit.wire.hello_sample import hello as made
from tests.unit.wire.hello_sample import recorded, server_name

RECORDS = (
    ("A", "registry.example. CNAME cdn.example.", "cdn.example. A 192.0.2.1"),
    ("AAAA", "registry.example. AAAA 2001:db8::1", "example. NS ns.example."),
    ("HTTPS", 'registry.example. HTTPS 1 . alpn="h3,h2" ech="AAj+DQAEAAECAw==" ipv4hint=192.0.2.1'),
    ("A", "registry.example. SOA ns.example. admin.example. 1 2 3 4 5"),
    ("A", "registry.example. RRSIG A 8 2 60 20300101000000 20200101000000 1 example. AAAA"),
)


def dns_messages() -> list[bytes]:
    """Responses with records of every kind that the decoder looks into."""
    found = []
    for kind, *records in RECORDS:
        query = dns.message.make_query("registry.example.", kind, use_edns=0)
        message = dns.message.make_response(query)
        for record in records:
            owner, of_kind, data = record.split(maxsplit=2)
            message.answer.append(dns.rrset.from_text(owner, 60, "IN", of_kind, data))
        found.append(message.to_wire())
    return found


def packets() -> list[bytes]:
    """A message in UDP and TCP, over IPv4 and IPv6."""
    payload = dns_messages()[0]
    udp = struct.pack("!HHHH", 53, 4000, 8 + len(payload), 1) + payload
    tcp = struct.pack("!HHIIBBHHH", 53, 4000, 1, 1, 0x50, 0x18, 9, 0, 0) + payload
    found = []
    for protocol, body in ((17, udp), (6, tcp)):
        found.append(
            struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
            + bytes(range(8))
            + body
        )
        options = bytes((protocol, 0)) + bytes(6)
        found.append(
            struct.pack("!IHBB", 6 << 28, len(body) + 8, 60, 64) + bytes(32) + options + body
        )
    return found


def streams() -> list[bytes]:
    """Framed messages, behind the places where they are cut."""
    framed = b"".join(len(one).to_bytes(2) + one for one in dns_messages())
    return [bytes((5, 3, 60, 9, 200, 30)) + framed]


def aliases() -> list[bytes]:
    """Records behind a question, with how many they are."""
    found = []
    for length in range(1, 5):
        message = dns.message.make_response(dns.message.make_query("registry.example.", "A"))
        names = ["registry.example.", *(f"c{n}.cdn.example." for n in range(1, length))]
        for owner, target in pairwise(names):
            message.answer.append(dns.rrset.from_text(owner, 60, "IN", "CNAME", target))
        message.answer.append(dns.rrset.from_text(names[-1], 60, "IN", "A", "192.0.2.1"))
        wire = message.to_wire()
        found.append(bytes((len(message.answer), 0)) + wire[12 + len(ALIASED) :])
    return found


def voided() -> list[bytes]:
    """Messages with what hides names, behind the places where they are cut."""
    return [bytes((3, 40, 90, 200)) + one for one in dns_messages()]


def strangers() -> list[bytes]:
    """What registries and others say to `GET /v2/`."""
    head = b"HTTP/1.1 401 Unauthorized\r\n"
    challenge = b'WWW-Authenticate: Bearer realm="https://a.example/t",service="a"\r\n'
    answers = (
        b"Docker-Distribution-Api-Version: registry/2.0\r\nContent-Length: 2\r\n\r\n{}",
        challenge + b"Content-Length: 0\r\n\r\n",
        b'Transfer-Encoding: chunked\r\n\r\n1f\r\n{"errors":[{"code":"DENIED"}]}\n\r\n0\r\n\r\n',
    )
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    return [bytes((2, 60, 200)) + head + one for one in answers] + [b"\0" + interim + head]


REQUEST = b"GET /v2/ HTTP/1.1\r\nHost: registry.example:5000\r\nAccept: */*\r\n\r\n"
CONNECT = b"CONNECT registry.example:443 HTTP/1.1\r\nHost: registry.example:443\r\n\r\n"


def hellos() -> list[bytes]:
    """Of real clients, and with names in several records."""
    return [*recorded().values(), made(server_name(b"registry.example"), size=40)]


def openings() -> list[bytes]:
    """Hellos and requests, behind the places where they are cut."""
    others = [REQUEST, CONNECT, b"PRI * HTTP/2.0\r\n\r\n", b"SSH-2.0-x\r\n", b"\x80\x2e\1\0\2"]
    return [bytes((3, 20, 90, 200)) + stream for stream in (*hellos(), *others)]


def seeds(target: str) -> list[bytes]:
    """What to begin with for a target."""
    by_target = {"dns_stream": streams, "ip_packet": packets, "kernel": packets}
    by_target |= {"hello": hellos, "opening": openings, "tcp_segment": packets}
    by_target |= {"dns_aliases": aliases, "dns_void": voided, "registry_answer": strangers}
    by_target |= {"told": lambda: [*hellos(), REQUEST, REQUEST.replace(b"GET", b"HEAD"), CONNECT]}
    return by_target.get(target, dns_messages)()
