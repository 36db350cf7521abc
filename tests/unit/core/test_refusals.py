"""What is remembered of refusals: each one once, counted on, bounded, and for whom."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ramfw.core.events import Reason, Refusal
from ramfw.core.policy import ScopeName
from ramfw.core.refusals import (
    AGAIN_AFTER,
    JUST_NOW,
    MOST_REMEMBERED,
    TOLD_BURST,
    Refusals,
    facts,
    journal_fields,
    sentence,
)

GHCR = Refusal(
    scope=ScopeName.ENGINES,
    reason=Reason.NOT_PERMITTED,
    audited=False,
    source=ip_address("192.0.2.2"),
    source_port=40_000,
    destination=ip_address("203.0.113.20"),
    port=443,
    protocol="tcp",
    uid=0,
    names=("ghcr.io",),
)
CONTAINER = replace(
    GHCR, scope=ScopeName.CONTAINERS, source=ip_address("172.17.0.2"), uid=None, names=()
)
NOW = 1000.0


def numbered(refusals: Refusals, after: int = 0, viewer: int = 0) -> list[tuple[int, int]]:
    return [(r.number, r.count) for r in refusals.since(after, viewer)]


def test_the_same_refusal_from_another_port_is_counted_on_and_told_once() -> None:
    refusals = Refusals()
    first = refusals.note(GHCR, NOW)
    assert first is not None
    assert refusals.note(CONTAINER, NOW + 1) is not None
    assert refusals.note(replace(GHCR, source_port=40_001), NOW + 2) is None
    assert numbered(refusals) == [(2, 1), (3, 2)]
    assert numbered(refusals, after=2) == [(3, 2)]
    assert refusals.latest == 3
    (_, again) = refusals.since(0, 0)
    assert (again.first, again.last, again.refusal.source_port) == (NOW, NOW + 2, 40_001)


def test_what_goes_on_is_told_again_after_a_while_with_its_number() -> None:
    refusals = Refusals()
    refusals.note(GHCR, NOW)
    for second in range(1, 10):
        assert refusals.note(GHCR, NOW + second) is None
    told = refusals.note(GHCR, NOW + AGAIN_AFTER)
    assert told is not None
    assert sentence(told).endswith("not permitted, 11 times")


@pytest.mark.parametrize(
    "other",
    [
        {"destination": ip_address("203.0.113.21")},
        {"port": 5000},
        {"protocol": "udp"},
        {"uid": 1000},
        {"scope": ScopeName.HOST},
        {"names": ("quay.io",)},
        {"source": ip_address("192.0.2.3")},
        {"audited": True},
        {"reason": Reason.QUIC},
    ],
)
def test_another_refusal_is_another_one(other: dict[str, object]) -> None:
    refusals = Refusals()
    refusals.note(GHCR, NOW)
    changed: Refusal = replace(GHCR, **other)  # type: ignore[arg-type]
    assert refusals.note(changed, NOW) is not None
    assert numbered(refusals) == [(1, 1), (2, 1)]


def test_the_oldest_is_forgotten_and_the_journal_is_not_flooded() -> None:
    refusals = Refusals()
    told = 0
    for number in range(MOST_REMEMBERED + 100):
        address = ip_address(0xC6336400 + number)
        told += refusals.note(replace(GHCR, destination=address), NOW) is not None
    assert len(list(refusals.since(0, 0))) == MOST_REMEMBERED
    assert next(iter(refusals.since(0, 0))).number == 101
    assert told == TOLD_BURST
    assert refusals.untold == MOST_REMEMBERED + 100 - TOLD_BURST
    assert len(refusals._told) <= MOST_REMEMBERED
    assert refusals.note(GHCR, NOW + 1) is not None


def test_root_sees_all_and_another_user_what_is_theirs() -> None:
    refusals = Refusals()
    for refusal in (GHCR, replace(GHCR, uid=1000), CONTAINER):
        refusals.note(refusal, NOW)
    assert numbered(refusals) == [(1, 1), (2, 1), (3, 1)]
    assert numbered(refusals, viewer=1000) == [(2, 1)]
    assert numbered(refusals, viewer=1001) == []


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (
            GHCR,
            "refused: engines (uid 0) to ghcr.io at 203.0.113.20 port 443/tcp: not permitted",
        ),
        (
            replace(CONTAINER, reason=Reason.QUIC, protocol="udp", audited=True),
            "would be refused: containers (172.17.0.2) to 203.0.113.20 port 443/udp: UDP 443 is",
        ),
        (
            replace(GHCR, scope=None, reason=Reason.REVOKED, names=("a.example", "b.example")),
            "refused: a connection from 192.0.2.2 to a.example or b.example at 203.0.113.20 port",
        ),
    ],
)
def test_a_sentence_says_who_what_and_why(refusal: Refusal, words: str) -> None:
    record = Refusals().note(refusal, NOW)
    assert record is not None
    assert sentence(record).startswith(words)
    assert sentence(record).endswith(f": {refusal.reason}")


def test_where_a_registry_may_have_sent_its_client_on_the_line_that_permits_it_is_told() -> None:
    sent = replace(GHCR, names=("blobs.example",), after="hub.example", port=8443)
    record = Refusals().note(sent, NOW)
    assert record is not None
    assert sentence(record).endswith(
        '; hub.example may have sent the client there: [[allow]] host = "blobs.example" '
        "ports = [8443]"
    )
    known = facts(record, NOW)
    assert known["hint"] == '[[allow]]\nhost = "blobs.example"\nports = [8443]'
    assert known["after"] == "hub.example"
    plain = Refusals().note(GHCR, NOW)
    assert plain is not None
    assert facts(plain, NOW)["hint"] == ""


def test_the_journal_gets_each_fact_under_a_name_of_its_own() -> None:
    record = Refusals().note(CONTAINER, NOW)
    assert record is not None
    fields = dict(journal_fields(record))
    assert fields["RAMFW_SCOPE"] == "containers"
    assert fields["RAMFW_ADDRESS"] == "203.0.113.20"
    assert fields["RAMFW_UID"] == fields["RAMFW_NAME"] == ""
    assert len(fields["MESSAGE_ID"]) == 32
    assert facts(record, NOW + 5)["last_ago"] == 5.0


def test_a_name_was_refused_just_now_and_not_for_ever_and_not_in_audit_mode() -> None:
    refusals = Refusals()
    assert not refusals.was_refused("ghcr.io", NOW)
    refusals.note(GHCR, NOW)
    refusals.note(replace(GHCR, audited=True, names=("quay.io",)), NOW)
    refusals.note(replace(CONTAINER, names=("a.example", "b.example")), NOW + 1)
    for name in ("ghcr.io", "a.example", "b.example"):
        assert refusals.was_refused(name, NOW + 1)
    for name in ("quay.io", "io", "", "bank.example"):
        assert not refusals.was_refused(name, NOW + 1)
    assert not refusals.was_refused("ghcr.io", NOW + JUST_NOW)
    refusals.note(GHCR, NOW + JUST_NOW)
    assert refusals.was_refused("ghcr.io", NOW + JUST_NOW)
