"""The rows: what is compared, how, and what the ratio must keep to.

A delay that ramfw or dnsmasq adds is the difference to the same question asked without it, made
within a pair: what slows the whole machine for a while slows both halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from tests.bench.openings import Openings
from tests.bench.report import Measure, differences, ratio
from tests.bench.setting import (
    BYSTANDER,
    PLAIN,
    RUN_COPYING,
    UNRELATED,
    WITH_NFTSET,
    Delay,
    Host,
    Setting,
)

QUESTIONS = 1_500
"""Of one half of a pair. Ten pairs and the warming up stay below the bound of learned names."""
WARM_UP = 300
MANY_QUESTIONS = 15_000
OUTSTANDING = 64
LISTED = 10
"""Names in a policy by which unrelated ones are told."""
NAMES, ADDRESSES_EACH = 10_000, 10
CONNECTIONS = 20_000
CONNECTIONS_OF_COPIES = 500
MEBIBYTES_ABOVE_IDLE = 64.0


class Bench:
    """The setting, and the hosts that several rows use."""

    def __init__(self, setting: Setting, pairs: int) -> None:
        self.pairs = pairs
        self.setting = setting
        self.bare = Host(setting)
        self.ours = Host(setting)
        self.peer = Host(setting)
        self.peer.start_peer()
        self.openings = Openings(setting)


def held_answers(bench: Bench) -> list[Measure]:
    """An answer that opens an address, one at a time, beside dnsmasq's --nftset."""
    bench.ours.start_ramfw()
    ways: list[Callable[[int], Delay]] = [
        bench.bare.delay,
        bench.ours.delay,
        lambda count: bench.peer.delay(count, port=PLAIN),
        lambda count: bench.peer.delay(count, port=WITH_NFTSET),
    ]
    bare, ours, plain, nftset = _interleaved(bench.pairs, ways)
    measures = []
    for part, bound in (("p50", 0.6), ("p99", 1.0)):
        added = differences(_parts(ours, part), _parts(bare, part))
        peers = differences(_parts(nftset, part), _parts(plain, part))
        measures.append(
            Measure(
                "held",
                f"added delay of an answer that opens, {part}, against dnsmasq's --nftset",
                *ratio(added, peers),
                bound,
                beside={
                    "without and with ramfw": _two(bare, ours, part),
                    "dnsmasq without and with --nftset": _two(plain, nftset, part),
                },
            )
        )
    return measures


def other_answers(bench: Bench) -> list[Measure]:
    """Answers outside the scopes, and to names that are not permitted."""
    bench.ours.start_ramfw(LISTED, wildcard=False)
    docker, docker_and_ours, wild = (Host(bench.setting) for _ in range(3))
    for host in (docker, docker_and_ours):
        host.track_connections()
    for host in (docker_and_ours, wild):
        host.start_ramfw(LISTED)
    ways: list[Callable[[int], Delay]] = [
        lambda count: bench.bare.delay(count, cgroup=BYSTANDER),
        lambda count: bench.ours.delay(count, cgroup=BYSTANDER),
        lambda count: docker.delay(count, cgroup=BYSTANDER),
        lambda count: docker_and_ours.delay(count, cgroup=BYSTANDER),
        lambda count: bench.ours.delay(count, UNRELATED),
        lambda count: wild.delay(count, UNRELATED),
        lambda count: bench.peer.delay(count, UNRELATED, port=WITH_NFTSET),
    ]
    try:
        found = _interleaved(bench.pairs, ways)
    finally:
        docker_and_ours.stop_ramfw()
        wild.stop_ramfw()
    bare, outside, tracked, both, unrelated, below, peer = found
    without = _parts(bare, "p50")
    peers = differences(_parts(peer, "p50"), without)
    return [
        Measure(
            "other",
            "delay of an answer outside the scopes, p50, against no ramfw",
            *ratio(_parts(outside, "p50"), without),
            1.05,
            beside={"without and with ramfw": _two(bare, outside, "p50")},
        ),
        Measure(
            "other",
            "the same where an engine's rules have connections tracked, on both sides",
            *ratio(_parts(both, "p50"), _parts(tracked, "p50")),
            1.05,
            beside={"without and with ramfw": _two(tracked, both, "p50")},
        ),
        *(
            Measure(
                "other",
                what,
                *ratio(differences(_parts(delays, "p50"), without), peers),
                0.4,
                beside={
                    "without and with ramfw": _two(bare, delays, "p50"),
                    "without and with dnsmasq": _two(bare, peer, "p50"),
                },
            )
            for what, delays in (
                ("added delay of an unrelated name, p50, against dnsmasq with --nftset", unrelated),
                ("the same where the policy has a wildcard as well", below),
            )
        ),
    ]


