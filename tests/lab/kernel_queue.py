"""Holds real DNS answers in the network namespace that it is started in, on loopback.

A program of its own, as `kernel_round_trip` is: the rules and the queue are the namespace's. Says
what the kernel makes of what ramfw packs by hand: elements, rules with an xt NFQUEUE target,
verdicts. Prints a line for each thing that went otherwise than meant, and ends with 1 then.
Arguments: the ways to hold answers that are tried; without any, all that the kernel has.
"""

from __future__ import annotations

import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import ENOENT
from ipaddress import ip_network
from itertools import product
from typing import Self

import dns.message
import dns.rrset

from ramfw.core.transaction import AddGrant, DeleteGrant, GrantKey
from ramfw.core.watch_rules import WatchForm
from ramfw.wire import dns_message, netlink, nflog, nfqueue, nft_rule, packet
from ramfw.wire.dns_stream import Reassembler, StreamMessage
from ramfw.wire.nft_batch import Batch, Grant, batch, pack
from tests.lab.watch_forms import forms_to_try

QUEUE = 5353
GROUP = 53
PATIENCE = 5.0
NETLINK_NETFILTER = 12
NFPROTO_IPV4, NFPROTO_IPV6 = 2, 10
MARK = 0x20

TABLE = """
table inet ramfw {
    map permitted4 { type ipv4_addr . inet_proto . inet_service : classid; flags timeout; }
    map permitted6 { type ipv6_addr . inet_proto . inet_service : classid; flags timeout; }
    map permitted_ranges4 {
        type ipv4_addr . inet_proto . inet_service : classid; flags interval, timeout;
    }
    map permitted_ranges6 {
        type ipv6_addr . inet_proto . inet_service : classid; flags interval, timeout;
    }
    set resolvers4 { type ipv4_addr; elements = { 127.0.0.1 } }
    set resolvers6 { type ipv6_addr; elements = { ::1 } }
    counter seen { }
    chain text { }
    chain packed { }
    chain held { }
    chain watch { type filter hook input priority -160; policy accept; }
    chain marked { type filter hook input priority -150; policy accept;
        meta mark 0x20 counter name "seen"
    }
}
"""

COUNT = (nft_rule.count("seen"), 'counter name "seen"')
"""A statement as it is packed by hand, and as nft writes it."""


def nft(text: str) -> str:
    done = subprocess.run(
        ["nft", "-s", "-f", "-"], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"nft: {done.stderr}\n{text}")
    return re.sub(r" expires \w+", "", done.stdout)


def key(name: str, network: str, protocol: str = "tcp", port: int = 443) -> GrantKey:
    return GrantKey.of(name, ip_network(network), protocol, port)


KEYS = (
    key("permitted4", "192.0.2.1"),
    key("permitted4", "192.0.2.2", "udp", 53),
    key("permitted6", "2001:db8::1", port=8443),
    key("permitted_ranges4", "198.51.100.0/25"),
    key("permitted_ranges4", "198.51.100.255/32"),
    key("permitted_ranges6", "2001:db8:5::/64", port=65535),
)
MAPS = sorted({k.map for k in KEYS})


def listed() -> str:
    """The maps with their elements; one command each, since of several nft 1.0.6 finds one."""
    return "".join(nft(f"list map inet ramfw {name}\n") for name in MAPS)


def element(key: GrantKey) -> str:
    address = str(key.network).removesuffix("/32").removesuffix("/128")
    return f"{address} . {key.protocol} . {key.port}"


