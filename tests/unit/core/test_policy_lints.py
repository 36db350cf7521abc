"""What `ramfw check` says of hosts that are permitted one by one."""

from __future__ import annotations

import pytest

from ramfw.core.catalog import shipped
from ramfw.core.policy_parser import parse
from ramfw.errors import Problem


def warnings(*hosts: str) -> list[Problem]:
    text = "version = 1\n" + "".join(f'[[allow]]\nhost = "{host}"\n' for host in hosts)
    return list(parse(text, "policy.toml", shipped())[1])


@pytest.mark.parametrize(
    ("host", "danger", "instead"),
    [
        ("storage.googleapis.com", "every bucket of Google Cloud Storage", 'registry = "gcr.io"'),
        ("s3.amazonaws.com", "every bucket of Amazon S3", "BUCKET.s3.REGION.amazonaws.com"),
        ("s3.eu-west-1.amazonaws.com", "every bucket of the region", "BUCKET.s3.REGION"),
        ("ttl.sh", "anyone can push to it without an account", "the organization's own"),
        ("*.azurecr.io", "anyone can have a registry", "`tenant`"),
        ("*.jfrog.io", "every tenant of JFrog", 'registry = "jfrog.io"'),
        ("*.dkr.ecr.eu-west-1.amazonaws.com", "every AWS account is below it", "`account`"),
        ("*.r2.cloudflarestorage.com", "every customer of Cloudflare R2", "ramfw discover"),
    ],
)
def test_a_broad_name_has_its_danger_and_what_to_use_instead(
    host: str, danger: str, instead: str
) -> None:
    (warning,) = warnings(host)
    assert warning.key == "allow[0].host"
    assert warning.message.startswith(f"`{host}`: {danger}")
    assert instead in warning.hint


def test_a_registry_without_its_sign_in_is_said_with_the_entry_to_write() -> None:
    (warning,) = warnings("registry-1.docker.io")
    assert "without `auth.docker.io`, where it sends clients to sign in" in warning.message
    assert warning.hint == 'registry = "docker.io"'


def test_a_registry_without_its_layers_is_said() -> None:
    (warning,) = warnings("registry-1.docker.io", "auth.docker.io")
    assert "production.cloudfront.docker.com" in warning.message
    assert "no layers are pulled" in warning.message


def test_one_whose_hosts_are_all_there_could_be_an_entry() -> None:
    (warning,) = warnings("ghcr.io", "pkg-containers.githubusercontent.com")
    assert "keeps the hosts of GitHub Container registry current" in warning.message


def test_a_wildcard_that_covers_the_sign_in_counts() -> None:
    said = warnings("registry-1.docker.io", "*.docker.io", "production.cloudfront.docker.com")
    assert not any("sign in" in warning.message for warning in said)


def test_the_entry_to_write_has_what_the_name_says() -> None:
    (warning,) = warnings("123456789012.dkr.ecr.eu-west-1.amazonaws.com")
    assert warning.hint.splitlines() == [
        'registry = "ecr"', 'account = "123456789012"', 'region = "eu-west-1"',
    ]  # fmt: skip
    (warning,) = warnings("registry.cn-hangzhou.aliyuncs.com")
    assert 'auth_region = "cn-hangzhou"  # an example' in warning.hint


def test_a_host_for_layers_alone_belongs_to_an_entry() -> None:
    (warning,) = warnings("registry-storage.suse.com")
    assert "the catalogue has it with `registry.suse.com`" in warning.message


def test_one_that_no_entry_can_permit_says_why() -> None:
    (warning,) = warnings("abc.eu.container-registry.ovh.net")
    assert "OVHcloud" in warning.message


@pytest.mark.parametrize("host", ["nexus.corp.example", "*.pkg.dev", "*.corp.example"])
def test_an_ordinary_host_has_no_warning(host: str) -> None:
    assert warnings(host) == []
