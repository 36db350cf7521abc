"""The direction of data, held by reading imports: observe -> engine -> program."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "ramfw"
MODULES = sorted(ROOT.rglob("*.py"))

NOT_IN_THE_CORE = {
    "asyncio": "the core makes no tasks: completions come back as events",
    "logging": "the core says what it has to say in a Note",
    "os": "the core reads nothing of the machine",
    "pathlib": "the core opens no file",
    "random": "jitter is an argument",
    "socket": "the core sends nothing",
    "subprocess": "the core runs nothing",
    "sys": "the core reads nothing of the process",
    "threading": "the core is one state machine, called from one place",
    "time": "time is an argument",
}

MAY_ALL_THE_SAME = {
    "fqdn.py": {"pathlib"},  # the public suffix list is a file of its package
    "nfnetlink.py": {"socket"},  # for numbers such as AF_INET
}

MAY_IMPORT = {
    "core": {"core", "errors"},
    "wire": {"wire", "core", "errors"},
    "observe": {"observe", "wire", "core", "errors"},
    "program": {"program", "wire", "core", "errors"},
}


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_layer_imports_only_what_is_below_it(path: Path) -> None:
    allowed = MAY_IMPORT.get(layer(path))
    if allowed is None:
        return
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("ramfw.")}
    assert ours <= allowed, f"{path.name} imports {sorted(ours - allowed)}"


@pytest.mark.parametrize(
    "path", [p for p in MODULES if layer(p) in ("core", "wire")], ids=lambda path: path.stem
)
def test_core_and_wire_touch_no_clock_socket_or_file(path: Path) -> None:
    top = {name.split(".")[0] for name in imports(path)}
    allowed = MAY_ALL_THE_SAME.get(path.name, set())
    for banned in sorted(top & set(NOT_IN_THE_CORE) - allowed):
        pytest.fail(f"{path.name} imports {banned}: {NOT_IN_THE_CORE[banned]}")


def test_the_core_never_asks_what_time_it_is() -> None:
    for path in (p for p in MODULES if layer(p) in ("core", "wire")):
        called = {
            node.func.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        assert not called & {"now", "today", "utcnow"}, path.name


def test_only_the_daemon_wires() -> None:
    both = {
        path.name
        for path in MODULES
        if any(name.startswith("ramfw.observe") for name in imports(path))
        and any(name.startswith("ramfw.program") for name in imports(path))
    }
    assert both <= {"daemon.py", "doctor.py"}


def test_only_the_command_prints() -> None:
    for path in MODULES:
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in calls, f"{path.name} prints; only ramfw/cli may, through click"
