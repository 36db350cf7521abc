"""Asks every trusted DNS server for a name's addresses, and unites what they answer.

Nothing here trusts an answer for more than it is: an address that the asked server gave, in a
response to the very question, for the name that was asked. What a name may open is decided
elsewhere. No cache, no search list, no hosts file.

    resolver = Resolver()
    resolver.set_servers((ip_address("192.0.2.53"),))
    resolved = await resolver.resolve("registry-1.docker.io")
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest
from typing import Final

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.inet
import dns.message
import dns.name
import dns.rdatatype

from ramfw.core.addresses import special_use
from ramfw.core.events import Address, Answer, Resolved, ServerReply
from ramfw.wire.dns_answer import (
    FORMERR,
    MALFORMED,
    MAX_ADDRESSES,
    NODATA,
    NOTIMP,
    NXDOMAIN,
    OK,
    TRUNCATED,
    DnsAnswer,
    answer_to,
    decode,
)

TIMEOUT = "timeout"
UNREACHABLE = "unreachable"

_DNS_PORT: Final = 53
_PAYLOAD = 1232  # fits any path without fragments: DNS flag day 2020
_ATTEMPTS = 2
_CONCURRENT = 64
_FOR_THE_SLOWER = 0.2  # seconds that the first good answer waits for the other servers'
_DOWN_AFTER = 3  # so that a lost datagram or two never look like a dead server

_FAMILIES = (dns.rdatatype.A, dns.rdatatype.AAAA)
_ALIVE = frozenset({OK, NODATA, NXDOMAIN})


@dataclass(slots=True)
class _Server:
    """One trusted server, with its share of the questions under way.

    Shares are apart, so that questions to a dead server never hold up those to a living one.
    """

    address: Address
    slots: asyncio.Semaphore
    unanswered: int = 0
    failure: str = TIMEOUT
    probing: bool = False
    label: str = field(init=False)
    """The address as it is told, one text for all that the server gives."""

    def __post_init__(self) -> None:
        self.label = str(self.address)

    @property
    def is_down(self) -> bool:
        return self.unanswered >= _DOWN_AFTER


@dataclass(frozen=True, slots=True)
class _Reply:
    """What one server gave, of both families."""

    server: str
    answers: tuple[DnsAnswer, DnsAnswer]


@dataclass(slots=True)
class Resolver:
    """Resolves names by all trusted servers at once. `timeout` is per attempt, in seconds."""

    port: int = _DNS_PORT
    timeout: float = 2.0
    _servers: tuple[_Server, ...] = field(default=(), init=False)

    def set_servers(self, servers: tuple[Address, ...]) -> None:
        """Ask these servers from now on; questions under way go on with those they began with."""
        unique = tuple(dict.fromkeys(servers))
        share = max(1, _CONCURRENT // max(1, len(unique)))
        self._servers = tuple(_Server(server, asyncio.Semaphore(share)) for server in unique)

    async def resolve(
        self, name: str, early: Callable[[Resolved], None] = lambda _: None
    ) -> Resolved:
        """The addresses of a canonical name, of both families, from all servers.

        Returns when each server has answered or failed, with one reply for each; never raises
        for what a server sends or does not send. An address that several servers gave appears
        once, with the longest TTL. Where some server keeps the others waiting, `early` is told
        once, before, what the quick ones gave. Raises ValueError where the name cannot be asked
        for.
        """
        servers = self._servers
        try:
            qname = dns.name.from_text(name)
        except dns.exception.DNSException as error:
            raise ValueError(f"`{name}` is no name that DNS can be asked for: {error}") from error
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._both_families(server, qname, servers)) for server in servers
            ]
            if await _some_answered(tasks):
                await asyncio.wait(tasks, timeout=_FOR_THE_SLOWER)
                if not all(task.done() for task in tasks):
                    early(_united(name, [task.result() for task in tasks if task.done()]))
        return _united(name, [task.result() for task in tasks])

    async def _both_families(
        self, server: _Server, name: dns.name.Name, servers: tuple[_Server, ...]
    ) -> _Reply:
        v4, v6 = await asyncio.gather(
            *(self._question(server, name, family, servers) for family in _FAMILIES)
        )
        return _Reply(server.label, (v4, v6))

    async def _question(
        self,
        server: _Server,
        name: dns.name.Name,
        family: dns.rdatatype.RdataType,
        servers: tuple[_Server, ...],
    ) -> DnsAnswer:
        """One server's answer about one family; an outcome of failure in place of any error."""
        async with server.slots:
            # A server that is down is asked by one question at a time, to notice when it is back;
            # where all are down, every question is tried.
            spared = server.is_down and not all(other.is_down for other in servers)
            if spared and server.probing:
                return DnsAnswer(server.failure)
            server.probing = True
            try:
                answer = await self._ask(server.address, name, family, 1 if spared else _ATTEMPTS)
            finally:
                server.probing = False
        if answer.outcome in {TIMEOUT, UNREACHABLE}:
            server.unanswered += 1
            server.failure = answer.outcome
        else:
            server.unanswered = 0
        return answer

    async def _ask(
        self,
        server: Address,
        name: dns.name.Name,
        family: dns.rdatatype.RdataType,
        attempts: int,
    ) -> DnsAnswer:
        edns = True
        answer = DnsAnswer(TIMEOUT)
        for _attempt in range(attempts):
            answer = await self._attempt(server, name, family, edns=edns)
            if answer.outcome in {FORMERR, NOTIMP} and edns:
                # A server from before EDNS (RFC 6891, section 7) is asked in its own way.
                edns = False
                answer = await self._attempt(server, name, family, edns=edns)
            if answer.outcome != TIMEOUT:
                break
        return answer

    async def _attempt(
        self,
        server: Address,
        name: dns.name.Name,
        family: dns.rdatatype.RdataType,
        *,
        edns: bool,
    ) -> DnsAnswer:
        query = dns.message.make_query(name, family)
        query.use_edns(edns, payload=_PAYLOAD)
        try:
            answer = await self._by_udp(query, str(server))
            if answer.outcome == TRUNCATED:
                where, port = str(server), self.port
                response = await dns.asyncquery.tcp(query, where, self.timeout, port)
                answer = answer_to(query, response)
        except (TimeoutError, dns.exception.Timeout):
            return DnsAnswer(TIMEOUT)
        except EOFError:
            return DnsAnswer(MALFORMED)
        except OSError:
            return DnsAnswer(UNREACHABLE)
        except Exception:  # noqa: BLE001 - a stranger's bytes in another's parser: nothing may escape
            return DnsAnswer(MALFORMED)
        return answer

    async def _by_udp(self, query: dns.message.Message, where: str) -> DnsAnswer:
        """The answer by UDP. What is no response to the query does not end the wait for it."""
        family = dns.inet.af_for_address(where)
        backend = dns.asyncbackend.get_backend("asyncio")
        # Connected: the kernel drops what another address sends, and tells of a closed port.
        sock = await backend.make_socket(  # type: ignore[no-untyped-call]
            family, socket.SOCK_DGRAM, 0, None, (where, self.port)
        )
        silence = TIMEOUT
        async with sock:
            await sock.sendto(query.to_wire(), None, None)
            try:
                async with asyncio.timeout(self.timeout):
                    while True:
                        wire, _source = await sock.recvfrom(65535, None)
                        answer = decode(wire, query)
                        if answer is not None and answer.outcome != MALFORMED:
                            return answer
                        if answer is not None:
                            silence = MALFORMED
            except TimeoutError:
                return DnsAnswer(silence)


