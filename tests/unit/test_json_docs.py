"""What docs/json.md documents is what the commands print: keys and types, both ways."""

from __future__ import annotations

import json
import re
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ramfw import doctor
from ramfw.cli import main
from ramfw.core.explain import explain, explain_policy
from ramfw.core.learning import Attempt, Learning, suggestion
from ramfw.core.policy import ScopeName
from tests.unit.example_engine import DNS, NOW, POLICY, example, example_status
from tests.unit.fake_checker import Willing
from tests.unit.fake_daemon import fake_daemon
from tests.unit.observe.registry_server import Registry, reply, serving

PAGE = (Path(__file__).parents[2] / "docs/json.md").read_text()
EXAMPLES = {
    name: json.loads(text)
    for name, text in re.findall(r"```json (\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
}
NULLABLE = set(re.findall(r"`(\w+)`", PAGE.partition("May be null:")[2].partition("Nothing")[0]))


def differences(real: Any, documented: Any, where: str = "$") -> list[str]:  # noqa: ANN401
    """How the shape of a value differs from the documented example's."""
    if real is None:
        key = where.rpartition(".")[2]
        return [] if key in NULLABLE else [f"{where} is null"]
    if isinstance(documented, dict) and isinstance(real, dict):
        found = [f"{where}.{key} is not there" for key in documented.keys() - real.keys()]
        found += [f"{where}.{key} is not documented" for key in real.keys() - documented.keys()]
        for key in real.keys() & documented.keys():
            found += differences(real[key], documented[key], f"{where}.{key}")
        return found
    if isinstance(documented, list) and isinstance(real, list):
        return [one for item in real for one in differences(item, documented[0], where)]
    if type(real) is not type(documented):
        return [f"{where} is {type(real).__name__}, not {type(documented).__name__}"]
    return []


def run(*arguments: str) -> Any:  # noqa: ANN401
    return json.loads(CliRunner().invoke(main, arguments).stdout)


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return str(path)


def test_each_command_with_json_is_documented() -> None:
    commands = dict(main.commands)
    for group, command in main.commands.items():
        if isinstance(command, click.Group):
            commands |= {f"{group}_{name}": one for name, one in command.commands.items()}
    with_json = {
        name
        for name, command in commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    # `search` prints what `list` prints.
    assert set(EXAMPLES) == with_json - {"catalog_search"} | {"error"}


def test_the_comparison_sees_a_key_too_many_a_key_too_few_and_another_type() -> None:
    documented = {"a": 1, "b": [{"c": "x"}]}
    real = {"a": True, "b": [{"c": "x"}, {"d": None}]}
    assert sorted(differences(real, documented)) == [
        "$.a is bool, not int",
        "$.b.c is not there",
        "$.b.d is not documented",
    ]
    assert differences({"a": None, "b": []}, documented) == ["$.a is null"]


def test_status(tmp_path: Path) -> None:
    facts = example_status()
    with fake_daemon(tmp_path / "s", status={"result": facts}):
        real = run("--control", str(tmp_path / "s"), "status", "--json")
    assert real == facts
    assert real["entries"][0]["hosts"][0]["addresses"]
    assert real["problems"]
    assert differences(real, EXAMPLES["status"]) == []


@pytest.mark.parametrize(
    "query", ["ghcr.io/x", "alpine", "nexus.corp.example", "a.wild.example", DNS, "198.51.100.7"]
)
def test_explain(query: str) -> None:
    running = example()
    for real in (explain(running.engine, query, NOW), explain_policy(running.policy, query)):
        assert real["hosts"]
        assert differences(real, EXAMPLES["explain"]) == []


def test_log_and_a_line_of_it_that_is_followed(tmp_path: Path) -> None:
    facts = dict(EXAMPLES["log"])
    seen = {k: v for k, v in facts["refusals"][0].items() if k != "container"}
    answer = {"result": {**facts, "refusals": [seen, {**seen, "uid": None}]}}
    with fake_daemon(tmp_path / "s", log=answer):
        real = run("--control", str(tmp_path / "s"), "log", "--json")
    assert len(real["refusals"]) == 2
    assert differences(real, EXAMPLES["log"]) == []
    assert set(EXAMPLES["status"]["refusals"][0]) == set(seen)


def test_check_of_a_good_policy_and_of_a_bad_one(policy: str, tmp_path: Path) -> None:
    good = run("check", policy, "--json")
    assert good["valid"]
    assert good["warnings"]
    assert differences(good, EXAMPLES["check"]) == []
    bad_file = tmp_path / "bad.toml"
    bad_file.write_text('version = 1\n[[allow]]\nhots = "ghcr.io"\n')
    bad = run("check", str(bad_file), "--json")
    assert not bad["valid"]
    assert bad["problems"]
    assert differences(bad, EXAMPLES["check"]) == []


def test_reload_and_its_error(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with fake_daemon(path, reload={"result": {"in_force": True, "warnings": ["p:1: doubtful"]}}):
        assert (
            differences(run("reload", "--json", "--control", str(path)), EXAMPLES["reload"]) == []
        )
    path.unlink()
    problem = {"source": "p", "line": 1, "key": "", "message": "is bad", "hint": ""}
    with fake_daemon(path, reload={"error": "p:1: is bad", "problems": [problem]}):
        refused = run("reload", "--json", "--control", str(path))
    assert refused["problems"] == [problem]
    assert differences(refused, EXAMPLES["error"]) == []


def test_an_error_where_no_daemon_runs(tmp_path: Path) -> None:
    real = run("status", "--json", "--control", str(tmp_path / "nobody"))
    assert "not running" in real["error"]
    assert differences(real, EXAMPLES["error"]) == []


def test_doctor(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # No dry run in the machine's own network namespace: the real one is asked in test_doctor.py.
    examine = partial(doctor.examine, open_checker=Willing)
    monkeypatch.setattr(doctor, "examine", examine)
    real = run("doctor", "--json", "--policy", policy)
    assert real["findings"]
    assert differences(real, EXAMPLES["doctor"]) == []


@pytest.mark.parametrize("arguments", [("list",), ("search", "google")])
def test_catalog_list_and_search(arguments: tuple[str, ...]) -> None:
    real = run("catalog", *arguments, "--json")
    assert real["registries"]
    assert differences(real, EXAMPLES["catalog_list"]) == []


@pytest.mark.parametrize("registry", ["docker.io", "azurecr.io", "nexus", "docker.scarf.sh"])
def test_catalog_show(registry: str) -> None:
    real = run("catalog", "show", registry, "--json")
    assert real["hosts"]
    assert differences(real, EXAMPLES["catalog_show"]) == []


def test_catalog_hosts() -> None:
    real = run("catalog", "hosts", "lscr.io", "--json")
    assert {host["registry"] for host in real["hosts"]} == {"lscr.io", "ghcr.io"}
    assert differences(real, EXAMPLES["catalog_hosts"]) == []


def test_discover_and_verify() -> None:
    registry = Registry()
    with serving(registry) as server:
        realm = f'Bearer realm="http://127.0.0.1:{server.port}/token"'
        registry.routes |= {
            "GET /v2/": reply(401, WWW_Authenticate=realm),
            "GET /token": reply(200, b'{"token": "t"}'),
        }
        image = f"127.0.0.1:{server.port}/org/app:1"
        real = run("discover", "--plain-http", image, "--json")
        held = run("catalog", "verify", "quay.io", "--plain-http", "--image", image, "--json")
    assert [host["role"] for host in real["hosts"]] == ["api", "auth", "blobs"]
    assert differences(real, EXAMPLES["discover"]) == []
    assert held["drift"] == ["127.0.0.1"]
    assert differences(held, EXAMPLES["catalog_verify"]) == []


def test_suggest(tmp_path: Path) -> None:
    learning = Learning()
    address = ip_address("203.0.113.1")
    names = ("quay.io", "other.example")
    learning.note(Attempt(ScopeName.ENGINES, address, 443, "tcp", names, "uid 0"), 1.0)
    facts = suggestion(learning, example().policy, 2.0)
    with fake_daemon(tmp_path / "s", suggest={"result": facts}):
        real = run("suggest", "--json", "--control", str(tmp_path / "s"))
    assert real == facts
    assert real["entries"]
    assert differences(real, EXAMPLES["suggest"]) == []
