"""Name and address belong together: what each kind of first bytes comes to, scope by scope."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.catalog import shipped
from ramfw.core.opening import (
    BrokenHello,
    BrokenRequest,
    Hello,
    Http2Preface,
    Opening,
    Other,
    Request,
    Ssl2Hello,
    Target,
    Unfinished,
)
from ramfw.core.policy import ScopeMode, ScopeName
from ramfw.core.server_names import (
    Connection,
    Judgement,
    Pass,
    Permit,
    Reason,
    Refuse,
    ServerNames,
    Unknown,
)
from ramfw.wire.first_bytes import read
from tests.unit.core.policies import policy
from tests.unit.wire.hello_sample import extension, hello, server_name

POLICY = """
[[allow]]
registry = "docker.io"

[[allow]]
host = "nexus.corp.example"
ports = [5000, 8443]

[[allow]]
host = "*.pkg.dev"

[[allow]]
proxy = "proxy.corp.example"
ports = [3128]

[[allow]]
address = "10.0.0.0/24"
ports = [5000]

[[allow]]
address = "10.9.0.0/24"
ports = [443, 514]
names = false

[[allow]]
address = "10.8.0.0/24"
ports = [514]
protocol = "udp"

[[allow]]
host = "engines.example"
scopes = ["engines"]

[[allow]]
host = "late.example"
"""
HUB, NEXUS, PKG, PROXY, ADDRESS, UNREAD, UDP, ENGINES, LATE = range(16, 25)
RULES = ServerNames(
    dict(enumerate(policy(POLICY).entries, start=HUB)),
    shipped(),
)

# The addresses of a CDN: what trusted servers said of each.
CDN = "192.0.2.1"
ANSWERED = {
    CDN: {"registry-1.docker.io", "late.example"},
    "192.0.2.2": {"nexus.corp.example"},
    "192.0.2.3": {"eu.pkg.dev", "a.b.pkg.dev", "engines.example"},
    "192.0.2.9": {"proxy.corp.example"},
}
NOBODYS = "192.0.2.77"

Judge = Callable[..., Judgement]


def judging(mode: ScopeMode) -> Judge:
    def judge(
        opening: Opening,
        address: str = CDN,
        port: int = 443,
        scope: ScopeName = ScopeName.CONTAINERS,
    ) -> Judgement:
        answered = ANSWERED.get(address, set())
        return RULES.judge(opening, Connection(ip_address(address), port, scope, mode, answered))

    return judge


strict, registries = judging(ScopeMode.STRICT), judging(ScopeMode.REGISTRIES)


def tls(name: str | None, *, encrypted: bool = False) -> Hello:
    return Hello(name, encrypted, (b"h2",), 500)


def http(
    host: str | None,
    port: int | None = None,
    target: Target = Target.ORIGIN,
    *,
    api: bool = True,
    method: str = "GET",
) -> Request:
    return Request(method, host, port, target, api, 100)


def connect(host: str, port: int = 443) -> Request:
    return http(host, port, Target.AUTHORITY, api=False, method="CONNECT")


BOTH = pytest.mark.parametrize("judge", [strict, registries], ids=["strict", "registries"])


# -- name and address belong together ------------------------------------------------------------


@BOTH
def test_a_permitted_name_at_its_own_address(judge: Judge) -> None:
    assert judge(tls("registry-1.docker.io")) == Permit(HUB, "registry-1.docker.io")
    assert judge(tls("nexus.corp.example"), "192.0.2.2", 8443) == Permit(
        NEXUS, "nexus.corp.example"
    )


@BOTH
def test_an_address_of_two_permitted_names_takes_either(judge: Judge) -> None:
    assert judge(tls("late.example")) == Permit(LATE, "late.example")


@BOTH
def test_a_wildcard_counts_with_the_name_that_was_asked(judge: Judge) -> None:
    assert judge(tls("eu.pkg.dev"), "192.0.2.3") == Permit(PKG, "eu.pkg.dev")
    assert judge(tls("a.b.pkg.dev"), "192.0.2.3") == Permit(PKG, "a.b.pkg.dev")
    assert judge(tls("us.pkg.dev"), "192.0.2.3") == Refuse(Reason.NOT_TOGETHER, "us.pkg.dev")
    assert strict(tls("pkg.dev"), "192.0.2.3") == Refuse(Reason.NOT_PERMITTED, "pkg.dev")


@BOTH
def test_a_permitted_name_at_another_address_is_a_lie(judge: Judge) -> None:
    """/etc/hosts, or a server of the attacker's behind an address that is permitted for others."""
    for address in ("192.0.2.2", NOBODYS):
        assert judge(tls("registry-1.docker.io"), address) == Refuse(
            Reason.NOT_TOGETHER, "registry-1.docker.io"
        )


