"""What a lease, a range or a DNS server opens: where, for whom, and until when."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from ramfw.core.grants import LIFE_OF_STATIC, Permissions, Wanted
from ramfw.core.leases import GRACE, Leases
from ramfw.core.marks import RESOLVERS
from ramfw.core.numbering import Numbering
from ramfw.core.places import network, place
from ramfw.core.policy import Policy
from ramfw.core.transaction import GrantKey
from tests.unit.core.policies import policy

HUB, GHCR = "hub.example", "ghcr.example"
A, V6 = "192.0.2.10", "2001:db8::10"
SERVER = "192.0.2.53"
NOW = 1000.0


def permissions(body: str = "", *hosts: str, servers: tuple[str, ...] = ()) -> Permissions:
    return of(policy(body, *hosts), *servers)


def of(meant: Policy, *servers: str) -> Permissions:
    numbering = Numbering()
    numbering.assign(meant.entries, frozenset())
    return Permissions(meant, numbering.entries, [ip_address(server) for server in servers])


def leased(*leases: tuple[str, str, int]) -> Leases:
    held = Leases()
    for name, address, ttl in leases:
        held.learn(name, [ip_address(address).packed], ttl, SERVER, NOW)
    return held


def opened(found: Permissions, where: str, leases: Leases | None = None) -> dict[str, int]:
    """`map protocol port` of each grant, and the entry that it belongs to."""
    wanted = found.wanted(place(ip_network(where)), leases or Leases(), NOW)
    assert all(key.network == ip_network(where) for key in wanted)
    return {f"{k.map} {k.protocol} {k.port}": held.entry_id for k, held in wanted.items()}


def test_a_lease_opens_the_entry_s_ports_on_its_address_until_it_ends() -> None:
    found = permissions('[[allow]]\nhost = "hub.example"\nports = [443, 8443]')
    wanted = found.wanted(place(ip_network(A)), leased((HUB, A, 60)), NOW)
    end = Wanted(16, NOW + 60 + GRACE)
    assert wanted == {
        GrantKey.of("permitted4", ip_network(A), "tcp", port): end for port in (443, 8443)
    }


def test_an_ipv6_address_goes_to_the_map_of_its_family() -> None:
    found = permissions("", HUB)
    assert opened(found, V6, leased((HUB, V6, 60))) == {"permitted6 tcp 443": 16}


def test_nothing_is_open_without_a_lease_or_by_the_lease_of_another_name() -> None:
    found = permissions("", HUB)
    assert opened(found, A) == {}
    assert opened(found, A, leased((GHCR, A, 60))) == {}
    assert opened(found, A, leased((f"x.{HUB}", A, 60))) == {}
    assert Permissions(None, {}, ()).wanted(place(ip_network(A)), leased((HUB, A, 60)), NOW) == {}


def test_a_lease_of_one_address_opens_no_range_around_it() -> None:
    found = permissions("", HUB)
    assert opened(found, "192.0.2.0/24", leased((HUB, "192.0.2.0", 60))) == {}


def test_a_wildcard_s_leases_open_what_it_covers() -> None:
    found = permissions('[[allow]]\nhost = "*.wild.example"')
    assert list(found.exact_names()) == []
    assert opened(found, A, leased(("a.b.wild.example", A, 60))) == {"permitted4 tcp 443": 16}
    assert opened(found, A, leased(("wild.example", A, 60))) == {}
    assert opened(found, A, leased(("notwild.example", A, 60))) == {}


def test_the_first_entry_of_the_policy_has_an_address_that_several_permit() -> None:
    leases = leased((HUB, A, 600), (GHCR, A, 60))
    for first, end in ((HUB, 600), (GHCR, 60)):
        second = GHCR if first == HUB else HUB
        wanted = permissions("", first, second).wanted(place(ip_network(A)), leases, NOW)
        assert list(wanted.values()) == [Wanted(16, NOW + end + GRACE)]


def test_of_one_entry_s_names_on_an_address_the_longest_lease_counts() -> None:
    found = permissions('[[allow]]\nhost = "*.wild.example"')
    for ttls in ((60, 600), (600, 60)):
        leases = leased(("a.wild.example", A, ttls[0]), ("b.wild.example", A, ttls[1]))
        (held,) = found.wanted(place(ip_network(A)), leases, NOW).values()
        assert held.expires == NOW + 600 + GRACE


def test_a_range_and_an_address_of_the_policy_need_no_lease() -> None:
    body = (
        '[[allow]]\naddress = "10.0.0.0/24"\nports = [514]\nprotocol = "udp"\n'
        'scopes = ["engines"]\n[[allow]]\naddress = "192.0.2.5"\nports = [5000]'
    )
    found = permissions(body)
    assert set(map(network, found.places())) == {ip_network("10.0.0.0/24"), ip_network("192.0.2.5")}
    assert opened(found, "10.0.0.0/24") == {"engines_ranges4 udp 514": 16}
    assert opened(found, "192.0.2.5") == {"permitted4 tcp 5000": 17}
    assert opened(found, "10.0.0.1") == {}, "the range's own element covers it"
    (held,) = found.wanted(place(ip_network("192.0.2.5")), Leases(), NOW).values()
    assert held.expires == NOW + LIFE_OF_STATIC


def test_an_entry_for_some_scopes_is_in_their_maps_only() -> None:
    body = '[[allow]]\nhost = "hub.example"\nscopes = {}'
    off = '\n[scopes.host]\nmode = "off"'
    strict = '\n[scopes.host]\nmode = "strict"'
    leases = leased((HUB, A, 60))
    for scopes, host, maps in (
        ('["engines"]', off, {"engines4"}),
        ('["engines", "containers"]', off, {"permitted4"}),
        ('["engines", "containers"]', strict, {"engines4", "containers4"}),
        ('["host"]', off, set()),
    ):
        found = permissions(body.format(scopes) + host)
        assert {key.split()[0] for key in opened(found, A, leases)} == maps
        assert found.stems[16] == {name.removesuffix("4") for name in maps}


def test_dns_servers_are_open_on_their_port_to_all_scopes_before_any_entry() -> None:
    body = f'[[allow]]\naddress = "{SERVER}"\nports = [53]\nprotocol = "udp"'
    found = permissions(body, servers=(SERVER, V6))
    assert opened(found, SERVER) == {
        "permitted4 udp 53": RESOLVERS,
        "permitted4 tcp 53": RESOLVERS,
    }
    assert opened(found, V6) == {"permitted6 udp 53": RESOLVERS, "permitted6 tcp 53": RESOLVERS}
    assert found.stems[RESOLVERS] == {"permitted"}
