"""The text of /etc/wsl.conf, and ramfw's hook in it. Pure.

The hook is put before whatever `[boot] command=` already has, and taking it out again gives back
the text that was there, to the byte. The format (microsoft/WSL, configfile.cpp): `[section]`, `key
= value`, keys in any case, the first of two equal keys counts, `#` begins a comment, a value may be
quoted, and a backslash at a line's end continues it. The command is run by /bin/sh as root.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HOOK = "/usr/lib/ramfw/wsl-boot"
NOTE = "# put here by: ramfw wsl install"
NOTE_SECTION = "# with its section, put here by: ramfw wsl install"

_SECTION = re.compile(r"[ \t]*\[([A-Za-z][A-Za-z0-9]*)\][ \t]*(#.*)?\r?\n?$")
_KEY = re.compile(r"(?P<before>[ \t]*(?P<key>[A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*)(?P<value>.*)$")
_TRUE = frozenset({"true", "1"})


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    section: str
    key: str = ""


def uses_systemd(text: str) -> bool:
    """Whether the distribution is started with systemd."""
    found = _first(_lines(text), "systemd")
    if found is None:
        return False
    value = _value(found[1].text).partition("#")[0]
    return value.strip().strip('"').lower() in _TRUE


def has_hook(text: str) -> bool:
    """Whether the command that counts begins with the hook."""
    found = _first(_lines(text), "command")
    return found is not None and _value(found[1].text).lstrip('"').startswith(HOOK)


def with_hook(text: str) -> str:
    """The text with the hook in it, once."""
    if has_hook(text):
        return text
    lines = _lines(text)
    found = _first(lines, "command")
    if found is not None:
        index, line = found
        match = _KEY.match(line.text)
        assert match is not None  # noqa: S101 - it was found by it
        value, quote = match["value"], ""
        if value.startswith('"'):
            quote, value = '"', value[1:]
        joint = "; " if value.strip(' \t\r\n"') else ""
        changed = f"{match['before']}{quote}{HOOK}{joint}{value}"
        return _joined(lines, index, changed + line.text[match.end() :])
    header = next((i for i, line in enumerate(lines) if _is_boot_header(line)), None)
    if header is not None:
        after = lines[header].text
        end = "" if after.endswith("\n") else "\n"
        return _joined(lines, header, f"{after}{end}{NOTE}\ncommand={HOOK}\n")
    end = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{end}{NOTE_SECTION}\n[boot]\ncommand={HOOK}\n"


def without_hook(text: str) -> str:
    """The text without the hook, as it was before; as it is where there is none."""
    if not has_hook(text):
        return text
    whole = f"{NOTE_SECTION}\n[boot]\ncommand={HOOK}\n"
    if whole in text:
        return text.replace(whole, "", 1)
    own = f"{NOTE}\ncommand={HOOK}\n"
    if own in text:
        return text.replace(own, "", 1)
    return re.sub(re.escape(HOOK) + "(; )?", "", text, count=1)


def _lines(text: str) -> list[_Line]:
    lines: list[_Line] = []
    section, goes_on = "", False
    for line in text.splitlines(keepends=True):
        key = ""
        if not goes_on:
            if header := _SECTION.match(line):
                section = header[1].lower()
            elif match := _KEY.match(line):
                key = match["key"].lower()
        goes_on = line.rstrip("\r\n").endswith("\\")
        lines.append(_Line(line, section, key))
    return lines


def _first(lines: list[_Line], key: str) -> tuple[int, _Line] | None:
    return next(
        ((i, line) for i, line in enumerate(lines) if (line.section, line.key) == ("boot", key)),
        None,
    )


def _value(line: str) -> str:
    match = _KEY.match(line)
    return match["value"] if match else ""


def _is_boot_header(line: _Line) -> bool:
    return line.section == "boot" and _SECTION.match(line.text) is not None


def _joined(lines: list[_Line], index: int, changed: str) -> str:
    return "".join(changed if i == index else line.text for i, line in enumerate(lines))
