"""Which name a refused address was asked for: what was answered, never what was guessed."""

from __future__ import annotations

from ipaddress import ip_address

import dns.message
import dns.rrset

from ramfw.core.questions import PATIENCE
from ramfw.observe.given_names import (
    KEPT_FOR,
    MOST_KEPT,
    MOST_NAMES,
    SENT_ON_WITHIN,
    GivenNames,
    Known,
)
from ramfw.wire.dns_message import question

CLIENT, OTHER, SERVER = (ip_address(f"192.0.2.{n}") for n in (2, 3, 53))
ADDRESS = ip_address("203.0.113.20")
NOW = 1000.0


class Asking:
    def __init__(self) -> None:
        self.given = GivenNames()
        self.ident = 0

    def ask(
        self,
        name: str,
        *addresses: str,
        client: object = CLIENT,
        is_asked: bool = True,
        now: float = NOW,
        kind: str = "A",
    ) -> None:
        """A question and its answer pass by."""
        self.ident += 1
        query = dns.message.make_query(name, kind, id=self.ident)
        answer = dns.message.make_response(query)
        answer.answer.append(dns.rrset.from_text(f"{name}.", 300, "IN", kind, *addresses))
        payload = answer.to_wire()
        asked = question(payload)
        assert asked is not None
        packed = client.packed  # type: ignore[attr-defined]
        was = (packed, 40_000, SERVER.packed, 17, asked.id, asked.name, asked.type)
        if is_asked:
            self.given.note_question(was, now)
        self.given.note_answer(was, asked, payload)
        self.given.check(now)

    def known(self, now: float, *, here: bool = False) -> Known:
        return self.given.known(ADDRESS, CLIENT, now, here=here)


def test_the_name_that_was_answered_with_the_address_is_told() -> None:
    asking = Asking()
    asking.ask("other.example", "203.0.113.21")
    asking.ask("ghcr.io", "203.0.113.19", "203.0.113.20")
    assert asking.given.of(ADDRESS, CLIENT, NOW) == ("ghcr.io",)
    assert asking.given.of(ip_address("203.0.113.22"), CLIENT, NOW) == ()


def test_ipv6_too() -> None:
    asking = Asking()
    asking.ask("ghcr.io", "2001:db8:f::20", kind="AAAA")
    assert asking.given.of(ip_address("2001:db8:f::20"), CLIENT, NOW) == ("ghcr.io",)


def test_an_answer_to_no_question_tells_nothing() -> None:
    asking = Asking()
    asking.ask("forged.example", "203.0.113.20", is_asked=False)
    assert asking.given.of(ADDRESS, CLIENT, NOW) == ()


def test_what_the_client_itself_asked_for_counts_before_what_others_did() -> None:
    asking = Asking()
    asking.ask("theirs.example", "203.0.113.20", client=OTHER)
    assert asking.given.of(ADDRESS, CLIENT, NOW) == ("theirs.example",)
    asking.ask("mine.example", "203.0.113.20")
    asking.ask("theirs-too.example", "203.0.113.20", client=OTHER)
    assert asking.given.of(ADDRESS, CLIENT, NOW) == ("mine.example",)


def test_where_several_names_share_the_address_all_are_told_the_latest_first() -> None:
    asking = Asking()
    for number in range(MOST_NAMES + 2):
        asking.ask(f"n{number}.example", "203.0.113.20")
    told = asking.given.of(ADDRESS, CLIENT, NOW)
    assert told == tuple(f"n{n}.example" for n in range(MOST_NAMES + 1, 1, -1))


def test_after_a_while_nothing_is_known_any_more() -> None:
    asking = Asking()
    asking.ask("ghcr.io", "203.0.113.20")
    assert asking.given.of(ADDRESS, CLIENT, NOW + KEPT_FOR - 1)
    assert asking.given.of(ADDRESS, CLIENT, NOW + KEPT_FOR) == ()


def test_an_answer_that_comes_too_late_tells_nothing() -> None:
    asking = Asking()
    asking.ask("ghcr.io", "203.0.113.20", is_asked=False)
    assert not asking.given.of(ADDRESS, CLIENT, NOW + PATIENCE)


def test_a_permitted_name_just_before_is_told_for_who_may_have_been_sent_on() -> None:
    asking = Asking()
    asking.ask("blobs.example", "203.0.113.20")
    assert asking.known(NOW) == Known(("blobs.example",), "")
    asking.given.note_permitted(OTHER.packed, "theirs.example", NOW)
    assert asking.known(NOW).after == ""
    asking.given.note_permitted(CLIENT.packed, "hub.example", NOW)
    asking.given.note_permitted(CLIENT.packed, "auth.example", NOW + 1)
    assert asking.known(NOW + 1 + SENT_ON_WITHIN).after == "auth.example"
    assert asking.known(NOW + 1.1 + SENT_ON_WITHIN).after == ""
    # Where the refused name is not known, nobody can say that it was sent there.
    unknown = ip_address("203.0.113.99")
    assert asking.given.known(unknown, CLIENT, NOW + 1, here=False) == Known()


def test_this_host_may_ask_from_another_of_its_addresses() -> None:
    asking = Asking()
    asking.ask("blobs.example", "203.0.113.20", client=ip_address("127.0.0.1"))
    asking.given.note_permitted(ip_address("127.0.0.1").packed, "hub.example", NOW)
    asking.given.note_permitted(OTHER.packed, "theirs.example", NOW)
    assert asking.known(NOW).after == "hub.example"
    assert asking.known(NOW, here=True) == Known(("blobs.example",), "theirs.example")


def test_who_connects_by_ipv6_may_have_asked_by_ipv4() -> None:
    """And an engine's own server asks in a container's place."""
    address, client = ip_address("2001:db8::20"), ip_address("2001:db8::2")
    asking = Asking()
    asking.given.note_permitted(CLIENT.packed, "hub.example", NOW)
    asking.ask("blobs.example", str(address), kind="AAAA")
    told = asking.given.known(address, client, NOW, here=False)
    assert told == Known(("blobs.example",), "hub.example")


def test_only_so_many_are_kept() -> None:
    asking = Asking()
    asking.ask("first.example", "203.0.113.20")
    for number in range(MOST_KEPT):
        asking.ask(f"n{number}.example", "203.0.113.21")
    assert asking.given.of(ADDRESS, CLIENT, NOW) == ()
    assert len(asking.given._given) == MOST_KEPT


def test_bytes_that_look_like_the_address_elsewhere_in_a_message_are_none() -> None:
    asking = Asking()
    # The address's four bytes stand in the name, not among the answer's addresses.
    asking.ask("x.example", "203.0.113.99")
    payload = asking.given._given[0].payload
    assert ADDRESS.packed not in payload
    assert asking.given.of(ip_address(payload[2:6]), CLIENT, NOW) == ()
