"""Refusals that explain themselves: what a refused client prints, at once, whoever it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.addresses import CDN_BAD, GHCR, GHCR_V6_ONLY, HOST, HUB, LOGS, NEXUS, PROXY
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.lab import Lab
from tests.lab.policies import DOCKER_IO, GHCR_IO, STRICT, policy
from tests.lab.refused import (
    A_SYN_LATER,
    MESSAGE,
    NOT_CONNECTED,
    SOON,
    about,
    ask,
    assert_not_told_but_at_once,
)
from tests.lab.sender import PYTHON
from tests.lab.space import wait_until

POLICY = policy(DOCKER_IO, host=STRICT)
QUIC = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(5)
    client.connect((sys.argv[1], 443))
    try:
        client.send(b"hello")
        client.recv(1)
    except OSError as error:
        print("OSError", error)
"""


@pytest.fixture
def explained(host: Host) -> Host:
    host.start_ramfw(POLICY)
    host.start_explainer()
    return host


# -- what people see ---------------------------------------------------------------------------


def test_docker_pull_prints_why_with_nothing_installed_in_it(
    explained: Host, internet: Internet
) -> None:
    """The name in the certificate is the message; docker finds it wrong, and prints it."""
    refused = explained.pull("ghcr.io/corp/app:1")
    assert not refused.ok
    assert f"certificate is valid for {MESSAGE}, not ghcr.io" in refused.output
    assert refused.seconds < SOON
    assert internet.packets(GHCR) == 0
    assert explained.pull("app:1").ok


def test_once_it_is_permitted_the_registry_itself_answers(
    explained: Host, internet: Internet
) -> None:
    assert not explained.pull("ghcr.io/corp/app:1").ok
    assert explained.reload(policy(DOCKER_IO, GHCR_IO, host=STRICT)).ok
    assert explained.pull("ghcr.io/corp/app:1").ok
    assert internet.packets(GHCR, 443) > 0


@pytest.mark.parametrize("family", ["--ipv4", "--ipv6"])
def test_from_the_host_and_from_a_container_over_both_families(
    explained: Host, internet: Internet, family: str
) -> None:
    container = explained.container(command=("sleep", "60"))
    for client in (explained, container):
        refused = ask(client, "https://ghcr.io/v2/", family, "-k")
        (error,) = json.loads(refused.output.partition("\n")[0])["errors"]
        assert (error["code"], error["message"]) == ("DENIED", MESSAGE)
        assert refused.seconds < SOON
        permitted = ask(client, "https://registry-1.docker.io/v2/", family)
        assert "UNAUTHORIZED" in permitted.output
    assert internet.packets(GHCR) == 0


def test_in_plain_http_and_on_every_port_that_is_judged(explained: Host) -> None:
    container = explained.container(command=("sleep", "60"))
    for url in ("http://ghcr.io/v2/", "http://ghcr.io:5000/v2/"):
        assert MESSAGE in ask(container, url).output
    page = ask(container, "http://ghcr.io/", "-H", "Accept: text/html").output
    assert "<h1>This registry cannot be used here</h1>" in page
    assert MESSAGE in page


def test_a_name_with_an_address_that_nobody_trusted_gave_is_told_with_the_address(
    explained: Host,
) -> None:
    explained.set_hosts({HUB.name: GHCR.v4})
    refused = ask(explained, f"https://{HUB.name}/v2/", "-k")
    assert about(f"{HUB.name} at {GHCR.v4} port 443") in refused.output


