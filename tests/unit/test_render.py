"""What people read: nothing is lost at any width, and nothing colours a file."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.explain import explain, explain_policy
from ramfw.render.explanation import explanation
from ramfw.render.findings import doctor, problems, summary
from ramfw.render.status import missing, status
from ramfw.render.text import Page, clean, listed, number, size, span
from tests.unit.core.policies import policy
from tests.unit.example_engine import NOW, example, example_status

ESCAPE = "\x1b"


def text(lines: list[str]) -> str:
    return "\n".join(lines)


def words(lines: list[str]) -> str:
    """All words in order, however they were broken into lines."""
    return " ".join(text(lines).split())


# -- the means ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0 s"), (0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (200, "3 min 20 s"),
        (3600, "1 h"), (11_520, "3 h 12 min"), (86_400, "1 d"), (100_000, "1 d 3 h"),
    ],
)  # fmt: skip
def test_a_time_is_shown_in_two_units(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1500, "1.5 kB"), (12_000, "12 kB"),
        (999_499, "999 kB"), (999_500, "1.0 MB"), (3_210_000_000, "3.2 GB"), (10**16, "10000 TB"),
    ],
)  # fmt: skip
def test_bytes_are_shown_as_people_read_them(count: int, shown: str) -> None:
    assert size(count) == shown


def test_counts_and_lists_read_as_sentences() -> None:
    assert number(0, "packet") == "no packets"
    assert number(1, "address", "addresses") == "1 address"
    assert number(1234, "packet") == "1,234 packets"
    assert [listed([]), listed("a"), listed("ab"), listed("abc")] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_a_line_from_elsewhere_cannot_move_the_cursor() -> None:
    assert clean("timeout\n\x1b[2J\u202eevil") == "timeout ?[2J?evil"
    assert ESCAPE not in text(Page(80).wrap("a\x1b[31m b"))


@given(
    st.lists(st.from_regex(r"[a-z0-9.:/-]{1,90}", fullmatch=True)), st.integers(40, 160),
    st.integers(0, 8),
)  # fmt: skip
def test_no_item_is_ever_cut_and_only_a_long_one_overflows(
    items: list[str], width: int, indent: int
) -> None:
    lines = Page(width).items(items, indent)
    assert [
        item for line in lines for item in line.strip().rstrip(",").split(", ") if item
    ] == items
    assert all(len(line) <= width + 1 or "," not in line.strip()[:-1] for line in lines)


def test_a_table_wraps_its_last_column_under_itself() -> None:
    lines = Page(40).table([("NAME", "WHAT"), ("one", "some words that need a second line")])
    assert lines == [
        "NAME  WHAT",
        "one   some words that need a second line",
    ]
    lines = Page(40).table([("NAME", "WHAT"), ("one", "some words that will need a second line")])
    assert lines[1:] == ["one   some words that will need a second", "      line"]


# -- status ------------------------------------------------------------------------------------


EXAMPLE = """\
ramfw enforces the policy of Example Corp
in force, read back from the kernel 1 s ago
  policy       /etc/ramfw/policy.toml
  contact      https://it.example.com/registries
  trusted DNS  192.0.2.53
  DNS watch    answers held (nft queue)
  table        locked: nobody else can change it
  names        read in each connection's first bytes: 40 permitted, 7 passed, 1
               refused
  daemon       ramfw 0.1.0, pid 4242, up 3 h 12 min

SCOPE       MODE    REFUSED     WHO
engines     strict  12 packets  system.slice/docker.service
containers  strict  nothing     docker0, br-*, docker_gwbridge, podman*, cni*,
                                nerdctl*; port 80, 443, 5000
host        off     -           left alone

PERMITTED
  ghcr.io  1,234 connections, 3.2 GB
    ghcr.io                     api, 4 addresses, asked again in 3 min 32 s
      203.0.113.1, 203.0.113.2, 203.0.113.3, and 1 more
    pkg-containers.githubusercontent.com
      blobs, 2 addresses, asked again in 3 min 32 s
      203.0.113.9, 203.0.113.10
  nexus.corp.example:8443  no connections; 1 address, asked again now
      203.0.113.30
      192.0.2.53: timeout; the last good answer, 4 min 11 s old, serves on for
      55 min 49 s at most
  gone.corp.example  no connections; no addresses, asked again now
      192.0.2.53: timeout
  *.wild.example  no connections; 5 names learned, 9 addresses
      images.eu.wild.example: 203.0.113.50, 203.0.113.51, 203.0.113.52, and 2
        more (192.0.2.54, 4 s ago)
      r3.wild.example: 203.0.113.43 (192.0.2.53, 13 s ago)
      r2.wild.example: 203.0.113.42 (192.0.2.53, 1 min 11 s ago)
      and 2 more names
  198.51.100.0/24:514/udp  no connections; for engines only