@BOTH
def test_a_registry_behind_the_permitted_ones_address_is_refused(judge: Judge) -> None:
    """The CDN's hole: the address is permitted, the name is another customer's."""
    refused = judge(tls("ghcr.io"))

    assert isinstance(refused, Refuse)
    assert refused.name == "ghcr.io"


def test_an_entry_for_one_scope_permits_no_other() -> None:
    hello = tls("engines.example")

    assert strict(hello, "192.0.2.3", scope=ScopeName.ENGINES) == Permit(ENGINES, "engines.example")
    assert strict(hello, "192.0.2.3", scope=ScopeName.HOST) == Refuse(
        Reason.NOT_PERMITTED, "engines.example"
    )


def test_a_permitted_name_on_another_port_is_not_permitted() -> None:
    assert strict(tls("late.example"), port=8443) == Refuse(Reason.NOT_PERMITTED, "late.example")
    assert registries(tls("late.example"), port=8443) == Unknown("late.example", 8443)
    assert registries(tls("registry-1.docker.io"), port=8443) == Refuse(
        Reason.KNOWN_REGISTRY, "registry-1.docker.io"
    )


def test_a_scope_that_is_off_is_let_alone() -> None:
    assert judging(ScopeMode.OFF)(tls("ghcr.io")) == Pass()


# -- TLS -----------------------------------------------------------------------------------------


def test_a_hello_without_a_name() -> None:
    assert strict(tls(None)) == Refuse(Reason.NO_NAME)
    assert registries(tls(None)) == Unknown(None, 443)


def test_a_hidden_hello_is_refused_where_all_must_be_read() -> None:
    """With a permitted outer name, too: the server answers to the inner one."""
    outer = tls("cloudflare-ech.com", encrypted=True)
    permitted = tls("registry-1.docker.io", encrypted=True)

    assert strict(outer) == Refuse(Reason.ENCRYPTED, "cloudflare-ech.com")
    assert strict(permitted) == Refuse(Reason.ENCRYPTED, "registry-1.docker.io")
    assert strict(tls(None, encrypted=True)) == Refuse(Reason.ENCRYPTED)


def test_a_hidden_hello_counts_as_its_outer_name_where_others_pass() -> None:
    """Browsers send what looks like one to every site."""
    assert registries(tls("www.example", encrypted=True)) == Unknown("www.example", 443)
    assert registries(tls("registry-1.docker.io", encrypted=True)) == Permit(
        HUB, "registry-1.docker.io"
    )
    assert registries(tls("ghcr.io", encrypted=True)) == Refuse(Reason.KNOWN_REGISTRY, "ghcr.io")
    assert registries(tls(None, encrypted=True)) == Unknown(None, 443)


@pytest.mark.parametrize(
    "name",
    [
        "registry-1.docker.io.",
        "registry-1.docker.io..",
        ".registry-1.docker.io",
        "registry-1..docker.io",
        "*.pkg.dev",
        "a_b.pkg.dev",
        "-a.pkg.dev",
        "a-.pkg.dev",
        f"{'a' * 64}.pkg.dev",
        f"{'a.' * 125}pkg.dev",
        "a.pkg.dev:443",
        "192.0.2.1",
        "0xc0000201",
        "3221225985",
        "2001:db8::1",
        "[2001:db8::1]",
        "%00",
    ],
)
def test_a_name_that_dns_cannot_have_is_odd(name: str) -> None:
    answered = {name, *ANSWERED[CDN]}
    connection = Connection(ip_address(CDN), 443, ScopeName.CONTAINERS, ScopeMode.STRICT, answered)

    assert RULES.judge(tls(name), connection) == Refuse(Reason.ODD_NAME, name)


