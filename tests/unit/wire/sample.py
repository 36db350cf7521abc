"""One ruleset with a rule of each form that ramfw writes, and how each nft lists it."""

from __future__ import annotations

from pathlib import Path

from ramfw.core.permitted import KEY4
from ramfw.core.reconcile import diff
from ramfw.core.ruleset import (
    ACCEPT,
    DROP,
    IDS,
    VERDICTS,
    CgroupElement,
    Chain,
    Count,
    Dispatch,
    Field,
    FlagsMatch,
    Hook,
    InSet,
    Jump,
    MarkedId,
    Masked,
    Match,
    NamedSet,
    NumberedElement,
    RawPayload,
    Reject,
    Remember,
    Ruleset,
    SetMark,
    SetRef,
    SocketCgroup,
    Tag,
    Untag,
    Verdict,
    goto,
    jump,
)
from ramfw.wire.nft_writer import write

LISTINGS = Path(__file__).parent / "listings"
VERSIONS = ("1.0.6", "1.1.3")

BIT, ENDS = Masked(Field.PRIORITY, 0x20), Masked(Field.PRIORITY, 0xC000)
LOW, HIGH = Masked(Field.CT_MARK, 0x0000FFFF), Masked(Field.CT_MARK, 0xFFFF0000)
NAME, LATER = RawPayload(160, 64, 0xDFDFDFDFDFDFDFDF), RawPayload(176, 64, 0xDFDFDFDFDFDFDFDF)
TURNED = (Field.IP_SADDR, Field.TCP_SPORT, Field.TCP_SEQUENCE)
FLAGS = frozenset({"fin", "syn", "rst", "ack"})

SAMPLE = Ruleset(
    chains=(
        Chain(
            "permit",
            (
                (Match(Field.PRIORITY, SetRef("connections")),),
                (SetMark(0xFFFF0000, 0xC000),),
                (Match(BIT, 0x20), SetMark(0xFFFFFFDF, 0x20)),
                (Match(ENDS, 0), SetMark(0xFFFF3FFF, 0)),
                (Match(ENDS, 0x4000), SetMark(0xFFFF3FFF, 0x4000)),
            ),
        ),
        Chain(
            "permit_named",
            (
                (Tag((Masked(Field.META_MARK, 0x0000FFFF),), "verdict_ids"),),
                (Match(Field.PRIORITY, "none", negated=True), jump("permit")),
            ),
        ),
        Chain("entry_16", ((Count("entry_16"), SetMark(0xFFFF0000, 0x10)),)),
        Chain(
            "tell",
            (
                (Match(NAME, SetRef("names")), goto("empty")),
                (Match(RawPayload(176, 8), SetRef("firsts")), Match(LATER, SetRef("names")), DROP),
                (Match(RawPayload(176, 8), 0), ACCEPT),
            ),
        ),
        Chain(
            "remember",
            ((InSet(TURNED, "turned4"), DROP), (Remember(TURNED, "turned4"), ACCEPT)),
        ),
        Chain(
            "high",
            (
                (SetMark(0x0000FFFF, 0x00100000),),
                (Match(HIGH, 0x00100000), ACCEPT),
                (Match(Masked(Field.CT_MARK, 0xC0000000), 0xC0000000), DROP),
            ),
        ),
        Chain(
            "judge",
            (
                (Match(Field.L4PROTO, "icmp"), ACCEPT),
                (Match(Field.L4PROTO, "tcp", negated=True), Verdict("return")),
                (Match(Field.OIFNAME, SetRef("bridges")), ACCEPT),
                (Match(Field.IIFNAME, SetRef("uplinks"), negated=True), jump("refusal")),
                (Match(Field.OIFNAME, "lo"), ACCEPT),
                (Match(Field.CT_STATE, frozenset({"invalid", "untracked"})), DROP),
                (Match(Field.UDP_DPORT, 443), goto("refusal")),
                (Match(Field.TCP_DPORT, SetRef("ports"), negated=True), ACCEPT),
                (
                    Match(Field.CT_STATE, frozenset({"new"})),
                    FlagsMatch(FLAGS, frozenset({"syn"}), negated=True),
                    goto("refusal"),
                ),
                (Untag(),),
                (Tag((Field.IP_DADDR, Field.L4PROTO, Field.TH_DPORT), "ranges4"),),
                (Tag((Field.IP_DADDR, Field.L4PROTO, Field.TH_DPORT), "permitted4"),),
                (Dispatch("entries"),),
                (Match(LOW, 0, negated=True), goto("refusal")),
            ),
        ),
        Chain(
            "judge_output",
            (
                (Match(Field.CT_DIRECTION, "reply"), ACCEPT),
                (Match(LOW, SetRef("live")), ACCEPT),
                (Match(SocketCgroup(1), SetRef("engines_1")), goto("judge")),
            ),
            Hook("output", -150),
        ),
        Chain(
            "refusal",
            (
                (Match(Field.L4PROTO, "tcp"), Reject("tcp reset")),
                (Reject("icmpx admin-prohibited"),),
            ),
        ),
        Chain("empty", ()),
    ),
    sets=(
        NamedSet(
            "bridges", ("ifname",), frozenset({"interval"}), elements=frozenset({"br-*", "d0"})
        ),
        NamedSet(
            "engines_1", ("cgroupsv2",), elements=frozenset({CgroupElement("engines.slice", 1, 7)})
        ),
        NamedSet("live", ("mark",), counted=True, elements=frozenset({4, 16})),
        NamedSet(
            "entries",
            ("classid",),
            data=VERDICTS,
            elements=frozenset({Jump(4, "empty"), Jump(16, "entry_16")}),
        ),
        NamedSet(
            "connections",
            ("classid",),
            counted=True,
            elements=frozenset(
                {
                    NumberedElement(4, "resolvers trusted DNS servers"),
                    NumberedElement(16, "d405baec713bdf31 registry.example:8443"),
                }
            ),
        ),
        NamedSet("verdict_ids", ("mark",), data=IDS, elements=frozenset({MarkedId(16, 16)})),
        NamedSet("names", ("@th,160,64",), elements=frozenset({0x044748435202494F, 0x1F << 56})),
        NamedSet("firsts", ("@th,160,8",), elements=frozenset({3, 63})),
        NamedSet("permitted4", KEY4, frozenset({"timeout"}), data=IDS),
        NamedSet("ports", ("inet_service",), elements=frozenset({80, 443})),
        NamedSet("ranges4", KEY4, frozenset({"interval", "timeout"}), data=IDS),
        NamedSet(
            "turned4",
            TURNED,
            frozenset({"dynamic", "timeout"}),
            lifetime=3,
            size=16384,
        ),
        NamedSet("uplinks", ("ifname",), elements=frozenset()),
    ),
    counters=frozenset({"entry_16"}),
)


def listing(version: str) -> str:
    """What that nft prints: `nft -t -s -y list table`, then each set but those of grants."""
    return (LISTINGS / f"nft-{version}.txt").read_text()


if __name__ == "__main__":
    print(write(diff(SAMPLE, None)[0]), end="")  # noqa: T201 - to be given to another nft