Cut off after a registry was taken out: 3 packets.

REFUSED LAST
  3 s ago  refused host (uid 1000) to quay.io at 203.0.113.77 port 443/tcp: not
           permitted
  5 s ago  refused containers (172.17.0.2) to quay.io at 203.0.113.77 port
           443/tcp: not permitted, 2 times in 1 min 1 s

LATELY REFUSED BY NAME
  other.example at 203.0.113.9:443, engines, 4 s ago: the name is not permitted

REGISTRIES FOUND BY ASKING, AND REFUSED
  registry.example at [2001:db8::30]:443, 1 min 1 s ago: its answer has the
    header Docker-Distribution-Api-Version; refused there"""


def test_the_status_of_a_running_engine_at_80_columns() -> None:
    lines = status(example_status(), Page(80))
    assert max(map(len, lines)) <= 80
    assert text(lines).partition("\n\nNOT ENFORCED")[0] == EXAMPLE


def test_all_that_is_not_enforced_is_said_with_what_follows_and_what_mends() -> None:
    facts = example_status()
    shown = words(status(facts, Page(80)))
    assert facts["problems"]
    for problem in facts["problems"]:
        assert problem["what"] in shown
        assert f"so: {problem['follows']}" in shown
        assert f"do: {problem['mend']}" in shown


@pytest.mark.parametrize("width", [40, 80, 100, 160, 300])
def test_every_name_is_whole_at_every_width(width: int) -> None:
    facts = example_status()
    shown = text(status(facts, Page(width)))
    for entry in facts["entries"]:
        assert entry["label"] in shown
        assert all(host["name"] in shown for host in entry["hosts"])
    assert all(cgroup in shown for scope in facts["scopes"] for cgroup in scope["cgroups"])


def test_a_wide_page_has_every_address_and_a_narrow_one_says_how_many_more() -> None:
    facts = example_status()
    assert "2001:db8::1" in text(status(facts, Page(160)))
    narrow = text(status(facts, Page(80)))
    assert "2001:db8::1" not in narrow
    assert "203.0.113.3, and 1 more" in narrow


def test_names_under_a_wildcard_are_bounded_at_every_width() -> None:
    facts = example_status()
    wide = text(status(facts, Page(160)))
    assert all(f"r{number}.wild.example: " in wide for number in range(1, 5))
    assert "203.0.113.54 (192.0.2.54, 4 s ago)" in wide
    (wildcard,) = (h for e in facts["entries"] for h in e["hosts"] if h["name"][0] == "*")
    (one, *_) = wildcard["addresses"]
    wildcard["addresses"] = [{**one, "name": f"n{n}.wild.example"} for n in range(20_000)]
    lines = status(facts, Page(160))
    assert "20,000 names learned" in text(lines)
    assert "and 19,980 more names" in text(lines)
    assert len(lines) < 80


def test_colour_is_only_where_there_is_colour_and_changes_no_word() -> None:
    plain = status(example_status(), Page(80))
    painted = status(example_status(), Page(80, color=True))
    assert ESCAPE not in text(plain)
    assert ESCAPE in text(painted)
    assert re.sub(r"\x1b\[[0-9;]*m", "", text(painted)) == text(plain)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mode": "audit"}, "only watches"),
        ({"in_force": False}, "does not enforce the policy of Example Corp as it is meant"),
        ({"in_force": False,
          "kernel": {"rejections": 1, "last_rejection": "EPERM", "mismatches": 0}},
         "the kernel refused them: EPERM"),
        ({"watch": {"form": "xt", "problem": "", "held": "permitted"}},
         "DNS watch answers held (xt NFQUEUE) table"),
        ({"watch": {"form": "xt", "problem": "", "held": "all",
                    "held_because": "t.co is too short"}},
         "DNS watch answers held (xt NFQUEUE): all of them, for t.co is too short"),
        ({"watch": {"form": "copy", "problem": "no NFQUEUE", "held": "none"}},
         "DNS watch answers copied, not held (NFLOG): no NFQUEUE"),
        ({"watch": {"form": "none", "problem": "another program listens", "held": "none"}},
         "DNS watch none: another program listens"),
        ({"dns": {"servers": ["127.0.0.53"], "upstream": ["192.0.2.54"], "former": [],
                  "problem": ""}},
         "trusted DNS 127.0.0.53, and behind it 192.0.2.54"),
        ({"dns": {"servers": ["192.0.2.54"], "upstream": [], "former": ["192.0.2.55"],
                  "problem": ""}},
         "trusted DNS 192.0.2.54; for a moment still 192.0.2.55"),
        ({"settled": False}, "addresses are still being learned"),
        ({"organization": {"name": "", "contact": ""}}, "ramfw enforces its policy"),
        ({"entries": []}, "Nothing is permitted: the policy has no [[allow]]."),
        ({"kernel": {"rejections": 0, "last_rejection": "", "mismatches": 2}},
         "Somebody changed ramfw's table 2 times"),
        ({"links": {"bridges": [], "uplinks": ["br-wan"], "unfollowed": []}},
         "because they lead out: br-wan"),
        ({"policy_problems": ["p:3: allow: bad\n    hint"]},
         "The policy file was refused; the last good one stays in force: p:3: allow: bad hint"),
    ],
)  # fmt: skip
def test_what_is_out_of_the_ordinary_is_said(change: dict[str, Any], expected: str) -> None:
    ordinary = words(status(example_status(), Page(80)))
    assert expected not in ordinary
    assert expected in words(status({**example_status(), **change}, Page(80)))


def test_audited_packets_are_not_called_refused() -> None:
    facts = example_status()
    facts["scopes"][0]["refused"]["packets"] = 0
    facts["scopes"][0]["audited"]["packets"] = 7
    assert "7 would be" in text(status(facts, Page(80)))


def test_what_is_missing_before_it_is_settled() -> None:
    facts = example_status()
    assert missing(facts) == ["without an address: gone.corp.example (192.0.2.53: timeout)"]
    assert missing({**facts, "in_force": False})[0] == "the rules are not in force yet"
    lost = {**facts, "dns": {"servers": [], "problem": "resolv.conf names no server"}}
    assert "resolv.conf names no server" in missing(lost)
    assert "still on their way" in missing({**facts, "entries": []})[0]


# -- the other commands ------------------------------------------------------------------------


def test_a_permitted_image_with_its_addresses_and_how_long_they_count() -> None:
    shown = text(explanation(explain(example().engine, "ghcr.io/x/y:1", NOW), Page(80)))
    assert shown.startswith("ghcr.io/x/y:1 is permitted (an image of ghcr.io: x/y)\n")
    assert "  + ghcr.io:443 (api: pull and push; tokens included)\n" in shown
    assert "203.0.113.1 (5 min 30 s), " in shown


def test_a_refused_image_says_one_reason_once_and_the_lines_to_copy() -> None:
    strict = "".join(f'[scopes.{scope}]\nmode = "strict"\n' for scope in ("containers", "host"))
    lines = explanation(explain_policy(policy(strict), "alpine"), Page(80))
    assert text(lines).count("no [[allow]] names it") == 1
    assert "  - registry-1.docker.io:443 (api: pull and push)" in lines
    assert lines[lines.index("    [[allow]]") + 1] == '    registry = "docker.io"'
    assert "nothing new is permitted" in words(lines)


def test_a_problem_of_a_policy_has_its_place_and_a_hint_that_can_be_copied() -> None:
    problem = {
        "source": "policy.toml", "line": 9, "key": "allow[1].hots",
        "message": "unknown key " + "and more words " * 8, "hint": "host = " + "x" * 100,
    }  # fmt: skip
    assert problems([problem], Page(80), "error") == [
        f"policy.toml:9: error: allow[1].hots: {problem['message']}",
        "    host = " + "x" * 100,
    ]
    assert problems([{**problem, "line": 0, "key": "", "hint": ""}], Page(80), "error")[
        0
    ].startswith("policy.toml: error: unknown key")


def test_the_summary_of_a_good_policy() -> None:
    facts = {
        "source": "p.toml", "organization": "", "mode": "audit", "entries": 1, "hosts": 2,
        "networks": 0, "scopes": {"engines": "strict", "host": "off"},
    }  # fmt: skip
    assert words(summary(facts, Page(80))) == (
        "p.toml: the policy is good It has 1 entry, 2 hosts, no addresses or ranges; in audit "
        "mode: nothing is refused. Scopes: engines strict and host off."
    )


def test_the_doctor_says_last_what_is_missing() -> None:
    found = [
        {"fact": "no cgroups", "state": "missing", "follows": "nothing works", "mend": "mount it"},
        {"fact": "a kernel", "state": "ok", "follows": "", "mend": ""},
        {"fact": "an old one", "state": "note", "follows": "it is slow", "mend": ""},
    ]
    assert doctor(found, Page(80)) == [
        "ok       a kernel",
        "note     an old one",
        "           so: it is slow",
        "MISSING  no cgroups",
        "           so: nothing works",
        "           do: mount it",
    ]
