"""First bytes like some before get the same judgement, while nothing has changed that counts.

Whatever bears on a judgement is changed after the same hello was permitted: it must be seen.
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.commands import Fate
from ramfw.core.events import Copied, HeldSegment
from ramfw.core.flows import NO_FLAGS
from ramfw.core.leases import Leases
from ramfw.core.marks import EXPECTED, PASSED, REFUSED
from ramfw.core.name_check import MOST_ALIKE, NameCheck
from ramfw.core.opening import Hello, Request, Target
from ramfw.core.policy import Policy, ScopeName
from ramfw.core.server_names import Permit
from ramfw.wire import first_bytes
from tests.unit.core.policies import policy
from tests.unit.core.test_server_names import ADDRESSES, HOSTS, registries, strict
from tests.unit.wire.hello_sample import hello, server_name

NAME, OTHER = "registry.example", "elsewhere.example"
ENTRY = 16
HERE, THERE = ip_address("192.0.2.1").packed, ip_address("192.0.2.2").packed
POLICY = f'[[allow]]\nhost = "{NAME}"\nscopes = ["engines"]\n[scopes.containers]\nmode = "strict"\n'
PERMITTED, TOLD = Fate(1, EXPECTED | ENTRY), Fate(1, REFUSED)
UNREMARKABLE = Fate(1, EXPECTED | PASSED)


class Machine:
    """A check, and flows that each are new."""

    def __init__(self) -> None:
        self.check = NameCheck(first_bytes.read, first_bytes.ended)
        self.leases = Leases()
        self.leases.learn(NAME, [HERE], 60, "192.0.2.53", 0)
        self.follow(policy(POLICY))
        self.flows = 0

    def follow(self, permitting: Policy) -> None:
        entries = dict(enumerate(permitting.entries, start=ENTRY))
        self.check.follow(permitting, entries, 0)

    def open(
        self,
        name: str = NAME,
        destination: bytes = HERE,
        port: int = 443,
        scope: ScopeName = ScopeName.ENGINES,
    ) -> Fate | None:
        return self.send(hello(server_name(name.encode())), destination, port, scope)

    def send(
        self,
        payload: bytes,
        destination: bytes = HERE,
        port: int = 443,
        scope: ScopeName = ScopeName.ENGINES,
    ) -> Fate | None:
        self.flows += 1
        self.check.copied([Copied(self.flows, 100, opens=True)], 0, lost=False)
        packet = HeldSegment(1, self.flows, scope, destination, port, 100, payload, NO_FLAGS)
        fate = self.check.held(packet, self.leases, 0)
        assert fate is None or fate.expects in {0, 100 + len(payload)}
        return fate and fate._replace(expects=0)


@pytest.fixture
def machine() -> Machine:
    made = Machine()
    assert [made.open(), made.open()] == [PERMITTED, PERMITTED]
    return made


def test_another_name_address_port_or_scope_is_judged_by_itself(machine: Machine) -> None:
    assert machine.open(OTHER) == TOLD
    assert machine.open(destination=THERE) == TOLD
    assert machine.open(port=8443) == TOLD
    assert machine.open(scope=ScopeName.CONTAINERS) == TOLD
    assert machine.open() == PERMITTED


def test_a_lease_that_ended_refuses_the_same_hello(machine: Machine) -> None:
    machine.leases.forget(NAME)
    assert machine.open() == TOLD

    machine.leases.learn(NAME, [HERE], 60, "192.0.2.53", 0)
    assert machine.open() == PERMITTED


def test_a_policy_that_no_longer_has_the_name_refuses_the_same_hello(machine: Machine) -> None:
    machine.follow(policy(POLICY.replace(NAME, OTHER)))

    assert machine.open() == TOLD


def test_a_refused_hello_is_permitted_once_the_policy_has_its_name(machine: Machine) -> None:
    machine.leases.learn(OTHER, [HERE], 60, "192.0.2.53", 0)
    assert machine.open(OTHER) == TOLD

    machine.follow(policy(POLICY.replace(NAME, OTHER)))
    assert machine.open(OTHER) == PERMITTED


def test_the_same_request_is_judged_again_where_anything_in_it_differs() -> None:
    """Plain HTTP: permitted is the name, whatever is asked of it; the API elsewhere is refused."""
    machine = Machine()

    def send(
        path: str, host: str, port: int = 80, scope: ScopeName = ScopeName.ENGINES
    ) -> Fate | None:
        payload = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        return machine.send(payload, port=port, scope=scope)

    machine.follow(policy(POLICY.replace("scopes =", "ports = [80]\nscopes =")))
    for _ in range(2):
        assert send("/v2/", NAME) == PERMITTED
        assert send("/v2/", f"{NAME}:80") == PERMITTED
        assert send("/v2/", NAME, port=8080) == TOLD
        assert send("/v2/", OTHER) == TOLD
        assert send("/v2/", f"{NAME}:5000") == TOLD
        assert send(f"http://{NAME}/v2/", NAME) == TOLD
        assert send("/", OTHER, scope=ScopeName.HOST) == UNREMARKABLE
        assert send("/v2/", OTHER, scope=ScopeName.HOST) == TOLD
    machine.leases.forget(NAME)
    assert send("/v2/", NAME) == TOLD


def test_many_names_are_not_remembered_for_ever(machine: Machine) -> None:
    for number in range(MOST_ALIKE + 50):
        assert machine.open(f"n{number}.example") == TOLD

    assert len(machine.check._alike) <= MOST_ALIKE
    assert machine.open() == PERMITTED


@given(
    HOSTS,
    st.booleans(),
    ADDRESSES,
    st.sampled_from([80, 443, 3128, 5000]),
    st.sampled_from(ScopeName),
    st.lists(st.binary(min_size=1, max_size=3), max_size=2),
    st.integers(50, 500),
)
def test_nothing_else_in_a_hello_bears_on_its_judgement(  # noqa: PLR0913, PLR0917 - all of it
    name: str | None,
    encrypted: bool,  # noqa: FBT001 - given by name
    address: str,
    port: int,
    scope: ScopeName,
    protocols: list[bytes],
    end: int,
) -> None:
    for judge in (strict, registries):
        one = judge(Hello(name, encrypted, (), 60), address, port, scope)
        other = judge(Hello(name, encrypted, tuple(protocols), end), address, port, scope)
        assert one == other


@given(
    HOSTS,
    st.none() | st.sampled_from([80, 443, 5000]),
    st.sampled_from(Target),
    st.booleans(),
    ADDRESSES,
    st.sampled_from([80, 443, 3128, 5000]),
    st.sampled_from(ScopeName),
    st.sampled_from(["GET", "HEAD", "PUT"]),
    st.integers(50, 500),
)
def test_nothing_else_in_a_request_bears_on_its_judgement(  # noqa: PLR0913, PLR0917 - all of it
    host: str | None,
    written: int | None,
    target: Target,
    is_api: bool,  # noqa: FBT001 - given by name
    address: str,
    port: int,
    scope: ScopeName,
    method: str,
    end: int,
) -> None:
    for judge in (strict, registries):
        one = judge(Request("GET", host, written, target, is_api, 60), address, port, scope)
        other = judge(Request(method, host, written, target, is_api, end), address, port, scope)
        assert one == other


def test_the_rows_above_can_permit() -> None:
    assert isinstance(strict(Hello("late.example", encrypted=False, alpn=(), end=60)), Permit)