class Netfilter:
    """A netlink socket: for batches, a queue or a group."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        )
        self._socket.settimeout(PATIENCE)
        self._socket.bind((0, 0))
        self._sequence = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def commit(self, packed: Callable[[int], Batch]) -> dict[int, int]:
        """Send a batch; the errnos of its messages that have one, by their place in it."""
        batch = packed(self._sequence)
        self._sequence = batch.last + 2
        self._socket.send(batch.data)
        failed: dict[int, int] = {}
        while True:
            for sequence, errno in netlink.errors(self.receive()):
                if errno:
                    failed[sequence - batch.first] = errno
                if sequence == batch.last or (errno and sequence == batch.first):
                    return failed

    def configure(self, message: bytes) -> None:
        """Send a message that is answered; packets that come before the answer are not wanted."""
        self._socket.send(message)
        answers: list[tuple[int, int]] = []
        while not answers:
            answers = list(netlink.errors(self.receive()))
        assert answers[0][1] == 0, answers

    def receive(self) -> bytes:
        return self._socket.recv(1 << 18)

    def send(self, message: bytes) -> None:
        self._socket.send(message)


def grants(*operations: Grant) -> Callable[[int], Batch]:
    return lambda sequence: pack(operations, sequence)


def rule(chain: str, *expressions: bytes) -> Callable[[int], Batch]:
    return lambda sequence: batch([nft_rule.append(chain, expressions)], sequence)


def response(size: int = 0) -> bytes:
    message = dns.message.make_response(dns.message.make_query("registry.example", "A"))
    message.answer.append(dns.rrset.from_text("registry.example.", 60, "IN", "A", "192.0.2.1"))
    for start in range(0, size, 200):
        text = f'"{start:0200}"'
        message.additional.append(dns.rrset.from_text(f"t{start}.example.", 60, "IN", "TXT", text))
    return message.to_wire()


@dataclass
class Story:
    """What was found wrong, and the steps."""

    batches: Netfilter
    form: WatchForm = WatchForm.XT
    wrong: list[str] = field(default_factory=list)

    def expect(self, what: str, got: object, meant: object) -> None:
        if got != meant:
            self.wrong.append(f"{self.form}: {what}: {got!r}, not {meant!r}")

    def yes(self, what: str, got: object) -> None:
        if not got:
            self.wrong.append(f"{self.form}: not {what}")

    def no(self, what: str, got: object) -> None:
        if got:
            self.wrong.append(f"{self.form}: not {what}")

    def elements(self) -> None:
        """Packed elements are listed as those that were written as text."""
        nft(
            "".join(
                f"add element inet ramfw {k.map} {{ {element(k)} timeout 300s : 0:10 }}\n"
                for k in KEYS
            )
        )
        written = listed()
        nft("".join(f"flush map inet ramfw {name}\n" for name in MAPS))
        self.no("emptied", "elements" in listed())

        failed = self.batches.commit(grants(*(AddGrant(k, 16, 300) for k in KEYS)))
        self.expect("packed elements", failed, {})
        self.expect("listed", listed(), written)

        again = ((AddGrant(k, 16, 9), DeleteGrant(k), AddGrant(k, 32, 7200)) for k in KEYS)
        failed = self.batches.commit(grants(*(operation for three in again for operation in three)))
        self.expect("extended", failed, {})
        longer = written.replace("timeout 5m", "timeout 2h").replace(": 0:10", ": 0:20")
        self.expect("listed", listed(), longer)

        absent = DeleteGrant(key("permitted4", "192.0.2.99"))
        failed = self.batches.commit(grants(*(DeleteGrant(k) for k in KEYS), absent))
        self.expect("all or nothing", set(failed.values()), {ENOENT})
        self.expect("listed", listed(), longer)

        self.expect("taken back", self.batches.commit(grants(*(DeleteGrant(k) for k in KEYS))), {})
        self.no("taken back", "elements" in listed())

    def statements(self) -> None:
        """Packed statements are listed as nft's own."""
        packed, text = COUNT
        self.expect(text, self.batches.commit(rule("packed", packed)), {})
        nft(f"add rule inet ramfw text {text}\n")
        written = nft("list chain inet ramfw text\n").replace("chain text", "chain packed")
        self.expect("statements", nft("list chain inet ramfw packed\n"), written)

    def watch(self, protocol: int, family: int, *, bypass: bool) -> None:
        """Queue the answers of one protocol and family."""
        nft("flush chain inet ramfw watch\nflush chain inet ramfw held\n")
        name = "resolvers4" if family == NFPROTO_IPV4 else "resolvers6"
        words = "tcp" if protocol == packet.TCP else "udp"
        source = "ip" if family == NFPROTO_IPV4 else "ip6"
        nft(
            f"add rule inet ramfw watch ct direction reply {words} sport 53"
            f" {source} saddr @{name} jump held\n"
        )
        if self.form is WatchForm.NATIVE:
            flags = " flags bypass" if bypass else ""
            nft(f"add rule inet ramfw held queue{flags} to {QUEUE}\n")
            return
        failed = self.batches.commit(rule("held", nft_rule.xt_nfqueue(QUEUE, bypass=bypass)))
        self.expect("the rule with the xt target", failed, {})

    def hold(self, address: str, family: int) -> None:
        """An answer waits until its address is permitted, then goes on, changed and marked."""
        self.watch(packet.UDP, family, bypass=True)
        wire = response()
        changed = wire[:-1] + b"\x07"
        with queue() as kernel, question(address) as client, answering(address, wire):
            client.send(b"?")
            (held,) = nfqueue.packets(kernel.receive())
            segment = packet.parse(held.payload)
            assert segment is not None
            self.expect("source port", segment.sport, 53)
            self.expect("input interface", held.indev, socket.if_nametoindex("lo"))
            payload = held.payload[segment.start : segment.end]
            self.expect("payload", payload, wire)
            self.no("held", readable(client))

            asked = dns_message.question(payload)
            assert asked is not None
            said = dns_message.answers(payload, asked)
            self.expect("answers", said and said.addresses, (b"\xc0\0\x02\x01",))
            grant = AddGrant(key("permitted4", "192.0.2.1"), 16, 60)
            self.expect("committed", self.batches.commit(grants(grant)), {})
            self.no("still held", readable(client))

            mended = packet.replace(held.payload, segment, 0, changed)
            kernel.send(nfqueue.verdict(QUEUE, held.id, nfqueue.ACCEPT, mark=MARK, payload=mended))
            self.expect("released", client.recv(4096), changed)
        self.yes("marked", "packets 1 " in counter("seen"))
        self.batches.commit(grants(DeleteGrant(grant.key)))

    def without_listener(self, address: str, family: int) -> None:
        """With nobody at the queue, DNS goes on; without `bypass` it would not."""
        for bypass in (True, False):
            self.watch(packet.UDP, family, bypass=bypass)
            with question(address) as client, answering(address, b"answer"):
                client.settimeout(PATIENCE if bypass else 0.3)
                client.send(b"?")
                try:
                    got = client.recv(4096)
                except TimeoutError:
                    got = b""
                self.expect(f"bypass {bypass}", got, b"answer" if bypass else b"")

    def dropped(self, address: str, family: int) -> None:
        """Two answers wait; one verdict drops both."""
        self.watch(packet.UDP, family, bypass=False)
        with queue() as kernel, question(address) as client, answering(address, b"answer", 3):
            client.settimeout(0.3)
            for _ in range(2):
                client.send(b"?")
            held = [nfqueue.packets(kernel.receive())[0] for _ in range(2)]
            kernel.send(nfqueue.verdict_up_to(QUEUE, held[1].id, nfqueue.DROP))
            self.no("dropped", readable(client))
            client.send(b"?")
            (third,) = nfqueue.packets(kernel.receive())
            kernel.send(nfqueue.verdict(QUEUE, third.id, nfqueue.ACCEPT))
            self.expect("the third", client.recv(4096), b"answer")
            self.no("no more", readable(client))

    def stream(self, address: str, family: int) -> None:
        """A long message over TCP is put together, changed in its last segment, and let go."""
        self.watch(packet.TCP, family, bypass=True)
        wire = response(size=40000)
        changed = wire[:-1] + b"\x07"
        with queue() as kernel, streaming(address, len(wire).to_bytes(2) + wire) as client:
            reassembler: Reassembler | None = None
            found: list[StreamMessage] = []
            while not found:
                (held,) = nfqueue.packets(kernel.receive())
                segment = packet.parse(held.payload)
                assert segment is not None
                if segment.flags & packet.SYN:
                    reassembler = Reassembler(segment.sequence + 1)
                payload = held.payload[segment.start : segment.end]
                assert reassembler is not None
                found = reassembler.feed(segment.sequence, payload)
                mended = None
                if found:
                    self.expect("one message", [message.payload for message in found], [wire])
                    offset = len(payload) - 1
                    mended = packet.replace(held.payload, segment, offset, b"\x07")
                kernel.send(nfqueue.verdict(QUEUE, held.id, nfqueue.ACCEPT, payload=mended))
            client.settimeout(PATIENCE)
            with client.makefile("rb") as stream:
                self.yes("over TCP", stream.read(2 + len(wire))[2:] == changed)

    def copy(self, address: str) -> None:
        """NFLOG gives a copy and holds nothing."""
        nft("flush chain inet ramfw watch\n")
        nft(f'add rule inet ramfw watch udp sport 53 log prefix "dns" group {GROUP}\n')
        with Netfilter() as kernel:
            kernel.configure(nflog.bind(GROUP, copy_range=1500, sequence=1))
            with question(address) as client, answering(address, b"answer"):
                client.send(b"?")
                self.expect("passed", client.recv(4096), b"answer")
                (copy,) = nflog.packets(kernel.receive())
                segment = packet.parse(copy.payload)
                assert segment is not None
                payload = copy.payload[segment.start : segment.end]
                seen = (copy.prefix, copy.indev, payload)
                self.expect("copy", seen, (b"dns", socket.if_nametoindex("lo"), b"answer"))


