"""Entries with `registry`: what they need, what they permit, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ramfw.core.catalog import load, shipped
from ramfw.core.policy import Entry, Policy
from ramfw.core.policy_parser import parse
from ramfw.errors import PolicyError, Problem
from tests.unit.core.catalogs import REGISTRY

ECR = 'registry = "ecr"\naccount = "123456789012"\nregion = "eu-west-1"'


def read(*entries: str) -> tuple[Policy, tuple[Problem, ...]]:
    text = "version = 1\n" + "".join(f"[[allow]]\n{entry}\n" for entry in entries)
    return parse(text, "policy.toml", shipped())


def only(entry: str) -> Entry:
    return read(entry)[0].entries[0]


def patterns(entry: str) -> set[str]:
    return {target.pattern for target in only(entry).targets}


def problem(*entries: str) -> Problem:
    with pytest.raises(PolicyError) as refused:
        read(*entries)
    (found,) = refused.value.problems
    return found


def warnings(*entries: str) -> list[str]:
    return [warning.message for warning in read(*entries)[1]]


def test_placeholders_are_filled_from_the_entry_and_name_it() -> None:
    entry = only(ECR)
    assert entry.label == "ecr 123456789012 eu-west-1"
    assert entry.registry == "ecr"
    assert {target.pattern for target in entry.targets} == {
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "123456789012.dkr-ecr.eu-west-1.on.aws",
        "api.ecr.eu-west-1.amazonaws.com",
        "ecr.eu-west-1.amazonaws.com",
        "ecr.eu-west-1.api.aws",
        "prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com",
    }


def test_two_accounts_share_the_hosts_that_all_accounts_share() -> None:
    policy, _ = read(ECR, ECR.replace("123456789012", "123456789013"))
    assert len(policy.entries) == 2


def test_the_same_account_twice_is_refused() -> None:
    assert "the same as the entry at line 2" in problem(ECR, ECR).message


@pytest.mark.parametrize(
    ("entry", "key", "words", "hint"),
    [
        (
            'registry = "ecr"\nregion = "eu-west-1"',
            "allow[0]",
            "`ecr` needs `account`: an AWS account id of 12 digits",
            'account = "123456789012"',
        ),
        (
            ECR.replace("123456789012", "1234"),
            "allow[0].account",
            "`1234` is not an AWS account id of 12 digits",
            'account = "123456789012"',
        ),
        (ECR.replace('"123456789012"', "123456789012"), "allow[0].account", "a string", ""),
        (ECR.replace("eu-west-1", "cn-north-1"), "allow[0].region", "is not an AWS region", ""),
        (ECR.replace("eu-west-1", "*"), "allow[0].region", "is not an AWS region", ""),
        (ECR + '\ntenant = "x"', "allow[0].tenant", "takes no `tenant`; it takes `account`", ""),
        (ECR + "\nports = [443]", "allow[0].ports", "takes no `ports`", ""),
        (ECR + '\nacount = "x"', "allow[0].acount", "did you mean `account`?", ""),
        ('registry = "nexus"\nports = [8082]', "allow[0]", "`nexus` needs `host`", ""),
        (
            'registry = "nexus"\nhost = "nexus.corp.example"',
            "allow[0]",
            "`nexus` needs `ports`",
            "ports = [8443]",
        ),
        (
            'registry = "nexus"\nhost = "nexus.corp.example"\nports = []',
            "allow[0].ports",
            "the list is empty",
            "ports = [8443]",
        ),
        (
            'registry = "harbor"\nhost = "*.corp.example"',
            "allow[0].host",
            "a wildcard is not possible here",
            'host = "harbor.corp.example"',
        ),
        (
            'registry = "docker.io"\nhost = "a.example"',
            "allow[0]",
            "has `registry` and `host`",
            "",
        ),
        (
            'registry = "docker.scarf.sh"',
            "allow[0].registry",
            "cannot be permitted: any publisher of Scarf",
            "",
        ),
        (
            'registry = "gcr.io"\ninclude = ["storage.googleapis.com"]',
            "allow[0].include[0]",
            "is too much: every bucket",
            "gcr.io serves its layers itself",
        ),
        (
            'registry = "docker.io"\nexclude = ["auth.docker.i"]',
            "allow[0].exclude[0]",
            "does not have `auth.docker.i` for this registry",
            'did you mean "auth.docker.io"?',
        ),
        (
            'registry = "lscr.io"\ninclude = ["evil.example"]',
            "allow[0].include[0]",
            "does not have `evil.example`",
            'host = "evil.example"',
        ),
        ('registry = "docker.io"\ninclude = ["a_b"]', "allow[0].include[0]", "an underscore", ""),
        (
            'registry = "docker.io"\naccess = "read"',
            "allow[0].access",
            "known are `both`, `pull`",
            "",
        ),
        (
            'registry = "dhi.io"\nexclude = ["dhi.io", "registry.scout.docker.com"]',
            "",
            "",
            "",
        ),
        (
            'registry = "mirror.gcr.io"\nexclude = ["mirror.gcr.io"]',
            "allow[0].exclude",
            "nothing is left of the registry",
            "",
        ),
    ],
)
def test_what_is_wrong_is_said_with_an_example(entry: str, key: str, words: str, hint: str) -> None:
    if not key:
        assert patterns(entry), "what it needs is left"
        return
    found = problem(entry)
    assert found.key == key
    assert words in found.message
    assert hint in found.hint


def test_an_unknown_registry_gets_the_nearest_ones() -> None:
    found = problem('registry = "ecr-x"')
    assert "`ecr-x` is not in the catalogue" in found.message
    assert found.hint.startswith('did you mean `registry = "ecr"`? Or `ecr-china`')


def test_where_the_organizations_catalogue_is_broken_that_is_why() -> None:
    broken = replace(shipped(), problem="/etc/c.toml: is no good")
    with pytest.raises(PolicyError, match=r"cannot be used: /etc/c\.toml: is no good"):
        parse('version = 1\n[[allow]]\nregistry = "corp"', "", broken)


def test_a_registry_on_ones_own_server_has_its_ports_and_its_bucket() -> None:
    entry = only(
        'registry = "harbor"\nhost = "Harbor.corp.example"\nports = [443, 8443]\n'
        'storage = "layers.s3.eu-west-1.amazonaws.com"'
    )
    assert entry.label == "harbor harbor.corp.example:443,8443"
    ports = {target.pattern: target.ports for target in entry.targets}
    assert ports == {
        "harbor.corp.example": (443, 8443),
        "layers.s3.eu-west-1.amazonaws.com": (443,),
    }


def test_include_and_exclude_change_single_hosts() -> None:
    entry = 'registry = "quay.io"\ninclude = ["*.quay.io"]\nexclude = ["cdn01.quay.io"]'
    assert "*.quay.io" in patterns(entry)
    assert "cdn01.quay.io" not in patterns(entry)


def test_what_changes_nothing_is_said() -> None:
    said = warnings('registry = "quay.io"\ninclude = ["cdn.quay.io"]\nexclude = ["*.quay.io"]')
    assert any("permitted without being included" in words for words in said)
    assert any("is not permitted anyway" in words for words in said)


def test_pull_alone_says_what_hosts_cannot_separate() -> None:
    said = warnings('registry = "docker.io"\naccess = "pull"')
    assert any(
        "`registry-1.docker.io`, `index.docker.io`: pushes go there too" in words for words in said
    )
    assert not any("pushes" in w for w in warnings('registry = "registry.k8s.io"\naccess = "pull"'))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('registry = "lscr.io"', "hands over to `ghcr.io`, whose hosts are permitted with it"),
        ('registry = "ttl.sh"', "anyone can push to it without an account"),
        (
            'registry = "registry.gitlab.com"',
            "through `gitlab.com`, all of gitlab.com can be reached",
        ),
        ('registry = "docker.pkg.github.com"', "goes away: replaced by ghcr.io"),
        (
            'registry = "registry.gitlab.com"\nexclude = ["gitlab.com"]',
            "no host for its sign-in is left: nothing can be pulled",
        ),
        ('registry = "docker.io"', "CloudFront"),
    ],
)
def test_what_is_to_be_known_of_a_registry_is_a_warning(entry: str, words: str) -> None:
    assert any(words in said for said in warnings(entry))


def test_a_quiet_registry_has_no_warning() -> None:
    assert warnings('registry = "nexus"\nhost = "nexus.corp.example"\nports = [8082]') == []


def test_an_organizations_catalogue_has_its_own_registries() -> None:
    own = load(REGISTRY, "/etc/ramfw/catalog.toml")
    policy, _ = parse('version = 1\n[[allow]]\nregistry = "one.example"', "", own)
    assert [target.pattern for target in policy.entries[0].targets] == ["registry.example"]
    assert policy.catalog is own
    with pytest.raises(PolicyError):
        parse('version = 1\n[[allow]]\nregistry = "docker.io"', "", own)
