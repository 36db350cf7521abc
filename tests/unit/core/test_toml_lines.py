"""Each key is found on the line where it stands, however TOML lets people write it."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.toml_lines import Path, index

TEXT = '''\
# a comment with [brackets] and "quotes"
version = 1 # x = [
a."b c".'d.e' = { x = 1, y.z = [1, 2] }
long = """
line = 4 \\""" ""
[not.a.table]"""  # the end
raw = \'\'\'
q = 1 \'\'
\'\'\'\'\'
[[allow]]
host = "a # b"
ports = [ # ]
  80, "a,]",
  [1,
   2],
]
[allow.sub]
k = 1979-05-27 07:32:00
[[allow]]
"ho\\u0073t" = 'y'
[[allow.inner]]
v = true
[ z . y ]
w.x = 1
w.v = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("version",), 2),
        (("a", "b c", "d.e", "y", "z", 1), 3),
        (("long",), 4),
        (("raw",), 7),
        (("allow", 0), 10),
        (("allow", 0, "host"), 11),
        (("allow", 0, "ports"), 12),
        (("allow", 0, "ports", 1), 13),
        (("allow", 0, "ports", 2, 1), 15),
        (("allow", 0, "sub", "k"), 18),
        (("allow", 1), 19),
        (("allow", 1, "host"), 20),
        (("allow", 1, "inner", 0, "v"), 22),
        (("z",), 23),
        (("z", "y", "w", "v"), 25),
    ],
)
def test_a_key_has_the_line_where_it_is_written(path: Path, line: int) -> None:
    assert index(TEXT).line(path) == line


def test_a_key_that_is_not_there_has_the_line_of_the_table_around_it() -> None:
    lines = index(TEXT)
    assert lines.line(("allow", 1, "ports", 3)) == 19
    assert lines.line(("z", "y", "missing")) == 23
    assert lines.line(("missing",)) == 1


def test_windows_line_ends_count_once() -> None:
    assert index("a = 1\r\n\r\nb = 2\r\n").line(("b",)) == 3


@pytest.mark.parametrize(
    "text",
    ["a = [1, = ]", "[a", "a", "=", "a = {b", "[[[[", 'a = """x', '"\\q" = 1', "a = [" * 9999],
)
def test_what_is_no_toml_ends_the_search_and_nothing_else(text: str) -> None:
    assert index(f"first = 1\n{text}").line(("first",)) == 1


def test_a_key_of_thousands_of_parts_costs_little() -> None:
    lines = index(".".join(["a"] * 2000) + " = 1")
    assert max(map(len, lines.lines)) == 8


KEY = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=6)
SCALAR = st.integers(-9, 9).map(str) | st.booleans().map(lambda b: str(b).lower())
STRING = st.text(alphabet="ab\"'\\#[]{}=,\n é", max_size=12)


def basic(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def multi(text: str) -> str:
    return '"""' + text.replace("\\", "\\\\").replace('""', '"\\"') + '"""'


VALUE = st.recursive(
    SCALAR | STRING.map(basic) | STRING.map(multi),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[ # ]\n{', # ,'.join(_lines(items))}\n]")
        | st.dictionaries(KEY.map(basic), inner, max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{k} = {v}" for k, v in pairs.items()) + "}"
        )
    ),
    max_leaves=8,
)


def _lines(items: list[str]) -> list[str]:
    return [f"\n{item}" for item in items]


def leaves(value: object, path: Path = ()) -> list[Path]:
    if isinstance(value, dict):
        return [
            leaf
            for key, item in value.items()
            for leaf in [(*path, key), *leaves(item, (*path, key))]
        ]
    if isinstance(value, list):
        return [
            leaf for n, item in enumerate(value) for leaf in [(*path, n), *leaves(item, (*path, n))]
        ]
    return []


@given(st.lists(st.tuples(KEY.map(basic), VALUE), max_size=5, unique_by=lambda pair: pair[0]))
def test_it_finds_every_key_that_tomllib_reads_and_no_other(pairs: list[tuple[str, str]]) -> None:
    text = "".join(f"# note\n{key} = {value}\n" for key, value in pairs)
    data = tomllib.loads(text)
    lines = index(text).lines
    assert set(lines) == {path for path in leaves(data) if len(path) <= 8 or path in lines}
    # The first line of each top-level key is known from the way that the text was put together.
    at = 1
    for (key, value), name in zip(pairs, data, strict=True):
        assert lines[(name,)] == at + 1
        at += 1 + f"{key} = {value}\n".count("\n")
