"""Answers that are none: what is forged, unasked, odd or special opens nothing.

Each story shows that the way is there (the message arrives, the address answers once it is
permitted), so that what opened nothing could have.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.addresses import HOST
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.odd_dns import (
    CLIENT_PORT,
    IN_CONTAINER,
    ODD,
    QUESTION_ID,
    UNTRUSTED,
    WITH_PROGRAMS,
    ask_as_engine,
    ask_command,
    ask_in,
    forge_command,
    received,
    start_odd_dns,
)
from tests.lab.policies import policy
from tests.lab.sender import PROGRAMS
from tests.lab.space import Process

CDN = policy('host = "*.cdn.example"\nports = [80]')
STUB = "127.0.0.1"


@pytest.fixture(autouse=True)
def _servers(host: Host, internet: Internet) -> Iterator[None]:
    """The trusted server answers oddly, and no source address is refused by routing alone."""
    start_odd_dns(internet, ODD, UNTRUSTED)
    host.set_servers(ODD)
    host.namespace.sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done")
    yield
    host.forget_flows()


def address(number: int) -> str:
    return f"203.0.113.{number}"


def assert_closed(host: Host, number: int) -> None:
    """No element, and no connection for the engine or a container."""
    assert not host.permits(address(number))
    url = f"http://{address(number)}/"
    assert host.curl(url, as_engine=True).refused
    assert host.container().curl(url).refused


def assert_opens(host: Host, number: int) -> None:
    """The twin: a right answer with this address opens it."""
    assert len(ask_as_engine(host, f"a/plain-{number}.cdn.example")) == 1
    assert reaches(host, number, f"plain-{number}.cdn.example")


def reaches(host: Host, number: int, name: str) -> bool:
    """Whether the engine reaches the address under this name."""
    return host.curl(f"http://{address(number)}/", "-H", f"Host: {name}", as_engine=True).ok


def start_victim(container: Container, name: str, seconds: float) -> Process:
    """A container that asks, and gets no answer but a forged one."""
    asking = ask_command(f"a/{name}", port=CLIENT_PORT, seconds=seconds)
    victim = container.start(*asking)
    victim.wait_for("asked")
    return victim


def assert_arrived(victim: Process, number: int) -> None:
    assert victim.wait() == 0
    (message,) = received(victim)
    assert message.endswith(bytes((203, 0, 113, number))), "the forged answer has arrived"


@pytest.mark.parametrize(
    ("forger", "at", "arrives"),
    [
        ("itself", "its own address", True),
        ("another container", "the translated address", True),
        # No port of a bridge is sent its own frames, and conntrack holds the other way of the flow.
        ("itself", "the translated address", False),
        ("another container", "its own address", False),
    ],
)
def test_container_forges_an_answer_from_the_trusted_server(
    host: Host, forger: str, at: str, *, arrives: bool
) -> None:
    host.start_ramfw(CDN)
    victim, name = host.container(*WITH_PROGRAMS), "silent-61.cdn.example"
    attacker = victim if forger == "itself" else host.container(*WITH_PROGRAMS)
    asking = start_victim(victim, name, seconds=10 if arrives else 1)
    receiver = HOST.v4 if at == "the translated address" else victim.address

    forged = attacker.run(*forge_command("ip", ODD, receiver, (name, address(61))))

    assert forged.ok, forged.output
    if arrives:
        assert_arrived(asking, 61)
    asking.wait()
    assert_closed(host, 61)
    assert_opens(host, 61)


@pytest.mark.parametrize("how", ["ip", "lo"])
def test_container_on_the_hosts_network_forges_over_loopback(host: Host, how: str) -> None:
    host.start_ramfw(CDN)
    container, name = host.container("--network", "host", *WITH_PROGRAMS), "silent-62.cdn.example"
    asked = ask_command(f"a/{name}", port=CLIENT_PORT, count=1, seconds=10, programs=IN_CONTAINER)
    forging = forge_command(how, ODD, HOST.v4, (name, address(62)))

    both = f"{' '.join(asked)} & sleep 0.5; {' '.join(forging)}; wait"
    done = container.run("sh", "-c", both)

    assert done.ok, done.output
    assert "forged" in done.output
    (message,) = received(done)
    assert message.endswith(bytes((203, 0, 113, 62))), "the forged answer has arrived"
    assert_closed(host, 62)
    assert_opens(host, 62)


@pytest.mark.parametrize(("how", "arrives"), [("ip", True), ("lo", False)])
def test_container_on_the_hosts_network_answers_in_a_local_stubs_place(
    host: Host, how: str, *, arrives: bool
) -> None:
    """What is sent from the stub's own address over loopback looks most like its answer."""
    stub = host.namespace.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file="),
        *("--user=root", "--no-resolv", "--no-hosts", f"--server={ODD}", "--log-facility=-"),
        *("--bind-interfaces", f"--listen-address={STUB}"),
        cgroup="system.slice/dnsmasq.service",
    )
    stub.wait_for("using nameserver")
    host.set_servers(STUB)
    host.start_ramfw(CDN)
    assert len(ask_as_engine(host, "a/plain-60.cdn.example", server=STUB)) == 1
    assert host.permits(address(60)), "the stub's own answer opens"
    container, name = host.container("--network", "host", *WITH_PROGRAMS), "silent-63.cdn.example"
    asked = ask_command(
        f"a/{name}",
        server=STUB,
        port=CLIENT_PORT,
        seconds=10 if arrives else 2,
        programs=IN_CONTAINER,
    )
    forging = forge_command(how, STUB, STUB, (name, address(63)))

    done = container.run("sh", "-c", f"{' '.join(asked)} & sleep 0.5; {' '.join(forging)}; wait")

    assert "forged" in done.output
    # The kernel itself takes no frame from outside with such a source.
    assert len(received(done)) == arrives
    assert_closed(host, 63)
    assert len(ask_as_engine(host, "a/plain-63.cdn.example", server=STUB)) == 1
    assert host.permits(address(63)), "the twin: from the stub it opens"
    stub.stop()


