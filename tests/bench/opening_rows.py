"""The rows of connections whose first bytes are read: rates, the delay, downloads, a burst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from tests.bench.openings import POLICY, RUN_UNREAD, TLS_PORT, container_behind, download
from tests.bench.report import Measure, differences, ratio
from tests.bench.rows import QUESTIONS, WARM_UP, Bench
from tests.bench.setting import PLAIN, WITH_NFTSET, Host

HANDSHAKES = 2_000
REQUESTS = 5_000
AT_ONCE = 2_000


def tls_connections(bench: Bench) -> list[Measure]:
    """New TLS connections, with whole handshakes, against no rules."""
    openings = bench.openings
    bench.ours.start_ramfw(more=POLICY)
    bare, ours = _in_turns(
        bench.pairs,
        lambda: openings.tls_rate(bench.bare, HANDSHAKES),
        lambda: openings.tls_rate(bench.ours, HANDSHAKES),
    )
    return [
        Measure(
            "tls",
            "new TLS connections a second, against no rules",
            *ratio(ours, bare),
            0.8,
            at_least=True,
            beside={"without and with ramfw": _rates(bare, ours)},
        )
    ]


def plain_connections(bench: Bench) -> list[Measure]:
    """New TCP connections with one request, against the same rules without the queue."""
    openings = bench.openings
    unread = Host(bench.setting)
    unread.start_ramfw(more=POLICY, program=RUN_UNREAD)
    bench.ours.start_ramfw(more=POLICY)
    try:
        by_address, ours = _in_turns(
            bench.pairs,
            lambda: openings.plain_rate(unread, REQUESTS),
            lambda: openings.plain_rate(bench.ours, REQUESTS),
        )
    finally:
        unread.stop_ramfw()
    return [
        Measure(
            "plain",
            "new TCP connections a second with one request, against the rules without the queue",
            *ratio(ours, by_address),
            0.4,
            at_least=True,
            beside={"without and with the queue": _rates(by_address, ours)},
        )
    ]


def downloads(bench: Bench) -> list[Measure]:
    """One permitted download, by an engine and by a container, against connection tracking."""
    bench.openings.serve_downloads()
    tracked, ours = Host(bench.setting), Host(bench.setting)
    behind_tracked, behind_ours = container_behind(tracked), container_behind(ours)
    ours.start_ramfw(more=POLICY)
    try:
        found = _in_turns(
            bench.pairs,
            lambda: download(tracked.namespace),
            lambda: download(ours.namespace),
            lambda: download(behind_tracked),
            lambda: download(behind_ours),
        )
    finally:
        ours.stop_ramfw()
    return [
        Measure(
            "download",
            f"throughput of one permitted download {where}, against connection tracking alone",
            *ratio(with_ramfw, without),
            0.98,
            at_least=True,
            beside={
                "without and with ramfw": (
                    f"{median(without):.2f} Gbit/s, {median(with_ramfw):.2f} Gbit/s"
                )
            },
        )
        for where, without, with_ramfw in (
            ("over veth", found[0], found[1]),
            ("by a container behind a bridge", found[2], found[3]),
        )
    ]


def first_bytes(bench: Bench) -> list[Measure]:
    """The delay of the first byte after a TLS hello, beside what dnsmasq's --nftset adds.

    Servers answer at once, as the DNS server does that dnsmasq asks: what it costs to compute a
    handshake, and to come back to caches that are full of it, is told beside.
    """
    openings = bench.openings
    bench.ours.start_ramfw(more=POLICY)
    for host in (bench.bare, bench.ours):
        openings.delay(host, WARM_UP)
        openings.delay(host, WARM_UP, TLS_PORT)
    for port in (PLAIN, WITH_NFTSET):
        bench.peer.delay(WARM_UP, port=port)
    bare, ours, computed, ours_computed, plain, nftset = _in_turns(
        bench.pairs,
        lambda: openings.delay(bench.bare, QUESTIONS).p50,
        lambda: openings.delay(bench.ours, QUESTIONS).p50,
        lambda: openings.delay(bench.bare, QUESTIONS, TLS_PORT).p50,
        lambda: openings.delay(bench.ours, QUESTIONS, TLS_PORT).p50,
        lambda: bench.peer.delay(QUESTIONS, port=PLAIN).p50,
        lambda: bench.peer.delay(QUESTIONS, port=WITH_NFTSET).p50,
    )
    return [
        Measure(
            "hello",
            "added delay of a handshake's first byte, p50, against dnsmasq's --nftset on an answer",
            *ratio(differences(ours, bare), differences(nftset, plain)),
            0.8,
            beside={
                "without and with ramfw": f"{median(bare):.0f} µs, {median(ours):.0f} µs",
                "the same of a server that computes its part": (
                    f"{median(computed):.0f} µs, {median(ours_computed):.0f} µs"
                ),
                "dnsmasq without and with --nftset": (
                    f"{median(plain):.0f} µs, {median(nftset):.0f} µs"
                ),
            },
        )
    ]


def burst(bench: Bench) -> list[Measure]:
    """Connections opened at once, half of them with a name that is not permitted."""
    openings = bench.openings
    bench.ours.start_ramfw(more=POLICY)
    found = [openings.burst(bench.ours, AT_ONCE) for _ in range(bench.pairs)]
    bare = openings.burst(bench.bare, AT_ONCE)
    if bare.passed != AT_ONCE // 2:
        raise RuntimeError(f"without ramfw {bare.passed} forbidden names came to the server")
    seconds = median(one.seconds for one in found)
    return [
        Measure(
            "burst",
            f"{what}, of {AT_ONCE:,} opened at once",
            max(counts),
            tuple(counts),
            0.0,
            unit="connections",
            beside={
                "all were over, without and with ramfw": f"{bare.seconds:.2f} s, {seconds:.2f} s"
            },
        )
        for what, counts in (
            ("permitted connections that were lost", [one.lost for one in found]),
            ("connections that were wrongly passed", [one.passed for one in found]),
        )
    ]


ROWS: dict[str, Callable[[Bench], list[Measure]]] = {
    "tls": tls_connections,
    "plain": plain_connections,
    "download": downloads,
    "hello": first_bytes,
    "burst": burst,
}


def _in_turns(pairs: int, *ways: Callable[[], float]) -> list[list[float]]:
    """Each way measured so many times, in turns."""
    found: list[list[float]] = [[] for _ in ways]
    for _ in range(pairs):
        for way, figures in zip(ways, found, strict=True):
            figures.append(way())
    return found


def _rates(first: Sequence[float], second: Sequence[float]) -> str:
    return f"{median(first):.0f}/s, {median(second):.0f}/s"
