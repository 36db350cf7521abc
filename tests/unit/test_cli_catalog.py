"""`ramfw catalog` as people meet it: tables for the eye, sources shown, bad usage mended."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ramfw.cli import main
from tests.unit.core.catalogs import REGISTRY

PIPED_WIDTH = 80


def ramfw(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["catalog", *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(autouse=True)
def _no_policy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAMFW_POLICY", str(tmp_path / "none.toml"))


def test_the_list_has_every_registry_and_what_an_entry_takes() -> None:
    lines = ramfw("list").stdout.splitlines()
    assert lines[0].split() == ["ID", "HOSTS", "TAKES", "NAME"]
    assert any(line.split()[:4] == ["ecr", "6", "account,", "region"] for line in lines)
    assert any(line.startswith("docker.scarf.sh") for line in lines)
    assert "catalogue 2026-" in lines[-1]
    assert max(map(len, lines)) <= PIPED_WIDTH


def test_a_search_that_finds_nothing_says_so() -> None:
    assert "No registry of the catalogue has this word." in ramfw("search", "zzz").stdout
    assert ramfw("search", "starport").stdout.count("\necr") == 2


def test_show_has_each_host_its_source_and_why_one_is_off() -> None:
    shown = " ".join(ramfw("show", "azurecr.io").stdout.split())
    assert "+ <tenant>.azurecr.io:443 (api, auth: pull and push)" in shown
    assert "x *.blob.core.windows.net:443" in shown
    assert "never permitted: anyone can have a storage account" in shown
    assert "instead: dedicated data endpoints" in shown
    assert "vendor, 2026-11-23: https://learn.microsoft.com" in shown
    assert 'registry = "azurecr.io" tenant = "contoso"' in shown
    docker = " ".join(ramfw("show", "docker.io").stdout.split())
    assert "deprecated: since 2026-06-08" in docker
    assert "permitted all the same: JFrog's support names the bucket" in docker


def test_the_hosts_of_an_entry_are_printed_one_after_the_other() -> None:
    filled = ramfw("hosts", "ecr", "account=123456789012", "region=eu-west-1").stdout
    assert filled.startswith(
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com:443 (api: pull and push)"
    )
    by_name = ramfw("hosts", "123456789012.dkr.ecr.eu-west-1.amazonaws.com").stdout
    assert by_name == filled
    nexus = ramfw("hosts", "nexus", "host=n.example", "ports=8082,8083").stdout
    assert nexus.startswith("n.example:8082,8083 (api: ")
    assert "of ghcr.io: pull" in ramfw("hosts", "lscr.io").stdout


def test_access_to_pull_leaves_hosts_out() -> None:
    assert "api.ecr-public" in ramfw("hosts", "public.ecr.aws").stdout
    assert "api.ecr-public" not in ramfw("hosts", "public.ecr.aws", "access=pull").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "dokcer.io"), "did you mean docker.io or ocir.io?"),
        (("show", "zzz"), "ramfw catalog list shows all"),
        (("hosts", "ecr"), "ecr needs account, an AWS account id of 12 digits"),
        (("hosts", "ecr", "account=1"), "account: `1` is not an AWS account id"),
        (("hosts", "docker.io", "region=x"), "docker.io takes no region"),
        (("hosts", "docker.io", "region"), "is not KEY=VALUE"),
        (("hosts", "docker.io", "access=read"), "access is one of both, pull"),
        (("hosts", "nexus", "host=n.example"), "nexus needs ports"),
        (("hosts", "nexus", "host=n.example", "ports=0"), "numbers from 1 to 65535"),
        (("hosts", "nexus", "host=n.example", "ports=" + "9" * 5000), "numbers from 1 to 65535"),
        (("hosts", "nexus", "ports=1", "host=*.example"), "a wildcard is not possible here"),
    ],
)
def test_bad_usage_says_what_is_meant(arguments: tuple[str, ...], words: str) -> None:
    result = ramfw(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_an_organizations_catalogue_is_shown_in_place_of_the_shipped_one(tmp_path: Path) -> None:
    own, policy = tmp_path / "catalog.toml", tmp_path / "policy.toml"
    own.write_text(REGISTRY)
    policy.write_text(f'version = 1\n[catalog]\nfile = "{own}"\n')
    shown = ramfw("list", "--policy", policy).stdout
    assert "one.example" in shown
    assert "docker.io" not in shown
    own.write_text("broken")
    shown = " ".join(ramfw("list", "--policy", policy).stdout.split())
    assert "docker.io" in shown
    assert "The organization's catalogue is not used" in shown