@pytest.mark.parametrize("port", [443, 5000])
def test_a_bare_address_is_told_with_its_port(
    explained: Host, internet: Internet, port: int
) -> None:
    """Go prints no name where an address is wrong; so it is right, and who signed it is told."""
    container = explained.container(command=("sleep", "60"))
    # docker 20.10 and the others know no image on an IPv6 address.
    image = f"{GHCR.v4}:{port}/corp/app:1"
    inspect = ("skopeo", "inspect", "--insecure-policy", f"docker://{image}")
    pulls = (explained.pull(image), explained.run(*inspect), container.run(*inspect))
    for refused in pulls:
        assert not refused.ok
        assert about(f"{GHCR.v4} port {port}") in refused.output
        assert refused.seconds < SOON
    for address, host in ((GHCR.v4, GHCR.v4), (GHCR.v6, f"[{GHCR.v6}]")):
        for client in (explained, container):
            refused = ask(client, f"https://{host}:{port}/v2/", "-k")
            assert about(f"{address} port {port}") in refused.output
            assert refused.seconds < SOON
            assert not ask(client, f"https://{host}:{port}/v2/").ok
    assert internet.packets(GHCR) == 0
    # Once it is permitted the registry itself answers there.
    written = [f'address = "{a}"\nports = [{port}]\nnames = false' for a in GHCR.addresses]
    assert explained.reload(policy(DOCKER_IO, *written, host=STRICT)).ok
    for host in (GHCR.v4, f"[{GHCR.v6}]"):
        assert MESSAGE not in ask(container, f"https://{host}:{port}/v2/", "-k").output
        assert ask(container, f"https://{host}:{port}/v2/", "-k").ok
    assert internet.packets(GHCR, port) > 0


def test_a_client_that_waits_to_be_greeted_is_refused_within_a_second(explained: Host) -> None:
    refused = explained.as_engine("busybox", "nc", GHCR.v4, "22")
    assert refused.seconds < SOON
    assert "not found" not in refused.output


# -- with the organization's authority ---------------------------------------------------------


def test_with_an_authority_the_error_is_the_registrys_own(host: Host, internet: Internet) -> None:
    host.start_ramfw(policy(DOCKER_IO, more=host.authority(), host=STRICT))
    host.start_explainer(with_signer=True)
    refused = host.pull("ghcr.io/corp/app:1")
    assert f"denied: {MESSAGE}" in refused.output
    assert "x509" not in refused.output
    assert refused.seconds < SOON
    # curl checks the certificate here.
    assert MESSAGE in ask(host, "https://ghcr.io/v2/").output
    assert internet.packets(GHCR) == 0
    # A permitted name is never signed for, whatever address it is asked at.
    host.set_hosts({HUB.name: GHCR.v4})
    forged = ask(host, f"https://{HUB.name}/v2/")
    assert not forged.ok
    assert "self-signed certificate" in forged.output
    # When the signer is gone, the message is in the certificate again.
    assert host.signer is not None
    host.signer.stop()
    host.set_hosts({})
    assert "certificate is valid for Access to v6.ghcr.example" in (
        host.pull(f"{GHCR_V6_ONLY.name}/corp/app:1").output
    )


def test_what_is_no_registrys_is_signed_for_only_if_it_was_refused_just_now(
    host: Host, internet: Internet
) -> None:
    """A strict scope refuses every name: a bank's too. The daemon must have seen it refused."""
    host.start_ramfw(policy(DOCKER_IO, more=host.authority(), host=STRICT))
    host.start_explainer(with_signer=True)
    container = host.container(command=("sleep", "60"))
    # Who talks to the explainer has it ask for any name; but nobody was refused under that one.
    claimed = f"{NEXUS.name}:443:{GHCR.v4}"
    for client in (host, container):
        forged = ask(client, f"https://{NEXUS.name}/v2/", "--resolve", claimed)
        assert not forged.ok
        assert "self-signed certificate" in forged.output
    assert host.signer is not None
    refusal = f"not signed for '{NEXUS.name}': it is no registry's, and the daemon has refused"
    host.signer.wait_for(refusal)
    # A catalogue's registry needs no daemon; curl checks the certificate here.
    assert (
        MESSAGE
        in ask(container, "https://ghcr.io/v2/", "--resolve", f"ghcr.io:443:{GHCR.v4}").output
    )
    # Asked for in earnest it is known by the answer of DNS, and signed for. What the explainer
    # shows without a signature it keeps half a minute: so under another name of the same kind.
    for client, name in ((host, LOGS.name), (container, CDN_BAD.name)):
        told = ask(client, f"https://{name}/v2/")
        assert about(name) in told.output
        assert told.seconds < SOON
        host.signer.wait_for(f"signed for {name}")
    # Without the daemon nobody can say so: the message is in the certificate again.
    host.kill_ramfw()
    unsigned = ask(host, f"https://{PROXY.name}/v2/")
    assert "self-signed certificate" in unsigned.output
    assert internet.packets(NEXUS) == internet.packets(LOGS) == internet.packets(PROXY) == 0


