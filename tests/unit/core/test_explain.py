"""Each answer of `explain`: which entry permits it, or why none does."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from ramfw.core.catalog import shipped
from ramfw.core.events import (
    Reason,
    Refusal,
    RefusalsSeen,
    Resolved,
    ServerReply,
    WatchChanged,
)
from ramfw.core.explain import explain, explain_policy
from ramfw.core.policy import Policy, ScopeName
from ramfw.core.policy_parser import parse
from ramfw.core.probe import Outcome, Place, Probed
from ramfw.core.registry_check import Evidence
from ramfw.core.watch_rules import WatchForm
from ramfw.render.explanation import explanation
from ramfw.render.text import Page
from tests.unit.core.driver import Driver
from tests.unit.example_engine import DNS, NOW, Running, example


def policy(text: str) -> Policy:
    return parse(f"version = 1\n{text}", "", shipped())[0]


def only(explanation: dict[str, Any]) -> dict[str, Any]:
    (host,) = explanation["hosts"]
    assert isinstance(host, dict)
    return host


HUB = policy('[[allow]]\nregistry = "docker.io"')
NOTHING = policy("")


@pytest.mark.parametrize(
    "image", ["alpine", "library/alpine:3", "docker.io/alpine", "registry-1.docker.io/org/x"]
)
def test_an_image_of_docker_hub_needs_all_its_hosts(image: str) -> None:
    found = explain_policy(HUB, image)
    assert found["kind"] == "image"
    assert found["registry"] == "docker.io"
    assert found["permitted"]
    assert found["hint"] == ""
    roles = {host["host"]: host["role"] for host in found["hosts"]}
    assert roles["registry-1.docker.io"] == "api"
    assert roles["auth.docker.io"] == "auth"
    assert roles["production.cloudfront.docker.com"] == "blobs"
    assert all(host["entry"] == "docker.io" for host in found["hosts"])


def test_what_is_on_a_cdn_and_what_is_off_the_vendors_list_is_said() -> None:
    found = explain_policy(HUB, "alpine")
    hosts = {host["host"]: host for host in found["hosts"]}
    assert "off the vendor's list" in hosts["production.cloudflare.docker.com"]["needed"]
    assert any("CloudFront" in note for note in found["notes"])


def test_a_refused_image_names_the_lines_that_would_permit_it() -> None:
    found = explain_policy(NOTHING, "alpine")
    assert not found["permitted"]
    reasons = {host["reason"] for host in found["hosts"]}
    assert reasons == {
        "no [[allow]] names it: refused to engines, containers and host",
        "no [[allow]] names it: refused to engines",
    }, "only the api is told by name"
    assert explain_policy(policy(found["hint"]), "alpine")["permitted"]


@pytest.mark.parametrize(
    "query",
    [
        "ghcr.io/org/image", "ghcr.io", "nexus.corp.example", "nexus.corp.example:8443/x",
        "192.0.2.10", "192.0.2.10:5000/x", "2001:db8::1", "localhost:5000/image", "127.0.0.1",
    ],
)  # fmt: skip
def test_the_lines_that_are_named_permit_what_was_asked(query: str) -> None:
    refused = explain_policy(NOTHING, query)
    assert not refused["permitted"]
    assert explain_policy(policy(refused["hint"]), query)["permitted"]


def test_a_registry_with_placeholders_is_read_from_its_hosts_name() -> None:
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1"
    refused = explain_policy(NOTHING, image)
    assert refused["registry"] == "ecr"
    assert refused["hint"].splitlines()[1:] == [
        'registry = "ecr"', 'account = "123456789012"', 'region = "eu-west-1"',
    ]  # fmt: skip
    mine = policy(refused["hint"])
    assert explain_policy(mine, image)["permitted"]
    # Another account shares the bucket and the sign-in, and is refused by its api.
    other = explain_policy(mine, image.replace("123456789012", "123456789013"))
    assert not other["permitted"]
    assert {host["permitted"] for host in other["hosts"]} == {True, False}


def test_an_image_has_the_hosts_roles_and_verdicts_of_its_registry() -> None:
    microsoft = policy('[[allow]]\nregistry = "mcr.microsoft.com"')
    found = explain_policy(microsoft, "mcr.microsoft.com/dotnet/sdk:8.0")
    roles = {host["host"]: (host["role"], host["permitted"]) for host in found["hosts"]}
    assert roles == {
        "mcr.microsoft.com": ("api", True),
        "*.data.mcr.microsoft.com": ("blobs", True),
    }
    assert found["permitted"]


def test_one_of_several_apis_is_the_one_that_counts() -> None:
    europe = policy('[[allow]]\nregistry = "gcr.io"\nexclude = ["us.gcr.io"]')
    assert explain_policy(europe, "eu.gcr.io/project/app")["permitted"]
    assert not explain_policy(europe, "us.gcr.io/project/app")["permitted"]


def test_what_an_entry_includes_is_shown_with_the_registry() -> None:
    def hosts(text: str) -> set[str]:
        return {host["host"] for host in explain_policy(policy(text), "quay.io/org/x")["hosts"]}

    plain = '[[allow]]\nregistry = "quay.io"'
    assert hosts(f'{plain}\ninclude = ["*.quay.io"]') - hosts(plain) == {"*.quay.io"}


def test_a_registry_of_ones_own_has_its_bucket() -> None:
    harbor = policy(
        '[[allow]]\nregistry = "harbor"\nhost = "harbor.corp.example"\n'
        'storage = "layers.s3.eu-west-1.amazonaws.com"'
    )
    found = explain_policy(harbor, "harbor.corp.example/team/app:1")
    assert found["permitted"]
    assert [host["role"] for host in found["hosts"]] == ["api", "blobs"]


def test_a_registry_that_cannot_be_permitted_says_why_and_has_no_lines() -> None:
    found = explain_policy(NOTHING, "docker.scarf.sh/org/app")
    assert found["hint"] == ""
    assert any("any publisher of Scarf chooses" in note for note in found["notes"])


def test_the_api_host_alone_is_not_enough_for_a_pull() -> None:
    alone = policy('[[allow]]\nhost = "registry-1.docker.io"')
    assert not explain_policy(alone, "alpine")["permitted"]
    assert explain_policy(alone, "registry-1.docker.io")["permitted"]


def test_the_layers_without_the_api_are_not_enough_either() -> None:
    alone = policy('[[allow]]\nhost = "pkg-containers.githubusercontent.com"')
    assert not explain_policy(alone, "ghcr.io/org/image")["permitted"]


def test_one_host_of_the_layers_is_enough_and_the_others_are_named() -> None:
    some = policy(
        '[[allow]]\nhost = "registry-1.docker.io"\n[[allow]]\nhost = "auth.docker.io"\n'
        '[[allow]]\nhost = "production.cloudfront.docker.com"'
    )
    found = explain_policy(some, "alpine")
    assert found["permitted"]
    assert any("production.cloudflare.docker.com" in note for note in found["notes"])


def test_another_port_than_the_policys() -> None:
    nexus = policy('[[allow]]\nhost = "nexus.corp.example"\nports = [8443]')
    image = only(explain_policy(nexus, "nexus.corp.example/x"))
    assert not image["permitted"]
    assert image["port"] == 443
    assert image["reason"].startswith("the policy permits it on port 8443, not on 443: refused")
    host = only(explain_policy(nexus, "nexus.corp.example"))
    assert (host["port"], host["permitted"]) == (8443, True)


def test_a_name_without_a_dot_is_the_policys_host_or_else_an_image() -> None:
    nexus = policy('[[allow]]\nhost = "nexus"\nports = [5000]')
    assert explain_policy(nexus, "nexus:5000")["kind"] == "host"
    assert explain_policy(nexus, "nexus")["permitted"]
    assert explain_policy(NOTHING, "nexus:5000")["kind"] == "image"


def test_a_wildcard_permits_what_is_below_it_and_nothing_else() -> None:
    wild = policy('[[allow]]\nhost = "*.corp.example"')
    found = only(explain_policy(wild, "nexus.corp.example"))
    assert found["permitted"]
    assert found["reason"] == "permitted by `*.corp.example`"
    assert not only(explain_policy(wild, "corp.example"))["permitted"]


def test_an_entry_for_engines_only() -> None:
    entry = '[[allow]]\nhost = "nexus.corp.example"\nscopes = ["engines"]'
    strict = policy(f'{entry}\n[scopes.containers]\nmode = "strict"')
    found = only(explain_policy(strict, "nexus.corp.example"))
    assert found["permitted"]
    assert found["scopes"] == ["engines"]
    assert found["reason"] == "permitted by `nexus.corp.example` for engines; refused to containers"
    found = only(explain_policy(policy(entry), "nexus.corp.example"))
    by_name = "permitted by `nexus.corp.example` for engines; not judged for containers and host"
    assert found["reason"] == by_name


def test_a_host_on_which_nothing_is_known_passes_where_only_registries_are_refused() -> None:
    found = only(explain_policy(NOTHING, "www.corp.example"))
    assert found["reason"] == "no [[allow]] names it: refused to engines"
    wary = policy('[scopes.containers]\nunknown = "refuse"')
    found = only(explain_policy(wary, "www.corp.example"))
    assert found["reason"] == "no [[allow]] names it: refused to engines and containers"


def test_a_registry_that_was_found_by_asking_is_refused_to_those_scopes_that_ask() -> None:
    asking = policy('[scopes.containers]\nunknown = "probe"')
    driver = Driver()
    driver.start(asking)
    driver.tell(WatchChanged(WatchForm.NATIVE, names=True))
    driver.reload(asking)
    place = Place("registry.example", ip_address("203.0.113.9").packed, 443)
    before = explain(driver.engine, "registry.example:443", driver.now)
    assert only(before)["reason"] == "no [[allow]] names it: refused to engines"
    assert any("is asked at its first connection" in note for note in before["notes"])

    driver.tell(Probed(place, Outcome.REGISTRY, Evidence.HEADER))

    reason = only(explain(driver.engine, "registry.example:443", driver.now))["reason"]
    assert reason == (
        "no [[allow]] names it, and it was found to be a registry (registry.example at "
        "203.0.113.9:443 was asked: its answer has the header Docker-Distribution-Api-Version; "
        "it is refused there alone): refused to engines and containers"
    )
    driver.answers("registry.example", "203.0.113.9")
    reason = only(explain(driver.engine, "registry.example:443", driver.now))["reason"]
    assert "there alone" not in reason
    nameless = Place("", ip_address("2001:db8::9").packed, 443)
    driver.tell(Probed(nameless, Outcome.REGISTRY, Evidence.EMPTY))
    reason = only(explain(driver.engine, "2001:db8::9", driver.now))["reason"]
    assert "it was found to be a registry ([2001:db8::9]:443 was asked" in reason
    assert reason.endswith("refused to engines and containers")


def test_an_entry_that_counts_only_for_a_scope_that_is_off_permits_nothing() -> None:
    off = '[scopes.host]\nmode = "off"'
    some = policy(f'[[allow]]\nhost = "nexus.corp.example"\nscopes = ["host"]\n{off}')
    found = only(explain_policy(some, "nexus.corp.example"))
    assert not found["permitted"]
    assert "counts only for host, which is off" in found["reason"]


def test_containers_are_judged_on_registry_ports_only() -> None:
    found = only(explain_policy(NOTHING, "db.corp.example:5432"))
    assert found["reason"] == "no [[allow]] names it: refused to engines"
    off = policy('[scopes.engines]\nmode = "off"')
    found = only(explain_policy(off, "db.corp.example:5432"))
    assert found["reason"] == "no [[allow]] names it: no scope judges it, and it passes"


def test_containers_reach_this_machine_itself_unjudged() -> None:
    reason = only(explain_policy(NOTHING, "127.0.0.1:5000"))["reason"]
    assert reason.endswith(": refused to engines")


def test_an_answer_with_no_usable_address_is_not_called_a_failure() -> None:
    running = Running()
    reply = ServerReply(DNS, "ok, AAAA timeout")
    running.tell(Resolved("gone.corp.example", (), (reply,)))
    reason = only(explain(running.engine, "gone.corp.example", NOW))["reason"]
    assert "no server gave an address that may be used" in reason


def test_audit_mode_says_that_it_passes() -> None:
    found = explain_policy(policy('[enforcement]\nmode = "audit"'), "ghcr.io/x")
    reason = "audit mode lets it pass, and counts it for engines"
    assert all(reason in host["reason"] for host in found["hosts"])
    assert any("audit mode" in note for note in found["notes"])


def test_a_permitted_proxy_is_named_as_the_other_way() -> None:
    proxy = policy('[[allow]]\nproxy = "proxy.corp.example"')
    notes = explain_policy(proxy, "ghcr.io")["notes"]
    assert any("proxy.corp.example:3128" in note for note in notes)


@pytest.mark.parametrize("address", ["169.254.169.254", "224.0.0.1", "fe80::1"])
def test_what_can_never_be_permitted_has_no_lines_for_it(address: str) -> None:
    found = explain_policy(NOTHING, address)
    assert not found["permitted"]
    assert found["hint"] == ""
    assert "no name opens" in only(found)["reason"]


def test_this_machine_itself_is_known_without_dns() -> None:
    local = policy('[[allow]]\naddress = "127.0.0.1"\nports = [5000]')
    found = explain_policy(local, "localhost:5000/image")
    assert found["permitted"]
    verdicts = {host["host"]: host["permitted"] for host in found["hosts"]}
    assert verdicts == {"127.0.0.1": True, "::1": False}


def test_without_the_daemon_it_says_what_that_means() -> None:
    found = explain_policy(HUB, "alpine")
    assert not found["daemon_running"]
    assert "nothing new is permitted" in found["notes"][0]
    assert all(host["addresses"] == [] for host in found["hosts"])


def test_the_engine_tells_what_a_name_resolves_to() -> None:
    found = explain(example().engine, "ghcr.io/org/image", NOW + 1)
    host = found["hosts"][0]
    assert found["daemon_running"]
    assert [a["address"] for a in host["addresses"]] == [
        "203.0.113.1", "203.0.113.2", "203.0.113.3", "2001:db8::1",
    ]  # fmt: skip
    assert host["addresses"][0]["expires_in"] == 329.0
    assert host["addresses"][0]["server"] == DNS


def test_a_permitted_name_that_did_not_resolve_says_who_failed() -> None:
    running = example()
    reason = only(explain(running.engine, "gone.corp.example", NOW))["reason"]
    assert f"no address now ({DNS}: timeout)" in reason
    fresh = Running()
    reason = only(explain(fresh.engine, "gone.corp.example", NOW))["reason"]
    assert "not known yet" in reason


def test_an_address_is_explained_by_the_name_that_it_belongs_to() -> None:
    engine = example().engine
    found = explain(engine, "203.0.113.9", NOW)
    host = only(found)
    assert found["permitted"]
    assert host["host"] == "pkg-containers.githubusercontent.com"
    assert host["entry"] == "ghcr.io"
    assert [a["address"] for a in host["addresses"]] == ["203.0.113.9"]
    assert not explain(engine, "203.0.113.9:5000", NOW)["permitted"]
    stranger = only(explain(engine, "203.0.113.77", NOW))
    assert "no permitted name has it" in stranger["reason"]


def test_an_address_of_a_range_of_the_policy() -> None:
    host = only(explain(example().engine, "198.51.100.7", NOW))
    assert (host["host"], host["port"], host["protocol"]) == ("198.51.100.0/24", 514, "udp")
    assert host["scopes"] == ["engines"]
    assert host["addresses"] == [{"address": "198.51.100.7", "expires_in": None, "server": ""}]


def test_a_trusted_dns_server_is_open_to_everyone() -> None:
    found = explain(example().engine, DNS, NOW)
    assert {(h["port"], h["protocol"], h["permitted"]) for h in found["hosts"]} == {
        (53, "tcp", True),
        (53, "udp", True),
    }


def test_rules_that_are_not_in_force_are_said() -> None:
    running = example()
    running.engine.health.verified_at = None
    assert any("not in force" in note for note in explain(running.engine, "alpine", NOW)["notes"])


def test_what_is_no_name_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="URL"):
        explain(example().engine, "https://ghcr.io", NOW)


def refused(name: str, uid: int | None = None) -> Refusal:
    return Refusal(
        scope=ScopeName.HOST,
        reason=Reason.NOT_A_BEGINNING,
        audited=False,
        source=ip_address("192.0.2.1"),
        source_port=40_000,
        destination=ip_address("203.0.113.77"),
        port=443,
        protocol="tcp",
        uid=uid,
        names=(name,) if name else (),
        detail="the name is not permitted",
    )


def test_what_was_refused_there_is_told_with_its_reason_to_whom_it_concerns() -> None:
    running = example()
    for number in range(5):
        running.tell(RefusalsSeen((refused("quay.io", 1000 + number),)), NOW + number)
    running.tell(RefusalsSeen((refused("other.example"), refused(""))), NOW + 5)
    engine, now = running.engine, NOW + 6

    found = explain(engine, "quay.io/org/image", now)["refused"]
    assert [(one["uid"], one["last_ago"]) for one in found] == [(1004, 2), (1003, 3), (1002, 4)]
    assert {one["reason"] for one in found} == {"the name is not permitted"}
    assert [one["uid"] for one in explain(engine, "quay.io", now, 1001)["refused"]] == [1001]
    assert explain(engine, "ghcr.io", now)["refused"] == []
    (by_address,) = explain(engine, "203.0.113.77", now)["refused"]
    assert by_address["names"] == []
    assert explain_policy(HUB, "quay.io")["refused"] == []
    said = " ".join(" ".join(explanation(explain(engine, "quay.io", now), Page(80))).split())
    assert "Refused there lately: 2 s ago refused host (uid 1004) to quay.io at" in said
