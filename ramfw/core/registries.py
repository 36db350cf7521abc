"""A registry as the catalogue knows it: its hosts, and the placeholders in their names.

Pure. A host's pattern is an exact name, a wildcard, or a template such as
`<account>.dkr.ecr.<region>.amazonaws.com`, whose placeholders a policy's entry fills. A placeholder
is no wildcard: it stands for what the administrator wrote, and only for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import cache

from ramfw.core import fqdn


class Grade(StrEnum):
    """How good the source of a host is, best first."""

    VENDOR = "vendor"
    VENDOR_CODE = "vendor-code"
    VENDOR_STAFF = "vendor-staff"
    OBSERVED = "observed"
    UNVERIFIED = "unverified"


class Role(StrEnum):
    """What a host does for its registry."""

    API = "api"
    AUTH = "auth"
    BLOBS = "blobs"
    TRUST = "content-trust"
    WEB = "web"


class Use(StrEnum):
    """For what a host is needed: to pull, to push, to sign in with a browser, or for neither."""

    BOTH = "pull and push"
    PULL = "pull"
    PUSH = "push"
    SIGN_IN = "sign-in"
    OTHER = "other"


class Access(StrEnum):
    """What an entry of a policy wants to do with a registry."""

    BOTH = "both"
    PULL = "pull"


_NOT_FOR_IMAGES = {
    Use.SIGN_IN: "only to sign in, not to pull or push",
    Use.OTHER: "not needed to pull or push",
}
HOST_FORM = "host"
"""The form of a placeholder that is a whole host name."""
_PLACEHOLDER = re.compile(r"<([a-z][a-z_]*)>")
_LABEL_PART = re.compile(r"[a-z0-9-]+")
_MAX_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A part of a host's name that an entry of a policy fills.

    `form` is a regular expression for the whole value, or `host` for a host's name; `means` says
    in words what it is. Without a value for an optional one, the hosts that name it are left out.
    """

    name: str
    means: str
    form: str
    example: str
    optional: bool = False

    def read(self, text: str) -> str:
        """The value in its canonical form. Raises ValueError with what is wrong with it."""
        if self.form == HOST_FORM:
            return fqdn.canonical(text)
        value = text.lower()
        if _LABEL_PART.fullmatch(value) and re.fullmatch(self.form, value):
            return value
        shown = "".join(c if c.isprintable() else "?" for c in text[:_MAX_SHOWN])
        raise ValueError(f"`{shown}` is not {self.means}, such as `{self.example}`")


@dataclass(frozen=True, slots=True)
class CatalogHost:
    """One host of a registry.

    `ports` is empty where the entry of a policy names them. `when` is empty where the host is
    always needed. `date` is the day on which `source` was read. `shared` names the CDN whose
    addresses carry the host, `opens` what can be reached through it besides this registry.
    `off` says why the host is known and not permitted by default; `broad` why it never is, and
    `instead` what to use. `deprecated` tells since when it goes away, `on` why a host that only
    others have seen is permitted all the same.
    """

    pattern: str
    ports: tuple[int, ...]
    roles: tuple[Role, ...]
    use: Use
    source: str
    date: date
    grade: Grade
    when: str = ""
    shared: str = ""
    opens: str = ""
    off: str = ""
    broad: str = ""
    instead: str = ""
    deprecated: str = ""
    on: str = ""

    @property
    def role(self) -> Role:
        """The first of its roles."""
        return self.roles[0]

    @property
    def needed(self) -> str:
        """For what it is needed, in words."""
        return f"{self.use}; {self.when}" if self.when else str(self.use)

    @property
    def why_not(self) -> str:
        """Why it is not permitted with its registry; empty if it is."""
        return self.broad or self.off or _NOT_FOR_IMAGES.get(self.use, "")

    @property
    def takes_pushes(self) -> bool:
        """Whether images can be pushed to it, which no filter of hosts can tell from a pull."""
        return Role.API in self.roles and self.use in {Use.BOTH, Use.PUSH}

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The names of the placeholders in the pattern, in order."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.pattern)))

    def filled(self, values: Mapping[str, str]) -> CatalogHost:
        """The same host with its placeholders filled; KeyError where one has no value."""
        return replace(self, pattern=_PLACEHOLDER.sub(lambda m: values[m[1]], self.pattern))


