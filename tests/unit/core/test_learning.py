"""What would have been refused becomes a policy: registries first, then hosts, harm in comments."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.catalog import shipped
from ramfw.core.events import Reason, Refusal, RefusalsSeen
from ramfw.core.learning import MOST_GATHERED, MOST_WHO, Attempt, Learning, suggestion
from ramfw.core.policy import Policy, ScopeName
from ramfw.core.policy_parser import parse
from ramfw.render.suggestion import suggestion as rendered
from ramfw.render.text import Page
from tests.unit.core.driver import Driver

AUDIT = '[enforcement]\nmode = "audit"\n'


def policy(text: str = "") -> Policy:
    return parse(f"version = 1\n{AUDIT}{text}", "", shipped())[0]


def attempt(name: str = "", address: str = "203.0.113.1", **more: Any) -> Attempt:  # noqa: ANN401
    names = (name, *more.pop("others", ())) if name else ()
    return Attempt(
        **{
            "scope": ScopeName.ENGINES,
            "address": ip_address(address),
            "port": 443,
            "protocol": "tcp",
            "names": names,
            "who": "uid 0",
            **more,
        }
    )


def suggested(*attempts: Attempt, text: str = "", now: float = 10.0) -> dict[str, Any]:
    learning = Learning()
    for one in attempts:
        learning.note(one, 1.0)
    return suggestion(learning, policy(text), now)


def lines(facts: dict[str, Any]) -> list[str]:
    return [entry["lines"].removeprefix("[[allow]]\n") for entry in facts["entries"]]


def test_a_pull_becomes_one_entry_for_its_registry() -> None:
    facts = suggested(
        attempt("production.cloudfront.docker.com"),
        attempt("registry-1.docker.io"),
        attempt("auth.docker.io"),
        attempt(
            "registry-1.docker.io",
            scope=ScopeName.CONTAINERS,
            who="172.17.0.2",
        ),
    )
    assert lines(facts) == ['registry = "docker.io"']
    (entry,) = facts["entries"]
    assert entry["connections"] == 4
    assert entry["scopes"] == ["engines", "containers"]
    assert set(entry["who"]) == {"uid 0", "172.17.0.2"}
    assert entry["reached_for"][0]["host"] == "registry-1.docker.io"
    assert entry["reached_for"][0]["last_ago"] == 9.0


def test_account_and_region_come_from_the_name() -> None:
    facts = suggested(
        attempt("123456789012.dkr.ecr.eu-west-1.amazonaws.com"),
        attempt("prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com"),
    )
    assert lines(facts) == [
        'registry = "ecr"\naccount = "123456789012"\nregion = "eu-west-1"',
    ]


def test_catalogue_entries_come_first_and_then_what_is_wanted_most() -> None:
    facts = suggested(
        attempt("nexus.corp.example", port=8443),
        attempt("often.example"),
        attempt("often.example"),
        attempt("ghcr.io"),
    )
    assert lines(facts) == [
        'registry = "ghcr.io"',
        'host = "often.example"',
        'host = "nexus.corp.example"\nports = [8443]',
    ]


def test_a_host_for_layers_alone_is_its_only_owners_entry_or_itself() -> None:
    assert lines(suggested(attempt("registry-storage.suse.com"))) == [
        'registry = "registry.suse.com"'
    ]
    # The CDN of Quay has the layers of several registries.
    assert lines(suggested(attempt("cdn01.quay.io"))) == ['host = "cdn01.quay.io"']
    both = suggested(attempt("cdn01.quay.io"), attempt("registry.redhat.io"))
    assert lines(both) == ['registry = "registry.redhat.io"']


def test_a_registry_on_another_port_is_a_host_on_that_port() -> None:
    assert lines(suggested(attempt("ghcr.io", port=5000))) == ['host = "ghcr.io"\nports = [5000]']


def test_a_host_that_is_off_belongs_in_the_entry_that_is_there() -> None:
    facts = suggested(attempt("cdn77.quay.io"), text='[[allow]]\nregistry = "quay.io"\n')
    (entry,) = facts["entries"]
    assert entry["lines"] == 'include = ["*.quay.io"]'
    assert "belongs in the entry `quay.io` (line 4)" in entry["doubt"]


def test_what_the_policy_permits_by_now_is_no_longer_suggested() -> None:
    tried = (attempt("ghcr.io"), attempt(port=5000), attempt("nexus.corp.example", port=8443))
    text = (
        '[[allow]]\nregistry = "ghcr.io"\n[[allow]]\naddress = "203.0.113.0/24"\nports = [5000]\n'
        '[[allow]]\nhost = "nexus.corp.example"\n'
    )
    assert lines(suggested(*tried, text=text)) == ['host = "nexus.corp.example"\nports = [8443]']
    for_engines = '[[allow]]\nregistry = "ghcr.io"\nscopes = ["engines"]\n'
    both = (attempt("ghcr.io"), attempt("ghcr.io", scope=ScopeName.CONTAINERS))
    assert lines(suggested(*both, text=for_engines)) == ['registry = "ghcr.io"']
    assert lines(suggested(both[0], text=for_engines)) == []


@pytest.mark.parametrize(
    ("tried", "doubt"),
    [
        (attempt("storage.googleapis.com"), "every bucket of Google Cloud Storage"),
        (attempt("ttl.sh"), "anyone can push to it"),
        (attempt("docker.scarf.sh"), "any publisher of Scarf chooses"),
        (attempt(address="169.254.169.254"), "cloud metadata service addresses are never"),
        (attempt(), "no name was seen for it"),
        (attempt(address="127.0.0.1", port=3128), "no name was seen for it"),
        (attempt("a_b.example"), "an underscore is not permitted"),
        (attempt("a.example", protocol="udp"), "UDP 443 is never permitted"),
        (attempt("a.example", protocol="udp", port=514), "write the address"),
        (attempt("a.example", protocol="132", port=80), "protocol 132 cannot be permitted"),
    ],
)
def test_what_could_do_harm_is_a_comment_with_its_reason(tried: Attempt, doubt: str) -> None:
    facts = suggested(tried)
    (entry,) = facts["entries"]
    assert doubt in entry["doubt"]
    shown = rendered(facts, Page(80))
    assert all(line.startswith("#") or not line for line in shown)


def test_other_names_of_an_address_are_told() -> None:
    facts = suggested(attempt("a.example", others=("b.example",)))
    assert facts["entries"][0]["reached_for"][0]["other_names"] == ["b.example"]
    assert "# to a.example:443 (or b.example)" in rendered(facts, Page(80))


def test_what_is_shown_is_a_policy() -> None:
    """As it stands, after `version = 1`: every line of it is TOML, and nothing in it is refused."""
    facts = suggested(
        attempt("registry-1.docker.io"),
        attempt("nexus.corp.example", port=8443),
        attempt("ttl.sh"),
        attempt(address="2001:db8::1", port=5000),
    )
    text = "\n".join(["version = 1", *rendered(facts, Page(40))])
    found, _ = parse(text, "", shipped())
    assert [entry.label for entry in found.entries] == ["docker.io", "nexus.corp.example:8443"]
    assert "# [[allow]]" in text


def test_nothing_gathered_is_said() -> None:
    assert rendered(suggested(), Page(80)) == [
        "Nothing would have been refused since the daemon began."
    ]
    enforced = suggestion(Learning(), parse("version = 1", "", shipped())[0], 0.0)
    assert 'Write mode = "audit"' in " ".join(rendered(enforced, Page(80)))


def test_a_million_names_do_not_fill_the_memory() -> None:
    learning = Learning()
    for number in range(MOST_GATHERED + 100):
        learning.note(attempt(f"host{number}.example"), float(number))
        learning.note(attempt("often.example", who=f"uid {number}"), float(number))
    assert len(learning) == MOST_GATHERED
    assert learning.forgotten == 101
    often = next(one for one in learning if one.where == "often.example")
    assert often.count == MOST_GATHERED + 100
    assert len(often.who) == MOST_WHO
    text = " ".join(rendered(suggestion(learning, policy(), 0.0), Page(80)))
    assert "no room for 101 other names" in text.replace("# ", "")


NAMES = st.sampled_from(
    ["", "ghcr.io", "ttl.sh", "s3.amazonaws.com", "registry.cn-hangzhou.aliyuncs.com",
     "cdn.quay.io", "x.pkg.dev", "a.example", "contoso.westeurope.data.azurecr.io"]
)  # fmt: skip
ATTEMPTS = st.builds(
    attempt,
    NAMES,
    st.sampled_from(["203.0.113.1", "2001:db8::1", "127.0.0.1", "169.254.169.254"]),
    port=st.sampled_from([443, 80, 5000]),
    protocol=st.sampled_from(["tcp", "udp", "132"]),
)


@given(st.lists(ATTEMPTS, max_size=20))
def test_every_suggestion_is_toml_without_a_wildcard_and_counts_each_attempt_once(
    attempts: list[Attempt],
) -> None:
    facts = suggested(*attempts)
    assert sum(entry["connections"] for entry in facts["entries"]) == len(attempts)
    text = "\n".join(["version = 1", *rendered(facts, Page(80))]) if attempts else "version = 1"
    for entry in tomllib.loads(text).get("allow", []):
        assert "*" not in str(entry)
    parse(text, "", shipped())


def test_the_engine_gathers_what_audit_mode_lets_pass_and_nothing_that_was_refused() -> None:
    driver = Driver()
    driver.start(policy())
    let_pass = Refusal(
        ScopeName.ENGINES,
        Reason.NOT_PERMITTED,
        audited=True,
        source=ip_address("192.0.2.2"),
        source_port=40000,
        destination=ip_address("203.0.113.20"),
        port=443,
        protocol="tcp",
        uid=0,
        names=("ghcr.io",),
    )
    driver.tell(RefusalsSeen((let_pass, let_pass, replace(let_pass, audited=False))))
    (gathered,) = driver.engine.learning
    assert (gathered.where, gathered.count, gathered.last) == ("ghcr.io", 2, driver.now)
    assert list(gathered.who) == ["uid 0"]
