"""What status tells: facts where they are known, and every gap with what mends it."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from ramfw.core.catalog import shipped
from ramfw.core.engine import Engine
from ramfw.core.events import (
    Cgroup,
    CgroupsChanged,
    LinksChanged,
    NoCgroupMatch,
    PolicyLoaded,
    ServersChanged,
    WatchChanged,
)
from ramfw.core.leases import GRACE, LONGEST_STALE
from ramfw.core.name_check import NameCheck
from ramfw.core.names import REFRESH_AT
from ramfw.core.names_report import Beside
from ramfw.core.policy import ScopeName
from ramfw.core.probe import Outcome, Place, Probed
from ramfw.core.probing import Count as Asked
from ramfw.core.questions import Tally
from ramfw.core.registry_check import Evidence
from ramfw.core.report import report
from ramfw.core.tablestate import Count, Counts
from ramfw.core.watch_rules import WatchForm
from ramfw.errors import KernelError
from ramfw.wire import first_bytes
from tests.unit.core.driver import SERVER, Driver
from tests.unit.core.policies import policy

HUB, GHCR = "hub.example", "ghcr.example"
A, B = "192.0.2.10", "2001:db8::10"
NOTHING = Counts({}, {})


def started(body: str = "", *hosts: str) -> Driver:
    driver = Driver()
    driver.start(policy(body, *hosts))
    return driver


def told(driver: Driver, counts: Counts = NOTHING) -> dict[str, Any]:
    return report(driver.engine, counts, Tally(), driver.now)


def host(driver: Driver, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = told(driver)["entries"][number]["hosts"][0]
    return found


def problems(driver: Driver) -> dict[str, tuple[str, str]]:
    return {p["what"]: (p["follows"], p["mend"]) for p in told(driver)["problems"]}


def test_without_a_policy_there_is_nothing_to_report() -> None:
    with pytest.raises(ValueError, match="no policy was loaded"):
        report(
            Engine(lambda: 0.5, NameCheck(first_bytes.read, first_bytes.ended)),
            NOTHING,
            Tally(),
            0.0,
        )


def test_before_anything_was_observed_it_says_so() -> None:
    driver = Driver()
    driver.tell(PolicyLoaded(policy("", HUB)))
    found = told(driver)
    assert (found["in_force"], found["settled"], found["verified_ago"]) == (False, False, None)
    assert found["dns"] == {
        "servers": [],
        "upstream": [],
        "former": [],
        "problem": "the DNS servers are not known yet",
    }
    assert (found["watch"]["form"], found["watch"]["problem"]) == ("none", "not begun yet")
    assert found["links"] == {"bridges": [], "uplinks": [], "unfollowed": []}
    assert host(driver)["problem"] == "not asked for yet"


def test_a_name_from_its_first_answer_to_its_last() -> None:
    driver = started("", HUB)
    assert host(driver)["next_refresh_in"] is None, "it is being asked for"
    driver.answers(HUB, A, B, ttl=100)
    driver.now += 10
    seen = host(driver)
    assert seen["addresses"] == [
        {
            "address": address,
            "name": HUB,
            "expires_in": 90 + GRACE,
            "server": SERVER,
            "learned_ago": 10,
        }
        for address in (A, B)
    ]
    assert seen["next_refresh_in"] == pytest.approx(100 * REFRESH_AT * 0.95 - 10)
    assert (seen["last_good_ago"], seen["serving_stale_for"], seen["problem"]) == (10, None, "")
    driver.answers(HUB)
    seen = host(driver)
    assert seen["serving_stale_for"] == LONGEST_STALE - 10
    assert seen["problem"] == f"{SERVER}: servfail"
    driver.now += LONGEST_STALE
    assert host(driver)["serving_stale_for"] == 0
    assert host(driver)["next_refresh_in"] == 0, "it is overdue, and not in the past"


def test_a_name_that_no_server_was_asked_for_says_why() -> None:
    driver = started("", HUB)
    driver.tell(ServersChanged((), "resolv.conf names no server"))
    driver.answers(HUB)
    assert "servfail" in host(driver)["problem"]
    assert problems(driver)["resolv.conf names no server"][0] == "no name can be resolved"
    assert told(driver)["dns"]["problem"] == "resolv.conf names no server"
    assert told(driver)["dns"]["servers"] == []


def test_a_wildcard_shows_the_names_that_were_learned_each_with_its_addresses() -> None:
    driver = started('[[allow]]\nhost = "*.wild.example"')
    seen = host(driver)
    assert (seen["addresses"], seen["problem"]) == ([], "")
    assert (seen["next_refresh_in"], seen["last_good_ago"]) == (None, None)
    driver.hold("a.wild.example", A, ttl=100)
    driver.hold("b.c.wild.example", A, B, ttl=100, server="192.0.2.54")
    driver.hold("wild.example", "192.0.2.99")
    driver.now += 10
    assert [(a["name"], a["address"], a["server"]) for a in host(driver)["addresses"]] == [
        ("a.wild.example", A, SERVER),
        ("b.c.wild.example", A, "192.0.2.54"),
        ("b.c.wild.example", B, "192.0.2.54"),
    ]
    assert {(a["learned_ago"], a["expires_in"]) for a in host(driver)["addresses"]} == {
        (10, 90 + GRACE)
    }
    assert told(driver)["watch"]["answers_learned"] == 2


def test_where_answers_are_not_shown_a_wildcard_says_that_it_opens_nothing() -> None:
    driver = started('[[allow]]\nhost = "*.wild.example"')
    driver.tell(WatchChanged(WatchForm.NONE, "another program listens"))
    assert "opens nothing" in host(driver)["problem"]
    follows, mend = problems(driver)["another program listens"]
    assert "wildcards open nothing" in follows
    assert "nft_queue" in mend


@pytest.mark.parametrize(
    ("allowed", "watch", "held", "because"),
    [
        (HUB, WatchChanged(WatchForm.XT, tells_answers=True), "permitted", ""),
        (
            HUB,
            WatchChanged(WatchForm.XT, tells_problem="another program listens"),
            "all",
            "another program listens",
        ),
        (
            "*.t.co",
            WatchChanged(WatchForm.NATIVE, tells_answers=True),
            "all",
            "*.t.co is too short for the kernel to know it",
        ),
        (HUB, WatchChanged(WatchForm.COPY), "none", ""),
    ],
)
def test_which_answers_wait_and_why_all_of_them(
    allowed: str, watch: WatchChanged, held: str, because: str
) -> None:
    driver = started("", allowed)
    driver.tell(watch)
    found = told(driver)["watch"]
    assert (found["held"], found["held_because"]) == (held, because)


def test_where_answers_are_only_copied_it_says_what_that_costs() -> None:
    driver = started("", HUB)
    driver.tell(WatchChanged(WatchForm.COPY, "the kernel has no NFQUEUE"))
    assert "a second longer" in problems(driver)["the kernel has no NFQUEUE"][0]
    found = told(driver)["watch"]
    assert (found["form"], found["problem"]) == ("copy", "the kernel has no NFQUEUE")


def test_the_servers_behind_a_stub_are_told_apart_from_it() -> None:
    driver = started("", HUB)
    stub, upstream = ip_address("127.0.0.53"), ip_address("192.0.2.54")
    driver.tell(ServersChanged((stub,), upstream=(upstream,)))
    dns = told(driver)["dns"]
    assert (dns["servers"], dns["upstream"]) == (["127.0.0.53"], ["192.0.2.54"])


def test_servers_that_were_taken_out_a_moment_ago_are_told_apart() -> None:
    driver = started("", HUB)
    new, old = ip_address("192.0.2.55"), ip_address(SERVER)
    driver.tell(ServersChanged((new,), former=(old,)))
    dns = told(driver)["dns"]
    assert (dns["servers"], dns["former"]) == ([str(new)], [str(old)])


def test_counters_are_found_by_entry_and_scope_and_live_flows_by_their_mark() -> None:
    driver = started("[enforcement]\nmark_mask = 0x00ffff00", HUB, GHCR)
    counts = Counts(
        {
            "engines_refused": Count(3, 180),
            "containers_audited": Count(2, 120),
            "revoked": Count(1, 60),
        },
        {17: Count(9, 900), 17 << 8: Count(50, 5000)},
        connections={17: Count(7, 700)},
    )
    found = told(driver, counts)
    assert [(e["id"], e["connections"], e["bytes"]) for e in found["entries"]] == [
        (16, 0, 0),
        (17, 7, 5000),
    ]
    scopes = {scope["name"]: scope for scope in found["scopes"]}
    assert list(scopes) == ["engines", "containers", "host"]
    assert scopes["engines"]["refused"] == {"packets": 3, "bytes": 180}
    assert scopes["containers"]["audited"] == {"packets": 2, "bytes": 120}
    assert scopes["host"]["refused"] == {"packets": 0, "bytes": 0}
    assert found["revoked"] == {"packets": 1, "bytes": 60}


def test_each_scope_shows_what_it_covers() -> None:
    driver = started('[scopes.containers]\ninterfaces = ["docker0"]\nregistry_ports = [443, 5000]')
    engine, box = "system.slice/docker.service", "system.slice/docker-1.scope"
    driver.tell(
        CgroupsChanged(
            frozenset(
                {(Cgroup(engine, ScopeName.ENGINES), 1), (Cgroup(box, ScopeName.CONTAINERS), 2)}
            )
        )
    )
    engines, containers, hosts = told(driver)["scopes"]
    assert (engines["mode"], engines["cgroups"], engines["registry_ports"]) == (
        "strict",
        [engine],
        [],
    )
    assert (containers["cgroups"], containers["interfaces"]) == ([box], ["docker0"])
    assert containers["registry_ports"] == [443, 5000]
    assert (hosts["mode"], hosts["cgroups"]) == ("off", [])


def test_an_address_entry_shows_its_networks_and_scopes() -> None:
    driver = started('[[allow]]\naddress = "10.0.0.0/24"\nports = [514]\nscopes = ["engines"]')
    (entry,) = told(driver)["entries"]
    assert (entry["kind"], entry["networks"], entry["hosts"]) == ("address", ["10.0.0.0/24"], [])
    assert entry["scopes"] == ["engines"]


def test_in_force_is_told_with_when_it_was_seen() -> None:
    driver = started("", HUB)
    driver.now += 5
    found = told(driver)
    assert (found["in_force"], found["settled"], found["verified_ago"]) == (True, False, 5)
    driver.answers(HUB, A)
    assert told(driver)["settled"]


def test_a_kernel_that_refuses_is_a_problem_until_it_does_not() -> None:
    driver = started("", HUB)
    driver.kernel.failures += [KernelError(errno.ENOBUFS, "nft transaction") for _ in range(3)]
    driver.reload(policy("", HUB, GHCR))
    words = "the kernel refused the last change: nft transaction: No buffer space available"
    assert words in problems(driver)
    assert told(driver)["kernel"]["rejections"] == 2
    driver.sleep(10)
    assert words not in problems(driver)
    assert told(driver)["kernel"] == {
        "rejections": 3,
        "last_rejection": "nft transaction: No buffer space available",
        "mismatches": 0,
    }


def test_an_engine_s_cgroup_is_missed_until_there_is_one() -> None:
    driver = started("", HUB)
    missing = "no cgroup of an engine exists now"
    assert problems(driver)[missing][1] == "start the engine with Slice=engines.slice"
    driver.cgroups(("system.slice/docker-1.scope", 1), scope=ScopeName.CONTAINERS)
    assert missing in problems(driver)
    driver.cgroups(("system.slice/docker.service", 41))
    assert missing not in problems(driver)
    driver.tell(CgroupsChanged(frozenset(), "no cgroup v2 hierarchy is mounted"))
    assert missing not in problems(driver)
    assert "no cgroup v2 hierarchy is mounted" in problems(driver)


def test_an_engines_scope_that_is_off_misses_no_engine() -> None:
    driver = started('[scopes.engines]\nmode = "off"', HUB)
    assert "no cgroup of an engine exists now" not in problems(driver)
    assert "scopes that are off: engines, host" in problems(driver)


def test_what_is_not_enforced_is_said_with_what_mends_it() -> None:
    body = (
        '[enforcement]\nmode = "audit"\n[scopes.host]\nmode = "off"\n'
        '[[allow]]\nproxy = "proxy.example"'
    )
    driver = started(body)
    driver.tell(LinksChanged(frozenset(), frozenset({"br-lan"}), frozenset({"mv1", "mv0"})))
    found = problems(driver)
    assert "ramfw reload" in found["audit mode"][1]
    assert found["scopes that are off: host"][1] == 'mode = "strict" under [scopes.host]'
    assert "names are not checked: packets cannot be held here" in found
    assert "what is asked of a permitted proxy is not checked" in found
    assert "macvlan or ipvlan interfaces: mv0, mv1" in found
    assert all(follows and mend for follows, mend in found.values())


def test_a_quiet_machine_has_no_problems_but_the_one_of_this_version() -> None:
    driver = started('[scopes.host]\nmode = "strict"', HUB)
    driver.cgroups(("engines.slice", 1))
    driver.tell(ServersChanged((ip_address(SERVER),)))
    assert list(problems(driver)) == ["names are not checked: packets cannot be held here"]


def test_a_catalogue_that_cannot_be_used_is_a_problem_and_the_shipped_one_in_force() -> None:
    broken = replace(policy(), catalog=replace(shipped(), problem="/etc/c.toml: is no good"))
    driver = Driver()
    driver.start(broken)
    follows, mend = problems(driver)[
        "the organization's catalogue cannot be used: /etc/c.toml: is no good"
    ]
    assert "the one that ramfw ships is in force" in follows
    assert "ramfw reload" in mend
    assert told(driver)["catalog"] == {
        "edition": shipped().edition,
        "source": "shipped",
        "problem": "/etc/c.toml: is no good",
    }
    assert not any("catalogue" in what for what in problems(started()))


# -- registries that are found by asking -------------------------------------------------------


def asking(body: str = '[scopes.containers]\nunknown = "probe"') -> Driver:
    driver = started(body)
    driver.tell(WatchChanged(WatchForm.NATIVE, names=True))
    driver.reload(policy(body))
    return driver


PLACE = Place("registry.example", ip_address("203.0.113.9").packed, 443)


def test_a_registry_that_was_found_is_listed_and_no_problem() -> None:
    driver = asking()
    driver.tell(Probed(PLACE, Outcome.REGISTRY, Evidence.HEADER))
    driver.sleep(60)
    (found,) = told(driver)["names"]["probe"]["registries"]
    assert found == {
        "name": "registry.example",
        "address": "203.0.113.9",
        "port": 443,
        "ago": 60.0,
        "evidence": "its answer has the header Docker-Distribution-Api-Version",
        "everywhere": False,
    }
    assert not any("unknown hosts" in what for what in problems(driver))


def test_unknown_hosts_that_cannot_be_asked_are_a_problem_until_one_can() -> None:
    driver = asking()
    driver.tell(Probed(PLACE, Outcome.UNASKED, problem="nobody is there"))
    what = "unknown hosts are not asked: nobody is there"
    assert "systemctl start ramfw-prober.socket" in problems(driver)[what][1]
    driver.tell(Probed(PLACE, Outcome.OTHER))
    assert what not in problems(driver)
    driver.tell(Probed(PLACE, Outcome.UNASKED, problem="nobody is there"))
    driver.reload(policy(""))
    assert what not in problems(driver), "none is to be asked"


def test_a_kernel_without_cgroup_matches_asks_none_and_says_why() -> None:
    driver = asking()
    driver.tell(NoCgroupMatch())
    what = "unknown hosts are not asked: this kernel cannot tell sockets by cgroup"
    assert problems(driver)[what][1] == ""


def test_connections_that_passed_unasked_are_said_with_their_number() -> None:
    driver = asking()
    counts = driver.engine.name_check.probing.counts
    counts[Asked.UNASKED], counts[Asked.UNANSWERED] = 1234, 2
    what = "1,234 connections to unknown hosts passed unasked, 2 unanswered"
    assert problems(driver)[what][0] == "a registry may have been among them"


def test_where_nobody_is_told_why_it_says_so() -> None:
    driver = started("", HUB)
    absence = {"since_ago": 12.0, "until_ago": 2.0, "packets": 7}

    def telling(beside: Beside) -> tuple[Any, list[str]]:
        found = report(driver.engine, Counts({}, {}), Tally(), driver.now, beside=beside)
        words = [problem["what"] for problem in found["problems"]]
        return found["names"], [one for one in words if "refused by name" in one]

    beside = Beside(5, 4, "no such device", ("host (IPv6)",), (absence,))
    arrives = "answers to clients that are refused by name do not arrive: host (IPv6)"
    assert telling(beside)[1] == [arrives], "where no names are read, nobody is told anyway"
    driver.tell(WatchChanged(WatchForm.NATIVE, names=True))
    names, problems_told = telling(beside)
    assert problems_told[0].endswith("are only reset, not told why: no such device")
    assert names["absences"] == [absence]
    assert names["telling"] == {
        "told": 5, "heard": 4, "problem": "no such device", "unheard": ["host (IPv6)"],
    }  # fmt: skip
    assert telling(Beside())[1] == []


def test_where_what_is_turned_does_not_arrive_the_line_for_ufw_is_given() -> None:
    driver = started("", HUB)
    found = report(driver.engine, Counts({}, {}, frozenset({"docker0", "eth0"})), Tally(), 0.0)
    mends = {p["what"]: p["mend"] for p in found["problems"] if "do not arrive" in p["what"]}
    let_in = "let the host's own firewall take tcp port 307"
    turned = "connections that are turned to the explainer do not arrive"
    assert mends == {
        f"{turned} (docker0)": f"{let_in}: ufw allow in on docker0 to any port 307 proto tcp",
        f"{turned} (eth0)": let_in,
    }