def test_an_odd_name_hides_no_registry_where_others_pass() -> None:
    assert registries(tls("ghcr.io.")) == Refuse(Reason.KNOWN_REGISTRY, "ghcr.io")
    assert registries(tls("registry-1.docker.io.")) == Permit(HUB, "registry-1.docker.io")
    assert registries(tls("outbound_.80_._.a.svc.local")) == Unknown(
        "outbound_.80_._.a.svc.local", 443
    )
    assert registries(tls("192.0.2.1")) == Unknown(None, 443)
    assert registries(tls("2001:db8::1")) == Unknown(None, 443)


def test_hellos_that_are_old_or_broken() -> None:
    assert strict(Ssl2Hello()) == Refuse(Reason.SSL2)
    assert registries(Ssl2Hello()) == Unknown(None, 443)
    for judge in (strict, registries):
        refused = judge(BrokenHello("a NUL in it"))
        assert refused == Refuse(Reason.BROKEN_HELLO, detail="a NUL in it")


def test_known_registries_are_refused_on_every_port_and_address() -> None:
    for address, port in ((CDN, 443), (NOBODYS, 443), (NOBODYS, 8080), ("2001:db8::9", 22)):
        assert registries(tls("ghcr.io"), address, port) == Refuse(Reason.KNOWN_REGISTRY, "ghcr.io")
    assert registries(tls("www.ghcr.io"), NOBODYS) == Unknown("www.ghcr.io", 443)
    assert RULES.is_registry("ghcr.io")
    assert not RULES.is_registry("auth.docker.io")


# -- plain HTTP ----------------------------------------------------------------------------------


@BOTH
def test_a_permitted_registry_in_plain_http(judge: Judge) -> None:
    permitted = Permit(NEXUS, "nexus.corp.example")

    assert judge(http("nexus.corp.example", 5000), "192.0.2.2", 5000) == permitted
    assert judge(http("nexus.corp.example"), "192.0.2.2", 5000) == permitted


def test_the_registry_api_in_plain_http_is_refused_whatever_the_host() -> None:
    for host in ("ghcr.io", "any.example", "nexus.corp.example", "192.0.2.77", None):
        assert registries(http(host), NOBODYS, 5000) == Refuse(Reason.PLAIN_API, host or "")
        assert isinstance(strict(http(host), NOBODYS, 5000), Refuse)


def test_other_plain_http_passes_where_others_pass() -> None:
    assert registries(http("any.example", api=False), NOBODYS, 80) == Pass()
    assert registries(http(None, api=False), NOBODYS, 80) == Pass()
    assert registries(http("ghcr.io", api=False), NOBODYS, 80) == Refuse(
        Reason.KNOWN_REGISTRY, "ghcr.io"
    )
    assert registries(http("GHCR.io.".lower(), api=False), NOBODYS, 80) == Refuse(
        Reason.KNOWN_REGISTRY, "ghcr.io"
    )


def test_what_is_refused_of_plain_http_where_all_must_be_permitted() -> None:
    nexus = "nexus.corp.example"

    assert strict(http("registry-1.docker.io")) == Refuse(Reason.PLAIN_TEXT, "registry-1.docker.io")
    assert strict(http(None), "192.0.2.2", 5000) == Refuse(Reason.NO_HOST)
    assert strict(http("192.0.2.2"), "192.0.2.2", 5000) == Refuse(Reason.NO_HOST, "192.0.2.2")
    assert strict(http(nexus, 8443), "192.0.2.2", 5000) == Refuse(Reason.OTHER_PORT, nexus)
    assert strict(http(nexus, 5000), CDN, 5000) == Refuse(Reason.NOT_TOGETHER, nexus)
    assert strict(http("any.example"), "192.0.2.2", 5000) == Refuse(
        Reason.NOT_PERMITTED, "any.example"
    )