async def _some_answered(tasks: list[asyncio.Task[_Reply]]) -> bool:
    """Wait for the first server that gives an address; False where none does."""
    for task in asyncio.as_completed(tasks):
        if any(answer.addresses for answer in (await task).answers):
            return True
    return False


def _united(name: str, replies: list[_Reply]) -> Resolved:
    answers = [
        answer
        for index in range(len(_FAMILIES))
        for answer in _unite((reply.server, reply.answers[index]) for reply in replies)
    ]
    outcomes = tuple(_server_reply(reply.server, _outcome(*reply.answers)) for reply in replies)
    return Resolved(name, tuple(answers), outcomes)


@lru_cache
def _server_reply(server: str, outcome: str) -> ServerReply:
    """Nearly all are alike, and each name keeps its own."""
    return ServerReply(server, outcome)


def _unite(given: Iterable[tuple[str, DnsAnswer]]) -> Iterator[Answer]:
    """The servers' addresses of one family, each once, at most MAX_ADDRESSES.

    Taken from the servers in turn, so that none of them crowds out another's.
    """
    columns = [
        [Answer(address, ttl, server) for address, ttl in answer.addresses]
        for server, answer in given
    ]
    united: dict[Address, Answer] = {}
    for row in zip_longest(*columns):
        for answer in row:
            if answer is None or special_use(answer.address) is not None:
                continue
            known = united.get(answer.address)
            if known is None and len(united) == MAX_ADDRESSES:
                continue
            if known is None or known.ttl < answer.ttl:
                united[answer.address] = answer
    return iter(united.values())


def _outcome(a: DnsAnswer, aaaa: DnsAnswer) -> str:
    """One server's two outcomes in a word, with the other family's failure where they differ.

    A name of one family only is the ordinary case and plain `ok`.
    """
    words = {a.outcome, aaaa.outcome}
    if len(words) == 1 or words == {OK, NODATA}:
        text = OK if OK in words else a.outcome
    elif OK in words:
        text = f"{OK}, AAAA {aaaa.outcome}" if a.outcome == OK else f"{OK}, A {a.outcome}"
    elif a.outcome in _ALIVE:
        text = f"{aaaa.outcome}, A {a.outcome}"
    else:
        text = f"{a.outcome}, AAAA {aaaa.outcome}"
    special = [
        str(address)
        for address, _ttl in (*a.addresses, *aaaa.addresses)
        if special_use(address) is not None
    ]
    if special:
        text += f", special-use address dropped: {' '.join(special)}"
    return text