@dataclass(frozen=True, slots=True)
class Choice:
    """What an entry of a policy takes of a registry: everything usual by default.

    `ports` are for the hosts whose ports the entry names, `include` and `exclude` patterns with
    their placeholders filled.
    """

    ports: tuple[int, ...] = ()
    access: Access = Access.BOTH
    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()

    def takes(self, host: CatalogHost) -> bool:
        """Whether the entry permits this host of its registry."""
        if host.broad or host.pattern in self.exclude:
            return False
        if host.why_not and host.pattern not in self.include:
            return False
        return not (self.access is Access.PULL and host.use is Use.PUSH)


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry under the id that a policy gives, which is how people name its images.

    `ports` are those of hosts that have none of their own, where the entry names none: None if an
    entry cannot name any, empty if it must. `needs` are the ids of the registries that it hands
    over to. `refused` says why no policy can permit it, `danger` what to know before. `sample` is
    an image that everyone may pull.
    """

    id: str
    name: str
    hosts: tuple[CatalogHost, ...]
    aliases: tuple[str, ...] = ()
    placeholders: tuple[Placeholder, ...] = ()
    needs: tuple[str, ...] = ()
    ports: tuple[int, ...] | None = None
    refused: str = ""
    danger: str = ""
    sample: str = ""

    @property
    def words(self) -> frozenset[str]:
        """Every word by which a person may mean it."""
        return frozenset({self.id, *self.aliases, *(host.pattern for host in self.hosts)})

    def filled(
        self, values: Mapping[str, str], ports: tuple[int, ...] = ()
    ) -> tuple[CatalogHost, ...]:
        """All hosts whose placeholders have a value, with it and with the entry's ports."""
        known = (host for host in self.hosts if values.keys() >= set(host.placeholders))
        return tuple(
            replace(host.filled(values), ports=host.ports or ports or self.ports or ())
            for host in known
        )


def placeholders_in(pattern: str) -> tuple[str, ...]:
    """The names of the placeholders in a pattern, and ValueError for a stray bracket."""
    names = tuple(_PLACEHOLDER.findall(pattern))
    if "<" in (rest := _PLACEHOLDER.sub("", pattern)) or ">" in rest:
        raise ValueError(f"`{pattern}`: a placeholder is `<name>`, in lower-case letters")
    return names


def anchor(pattern: str) -> str:
    """The two last labels of a pattern, by which templates are found; ValueError if not fixed."""
    labels = pattern.split(".")[-2:]
    if len(labels) < 2 or any(c in label for label in labels for c in "<*"):  # noqa: PLR2004
        raise ValueError(f"`{pattern}`: the two last labels of a name must be fixed")
    return ".".join(labels)


def values_in(pattern: str, name: str, forms: Mapping[str, str]) -> dict[str, str] | None:
    """What a canonical name gives the placeholders of a template or a wildcard; None if no match.

    A placeholder that `forms` does not have stands for one label or a part of it.
    """
    match = _matcher(pattern, tuple(sorted(forms.items()))).fullmatch(name)
    return None if match is None else match.groupdict()


@cache
def _matcher(pattern: str, forms: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    return re.compile("".join(_parts(pattern, dict(forms))))


def _parts(pattern: str, forms: Mapping[str, str]) -> Iterator[str]:
    seen: set[str] = set()
    if pattern.startswith("*."):
        yield r"(?:[a-z0-9-]+\.)+"
        pattern = pattern[2:]
    for number, part in enumerate(_PLACEHOLDER.split(pattern)):
        if number % 2 == 0:
            yield re.escape(part)
        elif part in seen:
            yield f"(?P={part})"
        else:
            seen.add(part)
            yield f"(?P<{part}>{forms.get(part, '[a-z0-9-]+')})"