def test_a_broken_request_is_refused_where_it_may_be_a_registrys() -> None:
    two_hosts = BrokenRequest("two Host fields", ("any.example", "ghcr.io."), registry_api=False)
    api = BrokenRequest("a folded field", (), registry_api=True)
    other = BrokenRequest("a NUL", ("any.example",), registry_api=False)

    assert strict(other) == Refuse(Reason.BROKEN_REQUEST, "any.example", "a NUL")
    assert registries(other) == Pass()
    assert registries(two_hosts) == Refuse(Reason.BROKEN_REQUEST, "any.example", "two Host fields")
    assert registries(api) == Refuse(Reason.BROKEN_REQUEST, "", "a folded field")


# -- proxies -------------------------------------------------------------------------------------


@BOTH
def test_the_organizations_proxy_connects_to_permitted_targets(judge: Judge) -> None:
    """The proxy's own answers of DNS count: the target has no address here."""
    assert judge(connect("registry-1.docker.io"), "192.0.2.9", 3128) == Permit(
        HUB, "registry-1.docker.io", via=PROXY
    )
    assert judge(connect("x.pkg.dev"), "192.0.2.9", 3128) == Permit(PKG, "x.pkg.dev", via=PROXY)
    assert judge(connect("10.0.0.7", 5000), "192.0.2.9", 3128) == Permit(
        ADDRESS, "10.0.0.7", via=PROXY
    )
    assert judge(http("nexus.corp.example", 5000, Target.ABSOLUTE), "192.0.2.9", 3128) == Permit(
        NEXUS, "nexus.corp.example", via=PROXY
    )


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("ghcr.io", 443),
        ("registry-1.docker.io", 80),
        ("nexus.corp.example", 443),
        ("engines.example", 443),
        ("proxy.corp.example", 3128),
        ("registry-1.docker.io.", 443),
        ("10.0.1.7", 5000),
        ("192.0.2.1", 443),
        ("2001:db8::1", 443),
    ],
)
def test_the_proxy_is_asked_for_nothing_else(host: str, port: int) -> None:
    named = host if port == 443 else f"{host}:{port}"
    assert strict(connect(host, port), "192.0.2.9", 3128) == Refuse(Reason.PROXY_TARGET, named)


def test_another_proxy_is_asked_for_nothing() -> None:
    for address, port in ((CDN, 443), (NOBODYS, 3128), ("192.0.2.9", 3129)):
        assert strict(connect("registry-1.docker.io"), address, port) == Refuse(
            Reason.CONNECT, "registry-1.docker.io"
        )
    url = http("nexus.corp.example", 5000, Target.ABSOLUTE)
    assert strict(url, "192.0.2.2", 5000) == Refuse(Reason.ABSOLUTE, "nexus.corp.example")


def test_a_proxy_is_no_host_to_ask_or_to_speak_tls_to() -> None:
    name = "proxy.corp.example"

    assert strict(http(name, 3128), "192.0.2.9", 3128) == Refuse(Reason.NOT_PERMITTED, name)
    assert strict(tls(name), "192.0.2.9", 3128) == Refuse(Reason.PROXY_TLS, name)
    assert strict(tls(name), "192.0.2.9", 443) == Refuse(Reason.NOT_PERMITTED, name)


def test_proxies_where_others_pass_reach_no_known_registry() -> None:
    for address in ("192.0.2.9", NOBODYS):
        assert registries(connect("ghcr.io"), address, 3128) == Refuse(
            Reason.KNOWN_REGISTRY, "ghcr.io"
        )
        assert registries(connect("www.example"), address, 3128) == Unknown(
            "www.example", 443, proxied=True
        )
        assert (
            registries(http("www.example", 80, Target.ABSOLUTE, api=False), address, 3128) == Pass()
        )
        assert registries(http("www.example", 80, Target.ABSOLUTE), address, 3128) == Refuse(
            Reason.PLAIN_API, "www.example"
        )
    assert registries(connect("registry-1.docker.io"), NOBODYS, 3128) == Unknown(
        "registry-1.docker.io", 443, proxied=True
    )