def test_answer_to_a_question_that_nobody_asked(host: Host) -> None:
    """It comes from the trusted server itself, with the id and to the port of a question."""
    host.start_ramfw(CDN)

    came = ask_as_engine(host, "a/unasked-64.cdn.example", count=2)

    assert any(b"plain-65" in message for message in came)
    assert any(b"unasked-64" in message for message in came)
    assert host.permits(address(64)), "what was asked for opens"
    assert_closed(host, 65)
    assert_opens(host, 65)


def test_answer_that_comes_out_of_the_blue(host: Host, internet: Internet) -> None:
    """Nobody sent anything to the server; a socket of the engine listens, and gets it."""
    host.start_ramfw(CDN)
    listening = host.namespace.start(
        *("python3", "-u", "-c"),
        f"import socket; s = socket.socket(2, 2); s.bind(('{HOST.v4}', {CLIENT_PORT}));"
        "print('listening'); print(s.recv(999).hex())",
        cgroup=host.engine_cgroup,
    )
    listening.wait_for("listening")
    name = "silent-66.cdn.example"
    command = forge_command("ip", ODD, HOST.v4, (name, address(66)), str(PROGRAMS))
    internet.namespace.run(*command, check=True)

    assert_arrived(listening, 66)
    assert_closed(host, 66)
    assert_opens(host, 66)


def test_answer_with_another_id(host: Host) -> None:
    host.start_ramfw(CDN)

    (came,) = ask_as_engine(host, "a/wrongid-67.cdn.example")

    assert int.from_bytes(came[:2], "big") == QUESTION_ID ^ 1
    assert_closed(host, 67)
    assert_opens(host, 67)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_answer_to_another_name_than_was_asked(host: Host, protocol: str) -> None:
    host.start_ramfw(CDN)

    (came,) = ask_as_engine(host, "a/wrongname-68.other.example", protocol=protocol)

    assert b"\x03cdn\x07example" in came
    assert_closed(host, 68)
    assert_opens(host, 68)


def test_alias_opens_for_the_name_that_was_asked_and_its_target_is_not_permitted(
    host: Host,
) -> None:
    host.start_ramfw(CDN)

    (aliased,) = ask_as_engine(host, "a/alias-69.cdn.example")
    (direct,) = ask_as_engine(host, "a/plain-70.other.example")

    assert b"\x05other" in aliased
    assert reaches(host, 69, "alias-69.cdn.example")
    assert learned_names(host) == {"alias-69.cdn.example"}
    assert b"\x05other" in direct
    assert_closed(host, 70)


def test_alias_of_a_name_that_is_not_permitted(host: Host) -> None:
    host.start_ramfw(CDN)

    assert len(ask_as_engine(host, "a/alias-71.other.example")) == 1

    assert_closed(host, 71)
    assert_opens(host, 71)


def test_special_use_addresses_open_nothing(host: Host) -> None:
    host.start_ramfw(CDN)

    came = ask_as_engine(host, "a/special-1.cdn.example", "aaaa/special-1.cdn.example")

    assert len(came) == 2
    assert learned_names(host) == set()
    assert all(f"{one} ." not in host.rules() for one in ("127.0.0.1", "169.254.169.254"))
    for metadata in ("169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]"):
        assert not host.curl(f"http://{metadata}/", "--max-time", "1", as_engine=True).ok
    assert_opens(host, 72)


def test_answer_of_a_server_that_is_not_trusted(host: Host) -> None:
    """A container may ask whom it likes; what it hears there opens nothing."""
    host.start_ramfw(CDN)
    container = host.container(*WITH_PROGRAMS)

    assert len(ask_in(container, "a/plain-73.cdn.example", server=UNTRUSTED)) == 1

    assert_closed(host, 73)
    assert len(ask_in(container, "a/plain-73.cdn.example", server=ODD)) == 1
    assert container.curl(f"http://{address(73)}/", "-H", "Host: plain-73.cdn.example").ok


@pytest.mark.parametrize("who", ["the engine", "a container"])
@pytest.mark.parametrize("label", ["plain", "split"])
def test_every_message_of_a_stream_is_read(host: Host, label: str, who: str) -> None:
    """Two questions in one segment; the answers in one segment, or each over several."""
    host.start_ramfw(CDN)
    names = (
        f"a/{label}-74.other.example",
        f"a/{label}-75.cdn.example",
        f"a/{label}-76.cdn.example",
    )

    if who == "the engine":
        came = ask_as_engine(host, *names, protocol="tcp")
    else:
        came = ask_in(host.container(*WITH_PROGRAMS), *names, protocol="tcp", server=ODD)

    assert len(came) == 3
    for number in (75, 76):
        assert reaches(host, number, f"{label}-{number}.cdn.example")
    assert_closed(host, 74)


@pytest.mark.parametrize("label", ["cut", "loop"])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_malformed_answers_open_nothing(host: Host, protocol: str, label: str) -> None:
    host.start_ramfw(CDN)

    assert len(ask_as_engine(host, f"a/{label}-77.cdn.example", protocol=protocol)) == 1

    assert_closed(host, 77)
    assert_opens(host, 77)


def learned_names(host: Host) -> set[str]:
    """The names whose answers have opened something."""
    hosts = [target for entry in host.status()["entries"] for target in entry["hosts"]]
    return {given["name"] for target in hosts for given in target["addresses"]}