def rate(bench: Bench) -> list[Measure]:
    """Answers a second with many questions on their way."""
    ours, peers = [], []
    for _ in range(bench.pairs):
        # Anew each time: only so many names may be learned, and all of them are to open.
        bench.ours.start_ramfw()
        bench.peer.empty_peer_set()
        bench.ours.rate(WARM_UP, OUTSTANDING)
        bench.peer.rate(WARM_UP, OUTSTANDING, port=WITH_NFTSET)
        ours.append(bench.ours.rate(MANY_QUESTIONS, OUTSTANDING))
        peers.append(bench.peer.rate(MANY_QUESTIONS, OUTSTANDING, port=WITH_NFTSET))
    return [
        Measure(
            "rate",
            f"answers a second, {OUTSTANDING} outstanding, against dnsmasq with --nftset",
            *ratio(ours, peers),
            3.0,
            at_least=True,
            beside={
                "with ramfw": f"{median(ours):.0f}/s",
                "dnsmasq with --nftset": f"{median(peers):.0f}/s",
            },
        )
    ]


def size(bench: Bench) -> list[Measure]:
    """The first row again, with much in the policy and in the kernel."""
    bench.ours.start_ramfw(10)
    large = Host(bench.setting)
    large.start_ramfw(NAMES, ADDRESSES_EACH)
    try:
        ways = [bench.bare.delay, bench.ours.delay, large.delay]
        bare, few, many = _interleaved(bench.pairs, ways)
    finally:
        large.stop_ramfw()
    return [
        Measure(
            "size",
            f"added delay of an answer that opens, {part}, 100,000 addresses against 10",
            *ratio(
                differences(_parts(many, part), _parts(bare, part)),
                differences(_parts(few, part), _parts(bare, part)),
            ),
            1.2,
            beside={
                "without ramfw": _one(bare, part),
                "10 and 100,000 addresses": _two(few, many, part),
            },
        )
        for part in ("p50", "p99")
    ]


def connections(bench: Bench) -> list[Measure]:
    """Fresh names, each connected to as soon as its answer is there."""
    bench.ours.start_ramfw(program=RUN_COPYING)
    copying = bench.ours.connect(CONNECTIONS_OF_COPIES)
    bench.ours.start_ramfw()
    holding = bench.ours.connect(CONNECTIONS)
    return [
        Measure(
            "connect",
            f"first connections that fail, of {CONNECTIONS:,}",
            holding.failed,
            (holding.failed,),
            0.0,
            unit="connections",
            beside={
                "holding": str(holding),
                f"copying, of {CONNECTIONS_OF_COPIES:,}": str(copying),
            },
        )
    ]


def memory(bench: Bench) -> list[Measure]:
    """The daemon with much to remember, and when it starts on a table that holds much."""
    idle = bench.ours.idle_memory()
    bench.ours.start_ramfw(NAMES, ADDRESSES_EACH)
    peak = bench.ours.peak_memory()
    bench.ours.restart_ramfw()
    again = bench.ours.peak_memory()
    bench.ours.stop_ramfw()
    above = max(peak, again) - idle
    return [
        Measure(
            "memory",
            f"peak of memory above idle, {NAMES:,} names and {NAMES * ADDRESSES_EACH:,} addresses",
            above,
            (above,),
            MEBIBYTES_ABOVE_IDLE,
            unit="MiB",
            beside={
                "an idle Python": f"{idle:.1f} MiB",
                "started on nothing": f"{peak:.1f} MiB",
                "started again, reading it all back": f"{again:.1f} MiB",
            },
        )
    ]


ROWS: dict[str, Callable[[Bench], list[Measure]]] = {
    "held": held_answers,
    "other": other_answers,
    "rate": rate,
    "size": size,
    "connect": connections,
    "memory": memory,
}


def _interleaved(pairs: int, ways: Sequence[Callable[[int], Delay]]) -> list[list[Delay]]:
    """Each way measured so many times, in turns."""
    for way in ways:
        way(WARM_UP)
    found: list[list[Delay]] = [[] for _ in ways]
    for _ in range(pairs):
        for way, delays in zip(ways, found, strict=True):
            delays.append(way(QUESTIONS))
    return found


def _parts(delays: Sequence[Delay], part: str) -> list[float]:
    return [delay.p50 if part == "p50" else delay.p99 for delay in delays]


def _one(delays: Sequence[Delay], part: str) -> str:
    return f"{median(_parts(delays, part)):.0f} µs"


def _two(first: Sequence[Delay], second: Sequence[Delay], part: str) -> str:
    return f"{_one(first, part)}, {_one(second, part)}"