# -- entries by address, and other protocols -----------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "opening", [tls(None), tls("ghcr.io"), Other(""), Http2Preface(), BrokenHello(""), http(None)]
)
def test_an_entry_that_expects_no_name_is_not_read(judge: Judge, opening: Opening) -> None:
    assert judge(opening, "10.9.0.5", 514) == Permit(UNREAD)
    assert judge(opening, "10.9.1.5", 514) != Permit(UNREAD)
    assert judge(opening, "10.8.0.5", 514) != Permit(UDP)


@BOTH
def test_an_entry_by_address_takes_what_names_nobody_else(judge: Judge) -> None:
    assert judge(tls(None), "10.0.0.7", 5000) == Permit(ADDRESS)
    assert judge(http("10.0.0.7", 5000), "10.0.0.7", 5000) == Permit(ADDRESS)
    assert judge(http(None), "10.0.0.7", 5000) == Permit(ADDRESS)
    assert judge(tls("10.0.0.7"), "10.0.0.7", 5000) == Permit(ADDRESS)
    assert judge(http("nexus.corp.example", 5000), "10.0.0.7", 5000) == Permit(
        ADDRESS, "nexus.corp.example"
    )
    assert isinstance(judge(http("10.0.0.8", 5000), "10.0.0.7", 5000), Refuse)
    assert isinstance(judge(tls("ghcr.io"), "10.0.0.7", 5000), Refuse)


def test_other_protocols() -> None:
    assert strict(Other("SSH")) == Refuse(Reason.NEITHER, detail="SSH")
    assert strict(Http2Preface()) == Refuse(Reason.HTTP2)
    assert registries(Other("")) == Pass()
    assert registries(Http2Preface()) == Pass()


# -- from bytes to the verdict -------------------------------------------------------------------


def head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


@pytest.mark.parametrize(
    ("stream", "in_strict", "in_registries"),
    [
        (hello(server_name(b"Registry-1.Docker.IO")), HUB, HUB),
        (hello(server_name(b"ghcr.io")), Reason.NOT_PERMITTED, Reason.KNOWN_REGISTRY),
        (hello(server_name(b"GHCR.io.")), Reason.ODD_NAME, Reason.KNOWN_REGISTRY),
        (hello(server_name(b"www.example")), Reason.NOT_PERMITTED, Unknown("www.example", 443)),
        (
            hello(server_name(b"www.example"), size=1),
            Reason.NOT_PERMITTED,
            Unknown("www.example", 443),
        ),
        (hello(server_name(b"ghcr.io\0.docker.io")), Reason.BROKEN_HELLO, Reason.BROKEN_HELLO),
        (
            hello(server_name(b"registry-1.docker.io", b"ghcr.io")),
            Reason.BROKEN_HELLO,
            Reason.BROKEN_HELLO,
        ),
        (hello(), Reason.NO_NAME, Unknown(None, 443)),
        (
            hello(server_name(b"front.example"), extension(0xFE0D, bytes(99))),
            Reason.ENCRYPTED,
            Unknown("front.example", 443),
        ),
        (b"\x80\x2e\x01\0\x02" + bytes(43), Reason.SSL2, Unknown(None, 443)),
        (
            head("GET /v2/ HTTP/1.1", "Host: registry-1.docker.io"),
            Reason.PLAIN_TEXT,
            Reason.PLAIN_API,
        ),
        (head("GET / HTTP/1.1", "Host: www.example"), Reason.PLAIN_TEXT, Pass()),
        (
            head("GET / HTTP/1.1", "Host: a", "Host: ghcr.io"),
            Reason.BROKEN_REQUEST,
            Reason.BROKEN_REQUEST,
        ),
        (head("GET / HTTP/1.1", "Host: a", "Host: b"), Reason.BROKEN_REQUEST, Pass()),
        (
            head("GET /%76%32/ HTTP/1.1", "Host: a", " b"),
            Reason.BROKEN_REQUEST,
            Reason.BROKEN_REQUEST,
        ),
        (head("GET /v2/ HTTP/1.1", "Host : a"), Reason.BROKEN_REQUEST, Reason.BROKEN_REQUEST),
        (b"GET /v2/ HTTP/1.1\nHost: a\n\n", Reason.BROKEN_REQUEST, Reason.BROKEN_REQUEST),
        (head("GET http://b/v2/ HTTP/1.1", "Host: b"), Reason.ABSOLUTE, Reason.PLAIN_API),
        (
            head("GET http://ghcr.io/ HTTP/1.1", "Host: b"),
            Reason.BROKEN_REQUEST,
            Reason.BROKEN_REQUEST,
        ),
        (
            head("CONNECT ghcr.io:443 HTTP/1.1", "Host: ghcr.io:443"),
            Reason.CONNECT,
            Reason.KNOWN_REGISTRY,
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.HTTP2, Pass()),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Reason.NEITHER, Pass()),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Reason.NEITHER, Pass()),
    ],
)
def test_a_connection_to_a_permitted_address_by_its_first_bytes(
    stream: bytes, in_strict: object, in_registries: object
) -> None:
    opening = read(stream)
    assert not isinstance(opening, Unfinished)
    for judge, expected in ((strict, in_strict), (registries, in_registries)):
        match judge(opening):
            case Permit(entry_id):
                assert entry_id == expected
            case Refuse(reason):
                assert reason == expected
            case other:
                assert other == expected