# -- closed, whatever happens to the explainer -------------------------------------------------


def test_without_an_explainer_a_refused_connection_is_refused_at_once(
    host: Host, internet: Internet
) -> None:
    host.start_ramfw(POLICY)
    container = host.container(command=("sleep", "60"))
    for family in ("--ipv4", "--ipv6"):
        for client in (host, container):
            refused = ask(client, "https://ghcr.io/v2/", family)
            assert refused.code == NOT_CONNECTED
            assert refused.seconds < SOON
    assert "connection refused" in host.pull("ghcr.io/corp/app:1").output
    assert internet.packets(GHCR) == 0


def test_an_explainer_that_dies_takes_nothing_with_it(explained: Host, internet: Internet) -> None:
    explained.stop_explainer()
    assert ask(explained, "https://ghcr.io/v2/").code == NOT_CONNECTED
    explained.start_explainer()
    assert MESSAGE in ask(explained, "https://ghcr.io/v2/", "-k").output
    explained.kill_ramfw()
    assert MESSAGE in ask(explained, "https://ghcr.io/v2/", "-k").output
    assert internet.packets(GHCR) == 0


def test_the_port_takes_turned_connections_only(explained: Host, lab: Lab) -> None:
    """Neither from the network, nor from a container, nor on this host itself can it be asked."""
    container = explained.container(command=("sleep", "60"))
    outside = lab.internet.namespace
    tried = [
        ask(outside, f"http://{HOST.v4}:307/v2/"),
        ask(outside, f"http://[{HOST.v6}]:307/v2/"),
        ask(container, f"http://{HOST.v4}:307/v2/"),
        ask(explained, "http://127.0.0.1:307/v2/"),
        ask(explained, "http://[::1]:307/v2/"),
    ]
    for attempt in tried:
        assert attempt.code == NOT_CONNECTED
        assert attempt.seconds < SOON
    assert MESSAGE in ask(explained, "https://ghcr.io/v2/", "-k").output


def test_in_audit_mode_nothing_is_turned(host: Host, internet: Internet) -> None:
    host.start_ramfw(policy(DOCKER_IO, more='[enforcement]\nmode = "audit"\n', host=STRICT))
    host.start_explainer()
    assert host.pull("ghcr.io/corp/app:1").ok
    assert internet.packets(GHCR, 443) > 0
    assert ask(host, "http://127.0.0.1:307/v2/").ok


def test_udp_443_is_refused_at_once_as_before(explained: Host, internet: Internet) -> None:
    refused = explained.as_engine(sys.executable, "-c", QUIC, GHCR.v4)
    assert "OSError" in refused.output
    assert refused.seconds < SOON
    assert internet.packets(GHCR) == 0


# -- a host's own firewall ---------------------------------------------------------------------

LIKE_UFW = """
table inet theirs {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname "lo" accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
}
"""
"""What a host lets in when `ufw enable` was said, and nothing else."""
LIKE_FIREWALLD = """
table inet theirs {
    chain input {
        type filter hook input priority 10; policy accept;
        ct state established,related accept
        iifname "lo" accept
        meta l4proto { icmp, ipv6-icmp } accept
        reject with icmpx admin-prohibited
    }
}
"""
"""What it does in a zone that is firewalld's default one."""
DROP_ON_LOOPBACK = """
table inet theirs {
    chain input {
        type filter hook input priority filter; policy accept;
        iifname "lo" tcp dport 307 drop
    }
}
"""


