"""What counts is what the server took: hellos that only the filter sees open nothing.

A container has CAP_NET_RAW. It shows the filter a hello with the permitted name that never gets to
the server, and then sends the server another, to an address that both names have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.addresses import CDN_BAD, CDN_GOOD, HOST
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.opener import Met, hello
from tests.lab.policies import OFF, REGISTRIES, STRICT, policy
from tests.lab.sender import PROGRAMS, PYTHON
from tests.lab.test_names import GOOD, refusals

GOOD_HELLO, BAD_HELLO, KNOWN_HELLO = hello(CDN_GOOD.name), hello(CDN_BAD.name), hello("ghcr.io")
FAR = (
    "table inet far { chain far { type filter hook prerouting priority -310; ip ttl <= 2 drop; }; }"
)
"""A packet with few hops left gets past the host, and no further."""
HOW = ("ttl", "checksum", "md5", "syn")
LIBERAL = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"


@pytest.fixture(autouse=True)
def _far(module_lab: Lab) -> Iterator[None]:
    internet = module_lab.internet.namespace
    internet.run("nft", FAR, check=True)
    yield
    internet.run("nft", "delete table inet far", check=True)


def attacker(host: Host, how: str, network: str = "bridge") -> Container:
    """Start a container where a SYN with another number does not make the kernel lose the flow.

    Tracking takes a second SYN only if the number is after the first one's, and that of the
    client's kernel is as often before it: the server's answer would then find no way back.
    """
    if how == "syn":
        host.namespace.sh(f"echo 1 > {LIBERAL}")
    return host.container("--network", network)


def attack(who: Container, how: str, decoy: str, real: str, forge: str = "") -> Met:
    asked = {
        "to": [CDN_GOOD.v4, 443],
        "source": HOST.v4,
        "decoy": decoy,
        "hello": real,
        "how": how,
        "forge": forge,
    }
    program = (PROGRAMS / "decoy.py").read_text()
    done = who.run(PYTHON, "-I", "-c", program, json.dumps(asked))
    assert done.ok, done.output
    return Met(*json.loads(done.output.splitlines()[-1]))


@pytest.mark.parametrize("network", ["bridge", "host"])
@pytest.mark.parametrize("how", HOW)
def test_decoys_work_where_nothing_filters(host: Host, how: str, network: str) -> None:
    """The twin of all below: what the server takes is the real hello, whatever came before."""
    assert attack(attacker(host, how, network), how, GOOD_HELLO, BAD_HELLO).is_tls


@pytest.mark.parametrize("network", ["bridge", "host"])
@pytest.mark.parametrize("how", HOW)
def test_decoy_opens_nothing_in_strict(host: Host, how: str, network: str) -> None:
    container = attacker(host, how, network)
    host.start_ramfw(policy(GOOD, containers=STRICT, host=OFF))

    assert not attack(container, how, GOOD_HELLO, BAD_HELLO).is_tls
    assert refusals(host)[0][0] == "containers"
    assert attack(container, "", "", GOOD_HELLO).is_tls, "the permitted one, without a decoy"


@pytest.mark.parametrize("how", HOW)
def test_decoy_of_no_registry_hides_none(host: Host, how: str) -> None:
    container = attacker(host, how)
    host.start_ramfw(policy(GOOD, containers=REGISTRIES))

    assert not attack(container, how, BAD_HELLO, KNOWN_HELLO).is_tls
    assert attack(container, "", "", BAD_HELLO).is_tls, "no registry, without a decoy"


@pytest.mark.parametrize(("network", "forge"), [("bridge", "ip"), ("host", "ip"), ("host", "lo")])
@pytest.mark.parametrize("how", ["ttl", "md5"])
def test_answer_that_a_container_forges_settles_nothing(
    host: Host, how: str, network: str, forge: str
) -> None:
    """In the server's place it says that the decoy was taken; the server's own word counts."""
    container = host.container("--network", network)
    # As where routes differ both ways and bridges do not filter: it gets as far as ramfw's rules.
    host.namespace.sh(
        """
        for filter in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $filter; done
        echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables
        """
    )
    host.start_ramfw(policy(GOOD, containers=STRICT, host=OFF))

    assert not attack(container, how, GOOD_HELLO, BAD_HELLO, forge).is_tls
    assert attack(container, "", "", GOOD_HELLO).is_tls
