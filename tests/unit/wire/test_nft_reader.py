"""What nft lists reads back as what was written, and whatever somebody changed does not."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ramfw.core.reconcile import diff
from ramfw.core.ruleset import ACCEPT, Chain, FlagsMatch, Hook, Ruleset
from ramfw.wire.nft_reader import Foreign, ListingError, read
from tests.unit.wire.sample import SAMPLE, VERSIONS, listing

MEANT = SAMPLE.as_read()
SAME = ((), ())
WORDS = {version: list(re.finditer(r"\S+", listing(version))) for version in VERSIONS}
VOCABULARY = sorted(
    {word[0] for words in WORDS.values() for word in words}
    | {"!=", "==", "<", ">", "log", "accept", "drop", "return", "continue", "queue", "0", "1"}
    | {"timeout", "size", "comment", '"x"', "{", "}", "@other", "ip", "saddr", "meta", "mark"}
)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_written_reads_back_the_same(version: str) -> None:
    assert read(listing(version)) == MEANT


def read_with(before: str, after: str, version: str = "1.0.6") -> Ruleset:
    text = listing(version)
    assert text.count(before) >= 1, before
    return read(text.replace(before, after, 1))


def chain(ruleset: Ruleset, name: str) -> Chain:
    return next(chain for chain in ruleset.chains if chain.name == name)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ct direction reply accept", "accept\n\t\tct direction reply accept"),
        ("ct direction reply accept", "ct direction reply counter packets 0 bytes 0 accept"),
        ("ct direction reply accept", 'ct direction reply accept comment "as it was"'),
        ("ct direction reply accept", "ct direction original accept"),
        ("ct direction reply accept\n", ""),
        ("policy accept;", "policy drop;"),
        ("priority -150", "priority 150"),
        ("type filter hook output priority -150; policy accept;\n", ""),
        ("udp dport 443", "udp dport 444"),
        ("udp dport 443", "udp dport { 443, 444 }"),
        ("udp dport 443", "udp dport > 443"),
        ("tcp dport != @ports", "tcp dport @ports"),
        ("0x0000ffff == @live", "0x0000ffff != @live"),
        ("0x0000ffff != 0x00000000", "0x0000fffe != 0x00000000"),
        ("0x00100000/16", "0x00100000/17"),
        ("& 0xffff0010 | 0x00000010", "& 0xffff0010 | 0x00000011"),
        ("& 0xffff0010 | 0x00000010", "& 0x00000000 | 0x00000010"),
        ("socket cgroupv2 level 1", "socket cgroupv2 level 2"),
        ("map @permitted4", "map @ranges4"),
        ("vmap @entries", "vmap @others"),
        ("meta priority set none\n", "meta priority set 0:1\n"),
        ("meta priority set none\n", ""),
        ("0:10 : jump entry_16", "0:10 : jump empty"),
        ("0:10 : jump entry_16", "0:10 : accept"),
        ("ip daddr . meta", "ip saddr . meta"),
        ("!= syn / fin,syn,rst,ack", "!= syn / fin,syn,ack"),
        ("!= syn / fin,syn,rst,ack", "syn / fin,syn,rst,ack"),
        ("tcp flags != syn / fin,syn,rst,ack", "tcp flags & syn == syn"),
        ("reject with tcp reset", "reject"),
        ("icmpx admin-prohibited", "icmpx port-unreachable"),
        ('comment "d405', 'comment "e405'),
        (' comment "d405baec713bdf31 registry.example:8443"', ""),
        ('0:10 counter comment "d405', '0:11 counter comment "d405'),
        ('0:10 counter comment "d405', '0:10 counter : accept comment "d405'),
        ("meta priority @connections\n", ""),
        ("meta priority & 0:20 == 0:20", "meta priority & 0:20 == 0:21"),
        ("meta priority & 0:20 == 0:20", "meta priority & 0:20 == none"),
        ("meta priority & 0:20 == 0:20", "meta priority & 0:30 == 0:20"),
        ("meta priority & 0:20 == 0:20", "meta priority & 0:20 != 0:20"),
        ("meta priority & 0:20 == 0:20 ", ""),
        ("meta priority & 0:c000 == none", "meta priority & 0:c000 == 0:1"),
        ("set ct mark | 0x00000020", "set ct mark | 0x00000021"),
        ("set ct mark | 0x00000020", "set ct mark & 0xffffffdf"),
        ("set ct mark | 0x00000020", "set ct mark"),
        ("set ct mark | 0x00000020", "set ct mark ^ 0x00000020"),
        ("set ct mark & 0xffff3fff\n", "set ct mark & 0xffff7fff\n"),
        ("& 0xffff7fff | 0x00004000", "& 0xffffffff | 0x00004000"),
        ("meta mark & 0x0000ffff map @verdict_ids", "meta mark & 0x0000fffe map @verdict_ids"),
        ("meta mark & 0x0000ffff map @verdict_ids", "meta mark map @verdict_ids"),
        ("0x00000010 : 0:10", "0x00000011 : 0:10"),
        ("0x00000010 : 0:10", "0x00000010 : 0:11"),
        ("0x00000010 : 0:10", "0x00000010 : none"),
        ("type mark : classid", "type mark : classid\n\t\tflags timeout"),
        ("0xc0000000/2 drop", "0xc0000000/1 drop"),
        ("chain empty {", 'chain empty {\n\t\tcomment "of somebody"'),
        ("elements = { 80, 443 }", "elements = { 80, 443, 8080 }"),
        ("@th,160,64 & 0xdfdfdfdfdfdfdfdf == @names", "@th,160,64 & 0xdfdfdfdfdfdfdfff == @names"),
        ("@th,160,64 & 0xdfdfdfdfdfdfdfdf == @names", "@th,168,64 & 0xdfdfdfdfdfdfdfdf == @names"),
        ("@th,160,64 & 0xdfdfdfdfdfdfdfdf == @names", "@th,160,64 == @names"),
        ("@th,160,64 & 0xdfdfdfdfdfdfdfdf == @names", "@nh,160,64 & 0xdfdfdfdfdfdfdfdf == @names"),
        ("@th,176,8 0x0 accept", "@th,176,8 0x1 accept"),
        ("@th,176,8 0x0 accept", "@th,176,8 != 0x0 accept"),
        ("typeof @th,160,8\n", "typeof @th,160,16\n"),
        ("typeof ip saddr . tcp sport . tcp sequence", "typeof ip saddr . tcp sport . tcp ackseq"),
        ("typeof ip saddr . tcp sport . tcp sequence", "typeof ip saddr . tcp sport"),
        ("tcp sport . tcp sequence @turned4", "tcp sport . tcp sequence != @turned4"),
        ("elements = { 0x3, 0x3f }", "elements = { 0x3 }"),
        ("elements = { 0x3, 0x3f }", "elements = { 0x3, firsts }"),
        ('"engines.slice"', '"other.slice"'),
        ('"br-*"', '"br-*" comment "a, b"'),
        ("type mark", "type mark\n\t\tsize 65535"),
        ("flags timeout", "flags timeout\n\t\ttimeout 1s"),
        ("set ports {\n\t\ttype", "set ports {\n\t\ttypeof"),
        ("counter entry_16 {", "quota entry_16 {"),
        ("chain judge {", "chain judgment {"),
        ("table inet ramfw {", "table inet ramfw {\n\tflags dormant"),
        ("table inet ramfw {", "table inet ramfw {\n\tflags "),
        ("\tchain high {", '\tct helper sip {\n\t\ttype "sip" protocol udp\n\t}\n\tchain high {'),
        ("\tchain high {", "\tset more {\n\t\ttype mark\n\t}\n\tchain high {"),
    ],
)
def test_whatever_somebody_changes_is_a_difference(before: str, after: str) -> None:
    found = read_with(before, after)
    assert found != MEANT
    assert diff(MEANT, found) != SAME, "it would not be put right"


def test_a_table_that_was_put_to_sleep_is_told_and_made_anew() -> None:
    asleep = read_with("table inet ramfw {", "table inet ramfw {\n\tflags dormant")
    assert asleep == replace(MEANT, foreign=frozenset({"flags dormant"}))


def test_a_foreign_rule_keeps_its_words_and_harms_no_other() -> None:
    line = "ip saddr 192.0.2.1 counter packets 0 bytes 0 accept"
    rules = chain(read_with("ct direction reply accept", line), "judge_output").rules
    assert repr(rules[0]) == repr((Foreign(line),))
    assert rules[1:] == chain(MEANT, "judge_output").rules[1:]


def test_a_base_chain_of_another_type_is_not_taken_for_a_filter() -> None:
    frame = "type route hook output priority 0; policy accept;"
    text = f"table inet ramfw {{\n\tchain n {{\n\t\t{frame}\n\t}}\n}}"
    (found,) = read(text).chains
    assert found.hook is None
    assert type(found.rules[0][0]).__name__ == "Foreign"
    (filter_chain,) = read(text.replace("type route", "type filter")).chains
    assert filter_chain == Chain("n", (), Hook("output", 0))
    (nat_chain,) = read(text.replace("type route", "type nat")).chains
    assert nat_chain == Chain("n", (), Hook("output", 0, "nat"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("icmpx admin-prohibited", "icmpx type admin-prohibited"),
        ('oifname "lo"', "oifname lo"),
        ("== @live", "@live"),
        ("0x00000004 counter", "4 counter"),
        ("invalid,untracked", "untracked,invalid"),
        ("& 0xffff0010 | 0x00000010", "& 0xffff0000 | 0x00000010"),
        ("table inet ramfw {", 'table inet ramfw {\n\tcomment "ours"'),
        ("counter entry_16 {\n", "counter entry_16 {\n\t\tpackets 7 bytes 420\n"),
        ("0x00000004 counter", "0x00000004"),
    ],
)
def test_another_spelling_of_the_same_is_no_difference(before: str, after: str) -> None:
    assert read_with(before, after) == MEANT


@pytest.mark.parametrize(
    ("listed", "seconds"), [("3s", 3), ("1h", 3600), ("1h30m", 5400), ("1d1s", 86401)]
)
def test_a_set_s_time_is_listed_in_the_units_that_fit(listed: str, seconds: int) -> None:
    body = f"type ipv4_addr\n\t\tsize 64\n\t\tflags dynamic,timeout\n\t\ttimeout {listed}"
    (found,) = read(f"table inet ramfw {{\n\tset stubs4 {{\n\t\t{body}\n\t}}\n}}").sets
    assert (found.lifetime, found.size) == (seconds, 64)


def test_a_cgroup_that_is_gone_is_listed_by_its_number() -> None:
    found = read_with('"engines.slice"', "4711")
    (engines,) = (named for named in found.sets if named.name == "engines_1")
    assert {element.path for element in engines.elements or () if hasattr(element, "path")} == {
        "4711"
    }


def test_an_element_that_cannot_be_read_is_a_difference_even_where_none_is_meant() -> None:
    more = """table inet ramfw {
        set uplinks {
            type ifname
            elements = { "eth0" comment "mine, all mine" }
        }
    }"""
    found = read(listing("1.0.6") + more)
    assert found == replace(MEANT, foreign=frozenset({"elements of uplinks"}))


def test_a_comma_in_an_interface_s_name_parts_nothing() -> None:
    found = read_with('"d0"', '"d,0"')
    (bridges,) = (named for named in found.sets if named.name == "bridges")
    assert bridges.elements == frozenset({"br-*", "d,0"})


def test_no_table_s_listing_is_an_empty_ruleset() -> None:
    assert read("") == Ruleset((), (), frozenset())


@pytest.mark.parametrize(
    "cut", ["table inet ramfw {\n\tchain x {\n", "chain\n", "}{\n", "nonsense\n"]
)
def test_a_listing_that_is_cut_or_none_is_refused(cut: str) -> None:
    with pytest.raises(ListingError):
        read(cut)


@dataclass(frozen=True)
class Change:
    """One word of a listing, and what stands in its place."""

    version: str
    start: int
    word: str
    new: str

    @property
    def line(self) -> str:
        before, after = self._around
        return (before.rpartition("\n")[2] + self.word + after.partition("\n")[0]).strip()

    @property
    def text(self) -> str:
        return self.new.join(self._around)

    @property
    def _around(self) -> tuple[str, str]:
        text = listing(self.version)
        return text[: self.start], text[self.start + len(self.word) :]


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """A word put in the place of another, left out, or added."""
    version = draw(st.sampled_from(VERSIONS))
    word = draw(st.sampled_from(WORDS[version]))
    other = draw(st.sampled_from(VOCABULARY))
    new = draw(st.sampled_from([other, "", f"{word[0]} {other}"]))
    assume(new != word[0])
    return Change(version, word.start(), word[0], new)


@given(changes())
@settings(max_examples=1500)
def test_a_single_word_changed_anywhere_never_reads_as_what_was_meant(change: Change) -> None:
    assume(not means_the_same(change))
    try:
        found = read(change.text)
    except ListingError:
        return
    assert found != MEANT


def means_the_same(change: Change) -> bool:
    """The differences that the module names as none, as far as one word makes them."""
    word, new, line = change.word, change.new, change.line
    is_element = line.startswith(("elements", '"', "0x"))
    return (
        _plain(word) == _plain(new)
        or (is_element and _plain(word, "counter") == _plain(new, "counter"))
        or (is_element and word == "{" and new in {'{ "br-*",', "{ 80,"})
        or (is_element and new.split() == [word, word])
        or {word, new} in ({"0xffff0010", "0xffff0000"}, {"0x0010ffff", "0x0000ffff"})
        or (word, new) == ("icmpx", "icmpx type")
        or (line.startswith("ct state new tcp flags & (") and new == "fin,syn,rst,ack")
        or (line == "}" and new == "")
        or (line == "table inet ramfw {" and "comment" in new)
    )


def _plain(words: str, but: str = "==") -> str:
    """Without quotes, `==`, commas and blanks; numbers in one spelling."""
    bare = (word.strip('",') for word in words.split() if word.strip(",") not in {"==", but})
    return " ".join(str(int(word, 0)) if word.startswith("0x0000000") else word for word in bare)


@pytest.mark.parametrize(
    "words",
    [
        "tcp flags & (fin | syn | rst | ack) == syn | ack",  # 1.1.3
        "tcp flags & (fin|syn|rst|ack) == syn|ack",
        "tcp flags syn,ack / fin,syn,rst,ack",  # 1.0.6
    ],
)
def test_several_flags_are_read_as_either_version_writes_them(words: str) -> None:
    (found,) = read(f"table inet ramfw {{\n\tchain n {{\n\t\t{words} accept\n\t}}\n}}").chains
    both = FlagsMatch(frozenset({"fin", "syn", "rst", "ack"}), frozenset({"syn", "ack"}))
    assert found.rules == ((both, ACCEPT),)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_known_is_not_made_twice(version: str) -> None:
    text = listing(version)
    known = read(text)
    again = read(text.splitlines(keepends=True), known=known)
    assert again == known
    assert all(one is other for one, other in zip(again.chains, known.chains, strict=True))
    assert all(one is other for one, other in zip(again.sets, known.sets, strict=True))
    changed = read(text.replace("accept", "drop"), known=known)
    assert changed != known, "only what equals"
