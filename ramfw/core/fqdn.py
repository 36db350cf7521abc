"""One canonical form of a host name, and anchored matching of patterns.

Pure. A canonical name is in lower case, without the trailing dot, in A-labels (RFC 5890), of
letters, digits and hyphens (RFC 1123 section 2.1), each label at most 63 octets and the whole at
most 253 (RFC 1035 section 2.3.4). Names from a policy, a DNS answer and a TLS hello are compared
in this form and in no other.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MAX_NAME = 253
MAX_LABEL = 63

_LDH = re.compile(r"[a-z0-9-]+")
# Control, format, surrogate, private and unassigned characters.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
# A last label that inet_aton and the URL standard take for a number makes the whole an address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def canonical(text: str) -> str:
    """The canonical form of one exact host name.

    Raises ValueError with a sentence that says what is wrong and, where it can be known, what to
    write instead.
    """
    _refuse_invisible(text)
    _check_characters(text)
    name = text.lower()
    if not text.isascii() or "xn--" in name:
        name = _to_a_labels(text)
    else:
        name = _without_trailing_dot(name)
    labels = name.split(".")
    for label in labels:
        _check_label(label, name)
    if len(name) > MAX_NAME:
        raise ValueError(f"the name has {len(name)} characters; DNS permits {MAX_NAME}")
    if _NUMBER.fullmatch(labels[-1]):
        raise ValueError(
            f"`{name}` is an address in an odd form, not a name; no name ends in a number"
        )
    return name


def canonical_pattern(text: str) -> str:
    """The canonical form of an exact name or of a wildcard `*.suffix` (one or more labels).

    Raises ValueError as `canonical` does, and for a wildcard under which anyone can get a name:
    a public suffix of either section of the Public Suffix List (publicsuffix.org), or a name
    that holds one.
    """
    if "*" not in text:
        return canonical(text)
    _refuse_invisible(text)
    _refuse_url(text)
    if text.strip(".") == "*":
        raise ValueError(
            "`*` alone permits every name; write the names, or `*.` and a domain of one owner"
        )
    if not text.startswith("*."):
        raise ValueError(
            f"`{_shown(text)}`: a wildcard is a whole first label, as in `*.registry.example`"
        )
    if "*" in text[1:]:
        raise ValueError(
            f"`{_shown(text)}`: only the first label can be a wildcard, as in `*.registry.example`"
        )
    suffix = canonical(text[2:])
    _refuse_public(suffix)
    if len(suffix) + 2 > MAX_NAME:
        raise ValueError(
            f"the wildcard leaves no room for a label; DNS permits {MAX_NAME} characters"
        )
    return f"*.{suffix}"


def matches(pattern: str, name: str) -> bool:
    """Whether a canonical pattern covers a canonical name.

    `*.pkg.dev` covers `a.pkg.dev` and `a.b.pkg.dev`, neither `pkg.dev` nor `notpkg.dev`.
    """
    if pattern.startswith("*."):
        suffix = pattern[1:]
        return len(name) > len(suffix) and name.endswith(suffix)
    return name == pattern


def _refuse_invisible(text: str) -> None:
    if not text:
        raise ValueError("the name is empty")
    for position, character in enumerate(text, 1):
        if character.isspace() or unicodedata.category(character) in _INVISIBLE:
            what = (
                "a NUL character" if character == "\0" else f"the character U+{ord(character):04X}"
            )
            raise ValueError(f"the name has {what} at position {position}")


def _check_characters(text: str) -> None:
    """Refuse what a person may well write, each with the words that mend it."""
    _refuse_url(text)
    _refuse_port(text)
    if "*" in text:
        raise ValueError("a wildcard is not possible here; write one exact name")
    if "_" in text:
        raise ValueError("an underscore is not permitted in a host name (RFC 1123)")


def _refuse_url(text: str) -> None:
    scheme = _SCHEME.match(text)
    if scheme is None and not any(mark in text for mark in "/@?#"):
        return
    rest = text[scheme.end() :] if scheme else text
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    try:
        advice = f"; write the host alone: `{canonical_pattern(host)}`"
    except ValueError as error:
        # `https://ghcr.io:8443/` is a URL and has a port as well: both are to be said.
        advice = f"; of its host: {error}" if host else ""
    raise ValueError(f"this is a URL or an image, not a host name{advice}")


def _refuse_port(text: str) -> None:
    """Refuse an address, a port, and both together."""
    host, colon, port = text.rpartition(":")
    has_port = bool(colon and port.isascii() and port.isdigit())
    literal = _address(text)
    if literal is not None:
        raise ValueError(f'this is an address, not a name; write `address = "{literal}"`')
    if has_port and (literal := _address(host)) is not None:
        raise ValueError(
            f"this is an address and a port, not a name; "
            f'write `address = "{literal}"` and `ports = [{port}]`',
        )
    if has_port and host:
        raise ValueError(f"the port belongs in `ports = [{port}]`; write the host alone: `{host}`")
    if colon:
        raise ValueError("a colon is not permitted in a host name; ports belong in `ports`")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return ip_address(bare)
    except ValueError:
        return None


def _without_trailing_dot(name: str) -> str:
    return name.removesuffix(".") or "."


def _check_label(label: str, name: str) -> None:
    if not label:
        raise ValueError(
            f"`{_shown(name)}` has an empty label (two dots in a row, or a dot at its start)"
        )
    if len(label) > MAX_LABEL:
        raise ValueError(
            f"the label `{label[:16]}…` has {len(label)} characters; DNS permits {MAX_LABEL}"
        )
    if not _LDH.fullmatch(label):
        odd = next(c for c in label if not _LDH.fullmatch(c))
        raise ValueError(
            f"`{odd}` is not permitted in a host name: letters, digits, hyphens and dots only"
        )
    if label.startswith("-") or label.endswith("-"):
        raise ValueError(f"the label `{label}` begins or ends with a hyphen")


def _to_a_labels(text: str) -> str:
    """IDNA 2008 (RFC 5891) with the mapping of UTS 46, as Go, curl and browsers do it."""
    import idna  # noqa: PLC0415  loaded only for a name that needs it: the CLI must stay quick

    try:
        mapped = _without_trailing_dot(idna.uts46_remap(text, std3_rules=False))
        return ".".join(
            label
            if label.isascii() and not label.startswith("xn--")
            else idna.alabel(label).decode()
            for label in mapped.split(".")
        )
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"not a valid international name (IDNA): {error}") from None


def _shown(text: str) -> str:
    """As much of a name as a message needs."""
    return text if len(text) <= MAX_LABEL else f"{text[:MAX_LABEL]}…"


def _refuse_public(suffix: str) -> None:
    if "." not in suffix:
        raise ValueError(
            f"`*.{suffix}` covers a whole top-level domain; write the domain of one owner",
        )
    if _public_suffixes().is_public(suffix):
        raise ValueError(
            f"`{suffix}` is a public suffix: anyone can get a name below it; "
            "write the domain of one owner, or the exact host"
        )
    held = _suffix_held_by(suffix)
    if held:
        raise ValueError(
            f"`*.{suffix}` also covers `{held}`, below which anyone can get a name; "
            "write the exact host",
        )


def forget_public_suffixes() -> None:
    """Give back the memory of the list (10 MiB); it is read again when it is needed."""
    _public_suffixes.cache_clear()
    _rules.cache_clear()


@cache
def _public_suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415  slow; only wildcards need it

    return PublicSuffixList()


def _suffix_held_by(suffix: str) -> str:
    """The first public suffix below `suffix`, empty where there is none."""
    ending = f".{suffix}"
    return next((rule for rule in _rules() if rule.endswith(ending)), "")


@cache
def _rules() -> tuple[str, ...]:
    """Every name of the list; the library answers for one name only, so its copy is read again."""
    from publicsuffixlist import PSLFILE  # noqa: PLC0415

    with Path(PSLFILE).open(encoding="utf-8") as lines:
        words = (line.split(maxsplit=1)[0] for line in lines if line.strip())
        return tuple(word.removeprefix("*.") for word in words if not word.startswith(("//", "!")))
