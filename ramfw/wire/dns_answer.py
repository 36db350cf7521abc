"""What a DNS response says to one question about a name's addresses.

Pure: bytes in, values out, for whatever bytes a server sends. Only records that hang together
with the question count: the name that was asked, and the chain of CNAMEs that starts there
(RFC 1034, section 3.6.2), inside the answer section of this one response.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.ttl

from ramfw.core.events import Address

MAX_ADDRESSES = 64
"""Addresses that count of one answer."""

MAX_CHAIN = 16
"""CNAMEs that are followed, one after the other."""

OK = "ok"
NODATA = "nodata"
NXDOMAIN = "nxdomain"
FORMERR = "formerr"
NOTIMP = "notimp"
MALFORMED = "malformed"
TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """One server's answer: an outcome in a word, and addresses with their TTL in seconds.

    The outcome is `ok` (there are addresses), `nodata` (the name has none of this type),
    `malformed`, `truncated` (ask again over TCP) or the response code in lower case
    (`nxdomain`, `servfail`, `refused`, ...). A TTL is the least along the chain of CNAMEs.
    """

    outcome: str
    addresses: tuple[tuple[Address, int], ...] = ()


def decode(wire: bytes, query: dns.message.Message) -> DnsAnswer | None:
    """What the bytes answer to the query; None where they are no response to it.

    A response has the query's id, its question (whatever the case of the letters) and the QR
    bit (RFC 5452, section 9.1). Never raises.
    """
    try:
        response = dns.message.from_wire(wire, raise_on_truncation=True)
    except dns.message.Truncated as error:
        cut = error.message()  # type: ignore[no-untyped-call]
        return DnsAnswer(TRUNCATED) if query.is_response(cut) else None
    except Exception:  # noqa: BLE001 - a stranger's bytes in another's parser: nothing may escape
        return DnsAnswer(MALFORMED)
    return answer_to(query, response) if query.is_response(response) else None


def answer_to(query: dns.message.Message, response: dns.message.Message) -> DnsAnswer:
    """What the response, which is one to the query, says."""
    if response.rcode() != dns.rcode.NOERROR:
        return DnsAnswer(dns.rcode.to_text(response.rcode()).lower())
    question = query.question[0]
    name, ttl = question.name, dns.ttl.MAX_TTL
    passed: set[dns.name.Name] = set()
    while name not in passed and len(passed) <= MAX_CHAIN:
        passed.add(name)
        found = response.get_rrset(response.answer, name, question.rdclass, question.rdtype)
        if found:
            ttl = min(ttl, found.ttl)
            kept = list(found)[:MAX_ADDRESSES]
            return DnsAnswer(OK, tuple((ip_address(data.address), ttl) for data in kept))
        alias = response.get_rrset(response.answer, name, question.rdclass, dns.rdatatype.CNAME)
        if not alias:
            return DnsAnswer(NODATA)
        name, ttl = alias[0].target, min(ttl, alias.ttl)
    return DnsAnswer(MALFORMED)