# -- whatever is sent ----------------------------------------------------------------------------

USUAL_NAMES = [
    "registry-1.docker.io",
    "ghcr.io",
    "us.pkg.dev",
    "late.example",
    "proxy.corp.example",
]
ODD_NAMES = ["10.0.0.7", "ghcr.io.", "", "..", "x" * 300, "\u0130", "2001:db8::1"]
NAMES = st.sampled_from([*USUAL_NAMES, *ODD_NAMES])
HOSTS = NAMES | st.none()
PORTS = st.sampled_from([80, 443, 3128, 5000, None])
OPENINGS = st.one_of(
    st.builds(tls, HOSTS, encrypted=st.booleans()),
    st.builds(http, HOSTS, PORTS, st.sampled_from(Target), api=st.booleans()),
    st.builds(BrokenRequest, st.just(""), st.tuples(NAMES), st.booleans()),
    st.sampled_from([Ssl2Hello(), BrokenHello(""), Other(""), Http2Preface()]),
)
ADDRESSES = st.sampled_from([*ANSWERED, NOBODYS, "10.0.0.7", "2001:db8::1"])


@given(OPENINGS, ADDRESSES, st.sampled_from([80, 443, 3128, 5000]), st.sampled_from(ScopeName))
def test_strict_opens_nothing_that_registries_refuses(
    opening: Opening, address: str, port: int, scope: ScopeName
) -> None:
    narrow, wide = (judge(opening, address, port, scope) for judge in (strict, registries))

    assert isinstance(narrow, Permit | Refuse)
    if isinstance(narrow, Permit):
        assert wide == narrow
        by_name = narrow.name in ANSWERED.get(address, set())
        assert by_name or narrow.via == PROXY or narrow.entry_id == ADDRESS


def test_of_two_entries_the_first_of_the_policy_has_the_flow() -> None:
    body = '[[allow]]\nhost = "*.pkg.dev"\n\n[[allow]]\nhost = "eu.pkg.dev"\n'
    rules = ServerNames(dict(zip((40, 30), policy(body).entries, strict=True)), shipped())
    connection = Connection(ip_address(CDN), 443, ScopeName.HOST, ScopeMode.STRICT, {"eu.pkg.dev"})

    assert rules.judge(tls("eu.pkg.dev"), connection) == Permit(40, "eu.pkg.dev")
