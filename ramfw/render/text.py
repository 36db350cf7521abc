"""The means of all output: a page of a width, words for quantities, lines that never lose a word.

Pure. Lists break between their items and sentences between their words; an item that is longer
than the page stands on a line of its own, whole. What came from elsewhere (a resolver's words, the
kernel's) loses its control characters, so that it cannot move a terminal's cursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NARROWEST = 40
MINUTE, HOUR, DAY = 60, 3600, 86400

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


@dataclass(frozen=True, slots=True)
class Page:
    """What is written on: `width` in columns, and whether it can show colour."""

    width: int = 80
    color: bool = False

    def paint(self, text: str, *styles: str) -> str:
        """The text in a style (bold, dim, red, green, yellow), where there is colour."""
        if not self.color or not text:
            return text
        return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"

    def wrap(self, text: str, indent: int = 0, hanging: int | None = None) -> list[str]:
        """A sentence, broken between words; `hanging` is the indent from the second line on."""
        return self.items(clean(text).split(), indent, hanging, separator=" ")

    def items(
        self,
        items: Iterable[str],
        indent: int = 0,
        hanging: int | None = None,
        separator: str = ", ",
    ) -> list[str]:
        """A list, broken between items."""
        width = max(self.width, NARROWEST)
        begin, follow = " " * indent, " " * (indent if hanging is None else hanging)
        lines: list[str] = []
        line = begin
        is_begun = False
        for item in items:
            joined = f"{line}{separator}{item}" if is_begun else f"{line}{item}"
            if is_begun and len(joined) > width:
                lines.append((line + separator).rstrip())
                line = f"{follow}{item}"
            else:
                line = joined
            is_begun = True
        return [*lines, line] if is_begun else lines

    def table(self, rows: Sequence[Sequence[str]], gap: int = 2) -> list[str]:
        """Rows in columns; the last column wraps under itself."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
        left = sum(widths) + gap * len(widths)
        lines: list[str] = []
        for row in rows:
            cells = [cell.ljust(width + gap) for cell, width in zip(row, widths, strict=False)]
            wrapped = self.wrap(row[-1], left) or [""]
            lines.append(("".join(cells) + wrapped[0].lstrip()).rstrip())
            lines.extend(wrapped[1:])
        return lines


def clean(text: str) -> str:
    """The text without control characters, on one line."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def span(seconds: float) -> str:
    """A time in its two largest units: `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 6 h`."""
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    for unit, size, below, smaller in (
        ("min", MINUTE, HOUR, ("s", 1)),
        ("h", HOUR, DAY, ("min", MINUTE)),
    ):
        if whole < below:
            rest = whole % size // smaller[1]
            return f"{whole // size} {unit}" + (f" {rest} {smaller[0]}" if rest else "")
    rest = whole % DAY // HOUR
    return f"{whole // DAY} d" + (f" {rest} h" if rest else "")


def size(count: int) -> str:
    """A number of bytes as people read it: `999 B`, `1.5 kB`, `12 MB` (powers of 1000)."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":  # noqa: PLR2004 - 999.5 would be written as 1000
            break
        value /= 1000
    digits = 1 if unit != "B" and value < 9.95 else 0  # noqa: PLR2004 - two digits, or more
    return f"{value:.{digits}f} {unit}"


def number(count: int, one: str, several: str = "") -> str:
    """A count with its noun: `no packets`, `1 packet`, `1,234 packets`."""
    noun = one if count == 1 else several or f"{one}s"
    return f"{count:,} {noun}" if count else f"no {noun}"


def listed(words: Iterable[str]) -> str:
    """The words as people say them: `a`, `a and b`, `a, b and c`."""
    items = list(words)
    if len(items) <= 1:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
