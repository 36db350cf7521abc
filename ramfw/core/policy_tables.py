"""Typed reading of a parsed TOML document, collecting everything that is wrong with it.

Pure. A reader asks a `Table` for a key of a type; what is missing comes back as None, what is
wrong comes back as None too and is in the `Report`, with its line, its dotted key and the nearest
right word. Nothing here knows what a policy means.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from ramfw.core.toml_lines import Path, TomlLines
from ramfw.errors import Problem

Word = TypeVar("Word", bound=StrEnum)

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_MAX_SHOWN = 80
_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    list: "an array",
    dict: "a table",
}


def dotted(path: Path) -> str:
    """A path as people write it: `allow[2].host`, where arrays count from 0."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else f'"{shown(part)}"'
            text += f".{key}" if text else key
    return text


def shown(text: str) -> str:
    """A text from the file, safe on a terminal and short."""
    safe = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:_MAX_SHOWN])
    return safe if len(text) <= _MAX_SHOWN else f"{safe}…"


def kind(value: object) -> str:
    """The type of a value in TOML's words."""
    return _KINDS.get(type(value), "a date or time")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant; None if none is near."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1)
    return close[0] if close else None


class Report:
    """What is wrong with one text, and what is doubtful in it."""

    def __init__(self, source: str, lines: TomlLines) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self._source = source
        self._lines = lines

    def error(self, path: Path, message: str, hint: str = "") -> None:
        self.errors.append(self._problem(path, message, hint))

    def warn(self, path: Path, message: str, hint: str = "") -> None:
        self.warnings.append(self._problem(path, message, hint))

    def line(self, path: Path) -> int:
        return self._lines.line(path)

    def _problem(self, path: Path, message: str, hint: str) -> Problem:
        return Problem(self._source, self._lines.line(path), dotted(path), message, hint)


class Table:
    """One table of the document."""

    def __init__(self, report: Report, path: Path, data: dict[str, object]) -> None:
        self.report = report
        self.path = path
        self._data = data

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def peek(self, key: str) -> object:
        """What stands there, whatever it is; nothing is reported."""
        return self._data.get(key)

    def at(self, key: str) -> Path:
        """The path of one of its keys."""
        return (*self.path, key)

    def error(self, key: str, message: str, hint: str = "") -> None:
        self.report.error(self.at(key), message, hint)

    def only(self, known: Iterable[str], misplaced: Mapping[str, str] | None = None) -> None:
        """Refuse every key that is not known; `misplaced` has the words for some of them."""
        known = tuple(known)
        for key in self._data:
            if key in known:
                continue
            if misplaced and key in misplaced:
                self.error(key, misplaced[key])
                continue
            near = nearest(key, known)
            meant = f"did you mean `{near}`?" if near else f"known are {_list(known)}"
            self.error(key, f"unknown key; {meant}")

    def text(self, key: str) -> str | None:
        value = self._data.get(key)
        if value is None or isinstance(value, str):
            return value
        self.error(key, f"must be a string, not {kind(value)}", _quoted(key, value))
        return None

    def integer(self, key: str) -> int | None:
        value = self._data.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        self.error(key, f"must be an integer, not {kind(value)}")
        return None

    def boolean(self, key: str) -> bool | None:
        value = self._data.get(key)
        if value is None or isinstance(value, bool):
            return value
        self.error(key, f"must be true or false, not {kind(value)}")
        return None

    def word(self, key: str, words: type[Word]) -> Word | None:
        """One of the words of an enumeration."""
        value = self.text(key)
        return None if value is None else self._one_of(self.at(key), value, words)

    def words(self, key: str, words: type[Word]) -> tuple[Word, ...] | None:
        """A list of different words of an enumeration."""
        items = self.texts(key)
        if items is None:
            return None
        chosen = [self._one_of((*self.at(key), n), item, words) for n, item in enumerate(items)]
        return tuple(word for word in chosen if word is not None)

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of different strings."""
        items = self.items(key)
        if items is None:
            return None
        for position, item in enumerate(items):
            if not isinstance(item, str):
                path = (*self.at(key), position)
                self.report.error(path, f"must be a string, not {kind(item)}")
        texts = tuple(item for item in items if isinstance(item, str))
        self._refuse_twice(key, items)
        return texts if len(texts) == len(items) else None

    def integers(self, key: str, low: int, high: int, what: str) -> tuple[int, ...] | None:
        """A list of different integers from `low` to `high`."""
        items = self.items(key)
        if items is None:
            return None
        numbers: list[int] = []
        for position, item in enumerate(items):
            path = (*self.at(key), position)
            if not isinstance(item, int) or isinstance(item, bool):
                self.report.error(path, f"{what} must be an integer, not {kind(item)}")
            elif not low <= item <= high:
                self.report.error(path, f"{what} must be from {low} to {high}")
            else:
                numbers.append(item)
        self._refuse_twice(key, items)
        return tuple(numbers) if len(numbers) == len(items) else None

    def holds_list(self, key: str) -> bool:
        return isinstance(self._data.get(key), list)

    def items(self, key: str) -> list[object] | None:
        value = self._data.get(key)
        if value is None or isinstance(value, list):
            return value
        hint = f"{key} = [{_literal(value)}]" if isinstance(value, str | int) else ""
        self.error(key, f"must be an array, not {kind(value)}", hint)
        return None

    def table(self, key: str) -> Table:
        """The table of this name; an empty one where there is none."""
        value = self._data.get(key, {})
        if not isinstance(value, dict):
            self.error(key, f"must be a table, not {kind(value)}", f"[{dotted(self.at(key))}]")
            value = {}
        return Table(self.report, self.at(key), value)

    def tables(self, key: str) -> list[Table]:
        """All [[tables]] of this name, in order."""
        value = self._data.get(key, [])
        header = f"[[{dotted(self.at(key))}]]"
        if not isinstance(value, list):
            self.error(key, f"must be an array of tables, not {kind(value)}", header)
            return []
        tables = []
        for position, item in enumerate(value):
            path = (*self.at(key), position)
            if isinstance(item, dict):
                tables.append(Table(self.report, path, item))
            else:
                self.report.error(path, f"must be a table, not {kind(item)}", header)
        return tables

    def _one_of(self, path: Path, value: str, words: type[Word]) -> Word | None:
        if value in set(words):
            return words(value)
        near = nearest(value, words)
        meant = f"did you mean `{near}`?" if near else f"known are {_list(words)}"
        self.report.error(path, f"`{shown(value)}` is not known here; {meant}")
        return None

    def _refuse_twice(self, key: str, items: list[object]) -> None:
        seen: set[tuple[type, str | int]] = set()
        for position, item in enumerate(items):
            if isinstance(item, str | int):
                if (type(item), item) in seen:
                    path = (*self.at(key), position)
                    self.report.error(path, f"{_literal(item)} is there twice")
                seen.add((type(item), item))


def _list(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _quoted(key: str, value: object) -> str:
    plain = isinstance(value, int) and not isinstance(value, bool)
    return f'{key} = "{_literal(value)}"' if plain else ""


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        # A TOML integer may be longer than what Python turns to decimal.
        return str(value) if value.bit_length() <= 64 else hex(value)[:_MAX_SHOWN]  # noqa: PLR2004
    return f'"{shown(str(value))}"'
