"""What was refused, and how it is told: by `ramfw log`, in `status`, in the journal's lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.addresses import CDN_BAD, CDN_GOOD, GHCR, HUB, HUB_AUTH, HUB_BLOBS
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import DOCKER_IO, GHCR_IO, REGISTRIES, STRICT, policy
from tests.lab.space import wait_until

POLICY = policy(DOCKER_IO, host=STRICT)


def refusals(host: Host) -> list[dict[str, Any]]:
    """What `ramfw log` knows, the latest last."""
    said = host.ramfw("log", "--json")
    assert said.ok, said.output
    found: list[dict[str, Any]] = json.loads(said.output)["refusals"]
    return found


def refusals_in(host: Host, scope: str) -> list[dict[str, Any]]:
    return [refusal for refusal in refusals(host) if refusal["scope"] == scope]


def test_an_engines_refused_pull_is_logged_once_with_the_name_that_was_asked_for(
    host: Host, internet: Internet
) -> None:
    host.start_ramfw(POLICY)
    host.start_explainer()
    assert host.pull("app:1").ok
    assert refusals(host) == []
    assert not host.pull("ghcr.io/corp/app:1").ok
    found = refusals_in(host, "engines")
    assert {refusal["address"] for refusal in found} <= set(GHCR.addresses)
    for refusal in found:
        assert refusal["names"] == ["ghcr.io"]
        assert (refusal["port"], refusal["protocol"]) == (443, "tcp")
        assert refusal["reason"] == "not permitted"
        assert (refusal["uid"], refusal["cgroup"]) == (0, host.engine_cgroup_id())
        assert not refusal["audited"]
        assert refusal["last_ago"] < 30
    assert internet.packets(GHCR) == 0
    # Again: the same refusals, counted on.
    before = {refusal["address"]: refusal["count"] for refusal in found}
    assert not host.pull("ghcr.io/corp/app:1").ok
    after = {refusal["address"]: refusal["count"] for refusal in refusals_in(host, "engines")}
    assert sum(after.values()) > sum(before.values())
    assert host.daemon is not None
    lines = [line for line in host.daemon.output.splitlines() if line.startswith("refused: ")]
    assert lines
    assert "engines (uid 0) to ghcr.io at " in lines[0]
    assert len(lines) <= 2


def test_a_container_is_told_by_its_address_and_by_the_name_that_the_caller_may_know(
    host: Host,
) -> None:
    host.start_ramfw(POLICY)
    host.start_explainer()
    container = host.container("--name", "builder", command=("sleep", "60"))
    container.curl("https://ghcr.io/v2/", "-4")
    (refusal,) = refusals_in(host, "containers")
    assert refusal["source"] == container.address
    assert refusal["uid"] is refusal["cgroup"] is None
    assert refusal["names"] == ["ghcr.io"]
    assert refusal["container"] == ""
    named = host.ramfw("log", env={"DOCKER_HOST": host.docker_url})
    said = " ".join(named.output.split())
    assert f"container builder ({container.address}) to ghcr.io at {GHCR.v4} port" in said


def test_a_connection_that_is_refused_by_its_name_is_logged_too(
    host: Host,
) -> None:
    """In mode `registries` the first bytes decide, when the connection has its server already."""
    host.start_ramfw(policy(DOCKER_IO, containers=REGISTRIES))
    container = host.container(command=("sleep", "60"))
    assert not container.curl("https://ghcr.io/v2/", "-4", "-k").ok
    (refusal,) = refusals_in(host, "containers")
    assert (refusal["names"], refusal["address"]) == (["ghcr.io"], GHCR.v4)
    assert refusal["reason"] == "the name is a registry's that is not permitted"


def test_an_engine_s_refusal_by_name_is_an_event_like_others(host: Host) -> None:
    """Once for each connection, with whose it was, and the reason; `explain` has it too."""
    host.start_ramfw(policy(DOCKER_IO, f'host = "{CDN_GOOD.name}"'))
    host.set_hosts({CDN_BAD.name: CDN_GOOD.v4})
    refused = host.curl(f"https://{CDN_BAD.name}/v2/", as_engine=True)
    assert refused.refused
    (event,) = refusals(host)
    assert (event["scope"], event["names"]) == ("engines", [CDN_BAD.name])
    assert (event["address"], event["port"]) == (CDN_GOOD.v4, 443)
    assert (event["uid"], event["cgroup"]) == (0, host.engine_cgroup_id())
    assert (event["reason"], event["count"]) == ("the name is not permitted", 1)
    (latest,) = host.status()["refusals"]
    assert latest["reason"] == event["reason"]
    explained = json.loads(host.ramfw("explain", "--json", CDN_BAD.name).output)["refused"]
    assert [one["number"] for one in explained] == [event["number"]]


def test_what_is_asked_by_address_has_no_name(host: Host) -> None:
    host.start_ramfw(POLICY)
    container = host.container(command=("sleep", "60"))
    container.curl(f"https://{GHCR.v4}/v2/", "-k")
    (refusal,) = refusals_in(host, "containers")
    assert refusal["names"] == []
    assert refusal["address"] == GHCR.v4


def test_a_permitted_name_at_a_strange_address_is_not_guessed(host: Host) -> None:
    host.start_ramfw(POLICY)
    host.set_hosts({HUB.name: GHCR.v4})
    host.curl(f"https://{HUB.name}/v2/", "-k")
    (refusal,) = refusals_in(host, "host")
    assert (refusal["names"], refusal["address"]) == ([], GHCR.v4)


def test_in_audit_mode_it_says_what_would_have_been_refused(host: Host) -> None:
    host.start_ramfw(policy(DOCKER_IO, more='[enforcement]\nmode = "audit"\n'))
    assert host.pull("ghcr.io/corp/app:1").ok
    found = refusals_in(host, "engines")
    assert found
    assert all(refusal["audited"] for refusal in found)
    assert "would be refused" in host.ramfw("log").output


def test_a_registry_that_is_taken_out_is_told_as_taken_out(host: Host, internet: Internet) -> None:
    host.start_ramfw(policy(DOCKER_IO, GHCR_IO))
    internet.limit_downloads(1000)
    download = host.start_download("docker.io/library/slow:1")
    assert host.reload(policy(GHCR_IO)).ok
    download.wait_for(r"after \d+ bytes")
    (first, *_) = [refusal for refusal in refusals(host) if refusal["scope"] == ""]
    assert first["reason"] == "what permitted it was taken out of the policy"


def test_a_blob_host_that_moved_is_told_with_the_line_that_permits_it(
    host: Host, internet: Internet
) -> None:
    """The registry sends its clients on to a host that the policy does not name."""
    moved = policy(f'host = "{HUB.name}"', f'host = "{HUB_AUTH.name}"', host=STRICT)
    host.start_ramfw(moved)
    host.start_explainer()
    assert not host.pull("app:1").ok
    found = refusals_in(host, "engines")
    assert {refusal["names"][0] for refusal in found} == {HUB_BLOBS.name}
    assert found[-1]["after"] in {HUB.name, HUB_AUTH.name}
    assert found[-1]["hint"] == f'[[allow]]\nhost = "{HUB_BLOBS.name}"'
    assert f'host = "{HUB_BLOBS.name}"' in host.ramfw("log").output
    # A registry of its own is none that anybody was sent to.
    assert not host.pull("ghcr.io/corp/app:1").ok
    others = [r for r in refusals_in(host, "engines") if r["names"] == ["ghcr.io"]]
    assert others
    assert all(refusal["hint"] == "" for refusal in others)
    assert internet.packets(GHCR) == 0


def test_a_blob_host_on_an_address_that_others_may_use_is_told_so_too(
    host: Host, internet: Internet
) -> None:
    """As on a CDN: the address is open, and the name in the first bytes is refused."""
    internet.set_name(HUB_BLOBS.name, *HUB.addresses)
    host.start_ramfw(policy(f'host = "{HUB.name}"', f'host = "{HUB_AUTH.name}"'))
    assert not host.pull("app:1").ok
    found = refusals_in(host, "engines")
    assert {refusal["names"][0] for refusal in found} == {HUB_BLOBS.name}
    assert {refusal["reason"] for refusal in found} == {"the name is not permitted"}
    assert found[-1]["after"] in {HUB.name, HUB_AUTH.name}
    assert found[-1]["hint"] == f'[[allow]]\nhost = "{HUB_BLOBS.name}"'
    internet.set_name(HUB_BLOBS.name, *HUB_BLOBS.addresses)


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("network", ["bridge", "own"])
def test_a_container_that_is_sent_on_is_told_so_too(
    host: Host, internet: Internet, family: str, network: str
) -> None:
    """By either family, whether it asks the server itself or the engine does so in its place."""
    for site in (HUB, HUB_AUTH, HUB_BLOBS):
        internet.set_name(site.name, getattr(site, family))
    if network == "own":
        made = ("network", "create", "--ipv6", "--subnet", "2001:db8:e::/64", "own")
        assert host.docker(*made).ok
    host.start_ramfw(policy(f'host = "{HUB.name}"', f'host = "{HUB_AUTH.name}"'))
    container = host.container("--network", network, command=("sleep", "60"))
    copy = ("skopeo", "copy", "--insecure-policy", "docker://docker.io/library/app:1", "dir:/app")
    assert not container.run(*copy).ok
    found = refusals_in(host, "containers")
    assert {refusal["names"][0] for refusal in found} == {HUB_BLOBS.name}
    assert {refusal["address"] for refusal in found} == {getattr(HUB_BLOBS, family)}
    assert found[-1]["after"] in {HUB.name, HUB_AUTH.name}
    assert found[-1]["hint"] == f'[[allow]]\nhost = "{HUB_BLOBS.name}"'
    # With the line that was given, the same copy succeeds.
    lines = (f'host = "{site.name}"' for site in (HUB, HUB_AUTH, HUB_BLOBS))
    assert host.reload(policy(*lines)).ok
    assert container.run(*copy).ok
    for site in (HUB, HUB_AUTH, HUB_BLOBS):
        internet.set_name(site.name, *site.addresses)


def test_status_has_the_latest_and_another_user_sees_only_what_is_theirs(host: Host) -> None:
    host.start_ramfw(POLICY)
    host.curl("https://ghcr.io/v2/", "-4")
    theirs = host.run(
        *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
        *("curl", "-sS", "--max-time", "5", "-6", "https://ghcr.io/v2/"),
    )
    assert not theirs.ok
    (latest, *_) = host.status()["refusals"][::-1]
    assert (latest["uid"], latest["address"]) == (65534, GHCR.v6)
    assert len(refusals_in(host, "host")) == 2
    seen = host.ramfw("log", "--json", as_nobody=True)
    (only,) = json.loads(seen.output)["refusals"]
    assert only["uid"] == 65534
    assert "REFUSED LAST" in host.ramfw("status").output


def test_followed_each_refusal_is_told_as_it_comes(host: Host) -> None:
    host.start_ramfw(POLICY)
    following = host.start_command("log", "--follow", "--json")
    host.curl("https://ghcr.io/v2/", "-4")
    following.wait_for("ghcr.io")
    (line, *_) = [line for line in following.output.splitlines() if line.startswith("{")]
    assert json.loads(line)["names"] == ["ghcr.io"]
    following.stop()


def test_only_what_was_refused_since_then_is_told_if_that_is_asked(host: Host) -> None:
    host.start_ramfw(POLICY)
    host.curl("https://ghcr.io/v2/", "-4")
    wait_until(lambda: refusals(host)[0]["last_ago"] > 5, 10, "a refusal that is five seconds old")
    host.curl(f"https://{CDN_BAD.name}/v2/", "-4")

    def names_since(time: str) -> list[str]:
        said = host.ramfw("log", "--json", "--since", time)
        return [name for one in json.loads(said.output)["refusals"] for name in one["names"]]

    assert names_since("5s") == [CDN_BAD.name]
    assert names_since("1m") == ["ghcr.io", CDN_BAD.name]
    told = host.ramfw("log", "--since", "5s").output
    assert CDN_BAD.name in told
    assert "ghcr.io" not in told
    wrong = host.ramfw("log", "--since", "yesterday")
    assert wrong.code == 2
    assert "90s, 10m, 2h or 1d" in " ".join(wrong.output.split())


def test_a_flood_is_bounded_and_leaves_the_daemon_well(host: Host) -> None:
    host.start_ramfw(POLICY)
    container = host.container(command=("sleep", "60"))
    flood = container.start_sender(*(f"tcp/203.0.113.{n}/443" for n in range(20, 90)))
    wait_until(lambda: host.counted("refused")["containers"] > 300, 20, "a flood of refusals")
    flood.stop()
    assert host.status()["in_force"]
    found = refusals_in(host, "containers")
    assert 10 < len(found) <= 70
    assert host.daemon is not None
    told = [line for line in host.daemon.output.splitlines() if line.startswith("refused: ")]
    assert len(told) <= 130