def counter(name: str) -> str:
    done = ["nft", "list", "counter", "inet", "ramfw", name]
    return subprocess.run(done, capture_output=True, text=True, check=True).stdout


def readable(client: socket.socket) -> bool:
    return bool(select.select([client], [], [], 0)[0])


@contextmanager
def queue() -> Iterator[Netfilter]:
    with Netfilter() as kernel:
        kernel.configure(nfqueue.bind(QUEUE, copy_range=0xFFFF, max_length=100, sequence=1))
        yield kernel
        kernel.configure(nfqueue.unbind(QUEUE, sequence=2))


@contextmanager
def question(address: str) -> Iterator[socket.socket]:
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect((address, 53))
        yield client


@contextmanager
def answering(address: str, answer: bytes, count: int = 1) -> Iterator[None]:
    """A server that gives this answer to the next questions."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as server:
        server.settimeout(PATIENCE)
        server.bind((address, 53))

        def serve() -> None:
            for _ in range(count):
                _, client = server.recvfrom(512)
                server.sendto(answer, client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@contextmanager
def streaming(address: str, data: bytes) -> Iterator[socket.socket]:
    """A connection, perhaps still on its way, to a server that sends this at once."""
    with (
        socket.create_server((address, 53), family=family_of(address)) as server,
        socket.socket(family_of(address)) as client,
    ):
        server.settimeout(PATIENCE)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        client.settimeout(0)
        client.connect_ex((address, 53))
        yield client
        thread.join()


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def main() -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    forms = forms_to_try(sys.argv[1:])
    nft(TABLE)
    with Netfilter() as batches:
        story = Story(batches)
        story.elements()
        story.statements()
        families = (("127.0.0.1", NFPROTO_IPV4), ("::1", NFPROTO_IPV6))
        for story.form, (address, family) in product(forms, families):
            nft("reset counter inet ramfw seen\n")
            story.hold(address, family)
            story.without_listener(address, family)
            story.dropped(address, family)
            story.stream(address, family)
            story.copy(address)
    sys.stdout.write("".join(f"{line}\n" for line in story.wrong))
    return 1 if story.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