@contextmanager
def firewall(host: Host, rules: str) -> Iterator[None]:
    """Rules of somebody else's, for a while."""
    host.namespace.run("nft", "-f", "-", stdin=rules, check=True)
    try:
        yield
    finally:
        host.namespace.sh("nft delete table inet theirs")


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_a_firewall_that_drops_what_is_turned_costs_one_client_a_second_and_is_told(
    explained: Host, internet: Internet, family: str
) -> None:
    container = explained.container(command=("sleep", "60"))
    assert MESSAGE in ask(container, "https://ghcr.io/v2/", "-k", family).output
    with firewall(explained, LIKE_UFW):
        assert_not_told_but_at_once(explained, container, family)
        assert internet.packets(GHCR) == 0
    # The daemon sees that rules have changed, and has it tried again.
    wait_until(lambda: explained.status()["explainer"]["unheard"] == [], 10, "turned again")
    assert MESSAGE in ask(container, "https://ghcr.io/v2/", "-k", family).output


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_a_firewall_that_rejects_what_is_turned_lets_no_client_hang(
    explained: Host, internet: Internet, family: str
) -> None:
    """A client may heed the ICMP error at once, or when it has sent its SYN again."""
    container = explained.container(command=("sleep", "60"))
    with firewall(explained, LIKE_FIREWALLD):
        first = ask(container, "https://ghcr.io/v2/", "-k", family)
        assert first.code == NOT_CONNECTED
        assert first.seconds < A_SYN_LATER
        later = ask(container, "https://ghcr.io/v2/", "-k", family)
        assert later.code == NOT_CONNECTED
        assert later.seconds < SOON
        assert internet.packets(GHCR) == 0


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_a_firewall_on_loopback_is_found_too(
    explained: Host, internet: Internet, family: str
) -> None:
    with firewall(explained, DROP_ON_LOOPBACK):
        first = ask(explained, "https://ghcr.io/v2/", family, "-k")
        assert not first.ok
        assert first.seconds < A_SYN_LATER
        later = ask(explained, "https://ghcr.io/v2/", family, "-k")
        assert later.code == NOT_CONNECTED
        assert later.seconds < SOON
        assert explained.status()["explainer"]["unheard"] == ["uplink"]
        assert internet.packets(GHCR) == 0


AGAIN = """
import socket, struct, sys
address, source_port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
for port in (443, 443, 80):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.bind(("::" if ":" in address else "0.0.0.0", source_port))
        client.settimeout(5)
        client.connect((address, port))
        print("connected", port)
"""
"""Connects from one port thrice, as quickly as it can, twice to the same place."""


@pytest.mark.parametrize("address", GHCR.addresses)
def test_whoever_connects_from_one_port_again_and_again_silences_nobody(
    explained: Host, address: str
) -> None:
    """It is no SYN that comes again: nobody but the sender's kernel chooses its number."""
    container = explained.container(command=("sleep", "60"))
    for client in (explained, container):
        refused = client.run(PYTHON, "-c", AGAIN, address, "40123")
        assert refused.output.count("connected") == 3, refused.output
        assert explained.status()["explainer"]["unheard"] == []
        told = ask(client, "https://ghcr.io/v2/", "-k")
        assert MESSAGE in told.output


def test_what_others_send_elsewhere_is_theirs(explained: Host, internet: Internet) -> None:
    """An administrator who sends an address to a permitted mirror is not in our way."""
    container = explained.container(command=("sleep", "60"))
    asked = (f"https://{HUB.name}/v2/", "-k", "--resolve", f"{HUB.name}:443:{GHCR.v4}")
    mirror = f"""
    table ip theirs {{
        chain pre {{
            type nat hook prerouting priority dstnat;
            ip daddr {GHCR.v4} tcp dport 443 dnat to {HUB.v4}
        }}
    }}
    """
    explained.namespace.run("nft", "-f", "-", stdin=mirror, check=True)
    try:
        sent = ask(container, *asked)
        assert "UNAUTHORIZED" in sent.output
        assert internet.packets(HUB, 443) > 0
    finally:
        explained.namespace.sh("nft delete table ip theirs")
    assert about(f"{HUB.name} at {GHCR.v4} port 443") in ask(container, *asked).output


@pytest.mark.parametrize("by_hand", [False, True])
def test_it_holds_no_right_whoever_started_it(host: Host, by_hand: bool) -> None:  # noqa: FBT001
    host.start_ramfw(POLICY)
    explainer = host.start_explainer(by_hand=by_hand)
    status = Path(f"/proc/{explainer.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "Uid:\t65534\t65534\t65534\t65534" in status
    by_address = ask(host, f"http://{GHCR.v4}/v2/")
    assert about(f"{GHCR.v4} port 80") in by_address.output
    by_address = ask(host, f"http://[{GHCR.v6}]/v2/")
    assert about(f"{GHCR.v6} port 80") in by_address.output
