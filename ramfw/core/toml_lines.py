"""Where each key of a TOML text stands: tomllib reads values, but gives no positions.

Pure. The text should be one that `tomllib.loads` took: the scanner leans on that and tells only
where things are. Where it loses its way it stops, and what comes after has the line of the
nearest table before it. Keys are paths as `("allow", 0, "ports", 1)`; lines count from 1.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass

Path = tuple[str | int, ...]

# Nothing that is asked for lies deeper; a key of a thousand parts must not cost their square.
MAX_KEYS = 8

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(
    r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
    r"""(?:[ \t]*\.[ \t]*(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'))*""",
)
# The long strings may end in up to two quotes of their own before the closing three.
_STRING = re.compile(
    r'''"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}|\'\'\'(?:[^']|'{1,2}(?!'))*'{3,5}'''
    r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


@dataclass(frozen=True, slots=True)
class TomlLines:
    """The line of each key path of one text."""

    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """The line of a path, or of the nearest table around it; 1 if there is none."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return line
        return 1


def index(text: str) -> TomlLines:
    """The lines of all keys and array items of a valid TOML text.

    A table that is spread over the text has the line where it is first named.
    """
    scanner = _Scanner(text)
    with suppress(ValueError, RecursionError):
        scanner.document()
    return TomlLines(scanner.lines)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.lines: dict[Path, int] = {}
        self._at = 0
        self._line = 1
        # How many [[tables]] of each path there are so far.
        self._counts: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        self._take(_BLANK)
        while self._at < len(self.text):
            if self._next("["):
                table = self._header()
            else:
                self._pair(table)
            self._take(_BLANK)

    def _header(self) -> Path:
        is_array = self.text.startswith("[[", self._at)
        mark = "]]" if is_array else "]"
        self._at += len(mark)
        self._take(_SPACE)
        keys = self._keys()
        path: Path = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            self._note(path)
            if is_array and position == len(keys) - 1:
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                # A header below a [[table]] speaks of the last one.
                path = (*path, self._counts[path] - 1)
                self._note(path)
        self._take(_SPACE)
        self._expect(mark)
        return path

    def _pair(self, table: Path) -> None:
        """`key = value`, where the key may be dotted."""
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path)
        self._take(_SPACE)
        self._expect("=")
        self._take(_SPACE)
        self._value(path)

    def _keys(self) -> list[str]:
        written = self._some(_KEY)
        # tomllib itself undoes quotes and escapes.
        nested: object = tomllib.loads(f"{written}=0")
        keys: list[str] = []
        while isinstance(nested, dict) and len(keys) < MAX_KEYS:
            key = next(iter(nested))
            keys.append(key)
            nested = nested[key]
        return keys

    def _value(self, path: Path) -> None:
        if self._next("["):
            self._items(path, "]")
        elif self._next("{"):
            self._items(path, "}")
        elif self._next('"') or self._next("'"):
            self._some(_STRING)
        else:
            self._some(_SCALAR)

    def _items(self, path: Path, end: str) -> None:
        """The items of an array, or the pairs of an inline table."""
        self._at += 1
        count = 0
        self._take(_BLANK)
        while not self._next(end):
            if end == "}":
                self._pair(path)
            else:
                self._note((*path, count))
                self._value((*path, count))
                count += 1
            self._take(_BLANK)
            if not self._next(end):
                self._expect(",")
                self._take(_BLANK)
        self._at += 1

    def _next(self, mark: str) -> bool:
        return self.text.startswith(mark, self._at)

    def _note(self, path: Path) -> None:
        self.lines.setdefault(path, self._line)

    def _expect(self, mark: str) -> None:
        if not self._next(mark):
            raise ValueError("not the TOML it was taken for")
        self._at += len(mark)

    def _some(self, pattern: re.Pattern[str]) -> str:
        taken = self._take(pattern)
        if not taken:
            raise ValueError("not the TOML it was taken for")
        return taken

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self._at)
        taken = match.group() if match else ""
        self._at += len(taken)
        self._line += taken.count("\n")
        return taken
