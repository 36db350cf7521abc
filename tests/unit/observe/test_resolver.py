"""A resolver that asks real servers on loopback: honest, slow, lying, broken and spoofed ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from ramfw.core.events import Resolved
from ramfw.observe.resolver import Resolver
from tests.unit.observe.dns_server import (
    Behaviour,
    Reply,
    Server,
    answer,
    failure,
    saying,
    serving,
    silent,
    zone,
)

ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
MOST_UNDER_WAY = 64
GOOD = zone(
    "ghcr.io 60 A 192.0.2.1",
    "ghcr.io 60 AAAA 2001:db8::1",
)


async def resolve(
    servers: dict[str, Behaviour], name: str = "ghcr.io", patience: float = 0.3
) -> tuple[Resolved, dict[str, Server]]:
    async with serving(servers) as (port, running):
        resolver = Resolver(port=port, timeout=patience)
        resolver.set_servers(tuple(ip_address(server) for server in servers))
        return await resolver.resolve(name), running


def addresses(resolved: Resolved) -> set[str]:
    return {str(answer.address) for answer in resolved.answers}


def outcomes(resolved: Resolved) -> dict[str, str]:
    return {reply.server: reply.outcome for reply in resolved.replies}


async def test_both_families_are_asked_with_edns_and_ids_of_their_own() -> None:
    resolved, servers = await resolve({ONE: GOOD})

    assert addresses(resolved) == {"192.0.2.1", "2001:db8::1"}
    assert outcomes(resolved) == {ONE: "ok"}
    queries = [query for _transport, query in servers[ONE].asked]
    assert {query.question[0].rdtype for query in queries} == {
        dns.rdatatype.A,
        dns.rdatatype.AAAA,
    }
    assert {(query.edns, query.payload) for query in queries} == {(0, 1232)}
    assert len({query.id for query in queries}) == 2


async def test_the_answers_of_all_servers_are_united() -> None:
    resolved, _ = await resolve(
        {
            ONE: zone("ghcr.io 60 A 192.0.2.1", "ghcr.io 10 A 192.0.2.9"),
            TWO: zone("ghcr.io 30 A 192.0.2.2", "ghcr.io 300 A 192.0.2.9"),
        }
    )

    assert {(str(a.address), a.ttl, a.server) for a in resolved.answers} == {
        ("192.0.2.1", 10, ONE),  # RFC 2181, section 5.2: one RRset has one TTL, the least
        ("192.0.2.2", 30, TWO),
        ("192.0.2.9", 30, TWO),  # both gave it: the longer TTL
    }


async def test_a_name_that_lives_in_one_family_only_is_ok() -> None:
    resolved, _ = await resolve({ONE: zone("ghcr.io 60 A 192.0.2.1")})

    assert addresses(resolved) == {"192.0.2.1"}
    assert outcomes(resolved) == {ONE: "ok"}


async def test_a_name_without_addresses_is_nodata() -> None:
    resolved, _ = await resolve({ONE: zone()})

    assert resolved.answers == ()
    assert outcomes(resolved) == {ONE: "nodata"}


@pytest.mark.parametrize(
    ("bad", "outcome"),
    [
        (saying(dns.rcode.NXDOMAIN), "nxdomain"),
        (saying(dns.rcode.SERVFAIL), "servfail"),
        (saying(dns.rcode.REFUSED), "refused"),
        (silent, "timeout"),
    ],
)
async def test_a_server_that_fails_or_lies_stops_no_other(bad: Behaviour, outcome: str) -> None:
    resolved, _ = await resolve({ONE: bad, TWO: GOOD})

    assert addresses(resolved) == {"192.0.2.1", "2001:db8::1"}
    assert outcomes(resolved) == {ONE: outcome, TWO: "ok"}


async def test_a_closed_port_is_known_at_once() -> None:
    async with serving({ONE: GOOD}) as (port, _), asyncio.timeout(5):
        resolver = Resolver(port=port, timeout=60)
        resolver.set_servers((ip_address(TWO), ip_address(ONE)))

        several = await asyncio.gather(*(resolver.resolve("ghcr.io") for _ in range(5)))

    for resolved in several:
        assert addresses(resolved) == {"192.0.2.1", "2001:db8::1"}
        assert outcomes(resolved) == {TWO: "unreachable", ONE: "ok"}


async def test_a_question_that_got_lost_is_asked_once_more() -> None:
    seen: list[int] = []

    async def forgets_the_first(query: dns.message.Message, _transport: str) -> Iterable[Reply]:
        kind = query.question[0].rdtype
        seen.append(kind)
        return [answer(query, "ghcr.io 60 A 192.0.2.1")] if seen.count(kind) > 1 else []

    resolved, servers = await resolve({ONE: forgets_the_first})

    assert addresses(resolved) == {"192.0.2.1"}
    assert len(servers[ONE].asked) == 4
    assert len({query.id for _, query in servers[ONE].asked}) == 4


async def test_a_server_slower_than_the_timeout_is_a_timeout_after_two_tries() -> None:
    async def slow(query: dns.message.Message, transport: str) -> Iterable[Reply]:
        await asyncio.sleep(60)
        return await GOOD(query, transport)

    resolved, servers = await resolve({ONE: slow})

    assert resolved.answers == ()
    assert outcomes(resolved) == {ONE: "timeout"}
    assert len(servers[ONE].asked) == 4


async def test_one_failing_family_is_told_beside_the_other() -> None:
    async def only_a(query: dns.message.Message, _transport: str) -> Iterable[Reply]:
        if query.question[0].rdtype == dns.rdatatype.A:
            return [answer(query, "ghcr.io 60 A 192.0.2.1")]
        return [failure(query, dns.rcode.SERVFAIL)]

    async def only_nothing(query: dns.message.Message, _transport: str) -> Iterable[Reply]:
        if query.question[0].rdtype == dns.rdatatype.A:
            return [answer(query)]
        return [failure(query, dns.rcode.REFUSED)]

    resolved, _ = await resolve({ONE: only_a, TWO: only_nothing})

    assert addresses(resolved) == {"192.0.2.1"}
    assert outcomes(resolved) == {ONE: "ok, AAAA servfail", TWO: "refused, A nodata"}


async def test_a_truncated_answer_is_asked_for_again_by_tcp() -> None:
    async def too_long(query: dns.message.Message, transport: str) -> Iterable[Reply]:
        if transport == "tcp":
            return await GOOD(query, transport)
        response = answer(query, "ghcr.io 60 A 192.0.2.77")
        response.flags |= dns.flags.TC
        return [response]

    resolved, servers = await resolve({ONE: too_long})

    assert addresses(resolved) == {"192.0.2.1", "2001:db8::1"}
    assert outcomes(resolved) == {ONE: "ok"}
    assert sorted(transport for transport, _ in servers[ONE].asked) == ["tcp", "tcp", "udp", "udp"]


@pytest.mark.parametrize("last", [b"", b"\x00" * 40])
async def test_a_tcp_answer_that_is_none_is_malformed(last: bytes) -> None:
    async def cut_short(query: dns.message.Message, transport: str) -> Iterable[Reply]:
        if transport == "tcp":
            return [last] if last else []
        response = answer(query)
        response.flags |= dns.flags.TC
        return [response]

    resolved, _ = await resolve({ONE: cut_short})

    assert outcomes(resolved) == {ONE: "malformed"}


def wrong_id(query: dns.message.Message) -> Reply:
    spoof = answer(query, "ghcr.io 60 A 192.0.2.66")
    spoof.id ^= 1
    return spoof


def wrong_question(query: dns.message.Message) -> Reply:
    other = dns.message.make_query("evil.example.", query.question[0].rdtype, id=query.id)
    return answer(other, "ghcr.io 60 A 192.0.2.66")


def no_response_bit(query: dns.message.Message) -> Reply:
    spoof = answer(query, "ghcr.io 60 A 192.0.2.66")
    spoof.flags &= ~dns.flags.QR
    return spoof


def noise(_query: dns.message.Message) -> Reply:
    return b"\xff" * 100


@pytest.mark.parametrize("spoof", [wrong_id, wrong_question, no_response_bit, noise])
async def test_a_spoof_that_comes_first_neither_counts_nor_ends_the_wait(
    spoof: Callable[[dns.message.Message], Reply],
) -> None:
    async def spoofed(query: dns.message.Message, transport: str) -> Iterable[Reply]:
        return [spoof(query), *await GOOD(query, transport)]

    resolved, servers = await resolve({ONE: spoofed})

    assert addresses(resolved) == {"192.0.2.1", "2001:db8::1"}
    assert outcomes(resolved) == {ONE: "ok"}
    assert len(servers[ONE].asked) == 2


async def test_an_answer_from_an_address_that_was_not_asked_does_not_count() -> None:
    other: list[Server] = []

    async def lets_another_answer(query: dns.message.Message, _transport: str) -> Iterable[Reply]:
        transport = other[0].transport
        assert transport is not None
        transport.sendto(answer(query, "ghcr.io 60 A 192.0.2.66").to_wire(), queried_from[query.id])
        return []

    queried_from: dict[int, tuple[str, int]] = {}

    class Remembering(Server):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            queried_from[int.from_bytes(data[:2])] = addr
            super().datagram_received(data, addr)

    async with serving({ONE: lets_another_answer, TWO: silent}) as (port, running):
        other.append(running[TWO])
        running[ONE].__class__ = Remembering
        resolver = Resolver(port=port, timeout=0.2)
        resolver.set_servers((ip_address(ONE),))

        resolved = await resolver.resolve("ghcr.io")

    assert queried_from
    assert resolved.answers == ()
    assert outcomes(resolved) == {ONE: "timeout"}


async def test_bytes_that_are_no_dns_are_malformed_in_the_end() -> None:
    async def broken(_query: dns.message.Message, _transport: str) -> Iterable[Reply]:
        return [b"no DNS at all, and longer than a header"]

    resolved, _ = await resolve({ONE: broken})

    assert outcomes(resolved) == {ONE: "malformed"}


async def test_a_server_from_before_edns_is_asked_without() -> None:
    async def old(query: dns.message.Message, transport: str) -> Iterable[Reply]:
        if query.edns >= 0:
            return [failure(query, dns.rcode.FORMERR)]
        return await GOOD(query, transport)

    resolved, _ = await resolve({ONE: old})

    assert addresses(resolved) == {"192.0.2.1", "2001:db8::1"}


async def test_special_use_addresses_are_dropped_and_said() -> None:
    resolved, _ = await resolve(
        {
            ONE: zone(
                "ghcr.io 60 A 127.0.0.1",
                "ghcr.io 60 A 192.0.2.1",
                "ghcr.io 60 AAAA 64:ff9b::a9fe:a9fe",
            )
        }
    )

    assert addresses(resolved) == {"192.0.2.1"}
    assert outcomes(resolved) == {
        ONE: "ok, special-use address dropped: 127.0.0.1 64:ff9b::a9fe:a9fe"
    }


async def test_at_most_64_addresses_a_family_and_no_server_crowds_out_another() -> None:
    many = [f"ghcr.io 60 A 192.0.2.{host}" for host in range(100)]
    resolved, _ = await resolve({ONE: zone(*many), TWO: zone("ghcr.io 60 A 203.0.113.1")})

    assert len(resolved.answers) == 64
    assert "203.0.113.1" in addresses(resolved)


async def test_a_dead_server_holds_up_only_the_first_of_many_names() -> None:
    """Of 200 names, those after the first find the dead server known as dead."""
    records = [f"n{number}.example 60 A 192.0.2.1" for number in range(200)]

    async def by_name(query: dns.message.Message, _transport: str) -> Iterable[Reply]:
        name = query.question[0].name.to_text(omit_final_dot=True)
        fitting = [r for r in records if r.split()[0] == name]
        return [answer(query, *fitting if query.question[0].rdtype == dns.rdatatype.A else ())]

    async with serving({ONE: silent, TWO: by_name}) as (port, running):
        resolver = Resolver(port=port, timeout=0.4)
        resolver.set_servers((ip_address(ONE), ip_address(TWO)))
        resolved = await asyncio.gather(*(resolver.resolve(f"n{n}.example") for n in range(200)))

    assert all(addresses(one) == {"192.0.2.1"} for one in resolved)
    assert {outcomes(one)[ONE] for one in resolved} == {"timeout"}
    # 32 questions twice, and then one probe at a time, instead of 400 questions twice.
    assert len(running[ONE].asked) < 100


async def test_a_server_that_is_back_is_noticed() -> None:
    alive = False

    async def recovering(query: dns.message.Message, transport: str) -> Iterable[Reply]:
        return await zone("ghcr.io 60 A 192.0.2.2")(query, transport) if alive else []

    async with serving({ONE: recovering, TWO: GOOD}) as (port, _):
        resolver = Resolver(port=port, timeout=0.1)
        resolver.set_servers((ip_address(ONE), ip_address(TWO)))
        for _ in range(3):
            assert outcomes(await resolver.resolve("ghcr.io"))[ONE] == "timeout"
        alive = True
        await resolver.resolve("ghcr.io")  # its probe finds the server
        back = await resolver.resolve("ghcr.io")

    assert outcomes(back)[ONE] == "ok"
    assert "192.0.2.2" in addresses(back)


async def test_never_more_than_64_questions_are_under_way() -> None:
    under_way, most = 0, 0
    as_many_as_may = asyncio.Event()

    async def counting(query: dns.message.Message, transport: str) -> Iterable[Reply]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way >= MOST_UNDER_WAY:
            as_many_as_may.set()
        await as_many_as_may.wait()
        under_way -= 1
        return await GOOD(query, transport)

    async with serving({ONE: counting, TWO: counting, THREE: counting}) as (port, running):
        resolver = Resolver(port=port, timeout=5)
        resolver.set_servers(tuple(ip_address(server) for server in running))
        await asyncio.gather(*(resolver.resolve("ghcr.io") for _ in range(60)))

    assert most == MOST_UNDER_WAY


async def test_without_servers_nothing_is_asked() -> None:
    assert await Resolver().resolve("ghcr.io") == Resolved("ghcr.io", (), ())


async def test_what_is_no_name_is_said() -> None:
    with pytest.raises(ValueError, match="no name that DNS can be asked for"):
        await Resolver().resolve("a..b")


async def test_a_slow_server_does_not_keep_the_quick_one_s_answer() -> None:
    told: list[Resolved] = []

    async def silent(query: dns.message.Message, transport: str) -> Iterable[Reply]:
        del query, transport
        await asyncio.sleep(0)
        return ()

    async with serving({ONE: silent, TWO: GOOD}) as (port, _):
        resolver = Resolver(port=port, timeout=0.5)
        resolver.set_servers((ip_address(ONE), ip_address(TWO)))
        in_the_end = await resolver.resolve("ghcr.io", told.append)

    assert [outcomes(resolved) for resolved in told] == [{TWO: "ok"}]
    assert addresses(told[0]) == addresses(in_the_end)
    assert outcomes(in_the_end) == {ONE: "timeout", TWO: "ok"}
