"""TOML text to a frozen `Policy`, or every problem in it at once.

Pure. Each problem has its line, its dotted key, what is wrong and, where it can be known, the line
that mends it. Nothing is guessed: an unknown key or word is refused, with the nearest right one.
"""

from __future__ import annotations

import re
import tomllib
from ipaddress import IPv4Address, IPv6Address, ip_address

from ramfw.core import addresses
from ramfw.core.catalog import Catalog
from ramfw.core.policy import (
    ContainersScope,
    Dns,
    EnginesScope,
    Explainer,
    HostScope,
    Mode,
    Organization,
    Policy,
    ScopeMode,
    UnknownHosts,
)
from ramfw.core.policy_entries import MAX_PORT, read_entries
from ramfw.core.policy_tables import Report, Table, shown
from ramfw.core.refusal_message import template_problem
from ramfw.core.toml_lines import index
from ramfw.errors import PolicyError, Problem

VERSION = 1

# Where the engines' packages and their usual installations put them.
DEFAULT_ENGINE_CGROUPS = (
    "engines.slice",
    "system.slice/docker.service",
    "system.slice/containerd.service",
    "system.slice/buildkit.service",
    "system.slice/buildkitd.service",
    "system.slice/crio.service",
    "system.slice/podman.service",
    "system.slice/snap.docker.dockerd.service",
    "user.slice/user-*.slice/user@*.service/app.slice/docker.service",
    "user.slice/user-*.slice/user@*.service/app.slice/containerd.service",
    "user.slice/user-*.slice/user@*.service/app.slice/buildkit.service",
    "user.slice/user-*.slice/user@*.service/app.slice/podman.service",
    "wsl-user/distro-*/systemd/system.slice/docker.service",
    "wsl-user/distro-*/systemd/system.slice/containerd.service",
)
DEFAULT_INTERFACES = ("docker0", "br-*", "docker_gwbridge", "podman*", "cni*", "nerdctl*")
DEFAULT_CONTAINER_CGROUPS = (
    "docker",
    "buildkit",
    "kubepods",
    "kubepods.slice",
    "system.slice/docker-*.scope",
    "system.slice/nerdctl-*.scope",
    "machine.slice/libpod-*.scope",
    "user.slice/user-*.slice/user@*.service/user.slice/libpod-*.scope",
)
DEFAULT_REGISTRY_PORTS = (80, 443, 5000)
DEFAULT_MARK_MASK = 0x0000FFFF

MAX_INTERFACE = 15  # IFNAMSIZ less its NUL, netdevice(7)
MAX_TEXT = 200

_MARK_MASKS = frozenset(0xFFFF << shift for shift in range(17))
_INTERFACE = re.compile(r"[A-Za-z0-9_.@-]+\*?")
_SYNTAX = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def parse(text: str, source: str, catalog: Catalog) -> tuple[Policy, tuple[Problem, ...]]:
    """The policy in a TOML text, and warnings about what is doubtful in it.

    `source` is the file's name in problems. Raises PolicyError with every problem found, in the
    order of lines, and nothing else.
    """
    data = _toml(text, source)
    report = Report(source, index(text))
    root = Table(report, (), data)
    policy = _policy(root, source, catalog)
    if report.errors:
        raise PolicyError(tuple(sorted(report.errors, key=lambda problem: problem.line)))
    return policy, tuple(sorted(report.warnings, key=lambda problem: problem.line))


def _toml(text: str, source: str) -> dict[str, object]:
    try:
        data: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError((_syntax_problem(str(error), text, source),)) from None
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or arrays hundreds deep.
        raise PolicyError((Problem(source, 0, "", f"not readable as TOML: {error}"),)) from None
    if not data:
        message = "the file is empty; a policy begins with `version = 1`"
        raise PolicyError((Problem(source, 1, "", message, "version = 1"),))
    return data


def _syntax_problem(words: str, text: str, source: str) -> Problem:
    match = _SYNTAX.fullmatch(words)
    if match is None:
        return Problem(source, 0, "", f"not valid TOML: {shown(words)}")
    what, line, column = match.groups()
    if line is None:
        return Problem(source, text.count("\n") + 1, "", f"not valid TOML: {what} (at the end)")
    return Problem(source, int(line), "", f"not valid TOML: {what} (column {column})")


def _policy(root: Table, source: str, catalog: Catalog) -> Policy:
    root.only(
        (
            *("version", "organization", "allow", "enforcement", "scopes", "dns", "names"),
            *("explainer", "catalog"),
        )
    )
    _version(root)
    _catalog(root.table("catalog"), catalog)
    organization = _organization(root.table("organization"))
    entries = read_entries(root.tables("allow"), catalog, root.report)
    enforcement = root.table("enforcement")
    enforcement.only(("mode", "mark_mask"))
    scopes = root.table("scopes")
    scopes.only(("engines", "containers", "host"))
    names = root.table("names")
    names.only(("required",))
    policy = Policy(
        organization=organization,
        entries=entries,
        mode=enforcement.word("mode", Mode) or Mode.ENFORCE,
        engines=_engines(scopes.table("engines")),
        containers=_containers(scopes.table("containers")),
        host=_host(scopes.table("host")),
        dns=_dns(root.table("dns")),
        names_required=names.boolean("required") or False,
        mark_mask=_mark_mask(enforcement),
        explainer=_explainer(root.table("explainer")),
        source=source,
        catalog=catalog,
    )
    if not entries:
        message = "the policy has no [[allow]]: it refuses everything in its scopes"
        root.report.warn((), message, '[[allow]]\n    registry = "docker.io"')
    modes = {policy.engines.mode, policy.containers.mode, policy.host.mode}
    if modes == {ScopeMode.OFF}:
        root.report.warn(("scopes",), "every scope is off: nothing is enforced")
    return policy


def _version(root: Table) -> None:
    if "version" not in root:
        message = "missing; a policy begins with `version = 1`"
        root.error("version", message, "version = 1")
        return
    version = root.integer("version")
    if version is not None and version != VERSION:
        root.error("version", "this ramfw reads policies of version 1", "version = 1")


def catalog_file(text: str) -> str | None:
    """The file that a policy's [catalog] names; None where it names none, or is not readable.

    It must be known before the policy can be read, for the entries are read by the catalogue.
    """
    try:
        table = tomllib.loads(text).get("catalog")
    except (ValueError, RecursionError):
        return None
    file = table.get("file") if isinstance(table, dict) else None
    return file if isinstance(file, str) and not _file_problem(file) else None


def _catalog(table: Table, catalog: Catalog) -> None:
    table.only(("file",))
    file = table.text("file")
    wrong = "" if file is None else _file_problem(file)
    if wrong:
        table.error("file", wrong, 'file = "/etc/ramfw/catalog.toml"')
    elif catalog.problem:
        message = f"the catalogue that ramfw ships stays in force: {catalog.problem}"
        table.report.warn(table.at("file"), message)


def _file_problem(file: str) -> str:
    if not file.startswith("/"):
        return "must be the whole path of a file"
    return "" if file.isprintable() else "has control characters"


def _organization(table: Table) -> Organization:
    table.only(("name", "contact"))
    texts = {}
    for key in ("name", "contact"):
        texts[key] = table.text(key) or ""
        if not texts[key].isprintable():
            table.error(key, "must be one line without control characters: people are shown it")
        elif len(texts[key]) > MAX_TEXT:
            table.error(key, f"has {len(texts[key])} characters; {MAX_TEXT} are permitted")
    return Organization(**texts)


def _explainer(table: Table) -> Explainer:
    table.only(("message", "ca", "key"))
    message = table.text("message")
    if message is not None and (problem := template_problem(message)):
        table.error("message", problem, 'message = "Access to {host} is restricted. See {contact}"')
    files = {}
    for key in ("ca", "key"):
        files[key] = table.text(key)
        path = files[key]
        if path is not None and not (path.startswith("/") and path.isprintable()):
            table.error(
                key, "must be a file's path from the root", f'{key} = "/etc/ramfw/{key}.pem"'
            )
    for key, other in (("ca", "key"), ("key", "ca")):
        if key in table and other not in table:
            table.error(key, f"`{key}` needs `{other}`", f'{other} = "/etc/ramfw/{other}.pem"')
    return Explainer(message or "", files["ca"] or "", files["key"] or "")


def _mark_mask(table: Table) -> int:
    mask = table.integer("mark_mask")
    if mask is None:
        return DEFAULT_MARK_MASK
    if mask not in _MARK_MASKS:
        message = "must have exactly 16 bits, side by side, within 32"
        table.error("mark_mask", message, "mark_mask = 0x0000ffff or mark_mask = 0xffff0000")
    return mask


def _engines(table: Table) -> EnginesScope:
    misplaced = _misplaced("containers", "interfaces", "registry_ports", "unknown")
    table.only(("mode", "cgroups"), misplaced)
    if table.word("mode", ScopeMode) is ScopeMode.REGISTRIES:
        message = "an engine's scope is `strict` or `off`: what it sends is for registries anyway"
        table.error("mode", message, 'mode = "strict"')
    scope = EnginesScope(_mode(table, ScopeMode.STRICT), _cgroups(table, DEFAULT_ENGINE_CGROUPS))
    if scope.cgroups == () and scope.mode is not ScopeMode.OFF:
        table.error("cgroups", "the list is empty: no engine would be filtered", 'mode = "off"')
    return scope


def _containers(table: Table) -> ContainersScope:
    table.only(("mode", "interfaces", "cgroups", "registry_ports", "unknown"))
    mode = _mode(table, ScopeMode.REGISTRIES)
    scope = ContainersScope(
        mode,
        _interfaces(table),
        _cgroups(table, DEFAULT_CONTAINER_CGROUPS),
        _registry_ports(table, mode),
        _unknown(table, mode),
    )
    if scope.interfaces == () == scope.cgroups and scope.mode is not ScopeMode.OFF:
        message = "no interfaces and no cgroups: no container would be filtered"
        table.error("interfaces", message, 'mode = "off"')
    return scope


def _host(table: Table) -> HostScope:
    misplaced = _misplaced("containers", "interfaces", "cgroups")
    table.only(("mode", "registry_ports", "unknown"), misplaced)
    mode = _mode(table, ScopeMode.REGISTRIES)
    return HostScope(mode, _registry_ports(table, mode), _unknown(table, mode))


def _unknown(table: Table, mode: ScopeMode) -> UnknownHosts:
    unknown = table.word("unknown", UnknownHosts)
    if unknown is not None and mode is not ScopeMode.REGISTRIES:
        message = f"only mode `registries` tells unknown hosts apart; this scope's is `{mode}`"
        table.error("unknown", message, 'mode = "registries"')
    return unknown or UnknownHosts.ALLOW


def _misplaced(scope: str, *keys: str) -> dict[str, str]:
    return {key: f"`{key}` is a key of [scopes.{scope}], not of this scope" for key in keys}


def _mode(table: Table, default: ScopeMode) -> ScopeMode:
    return table.word("mode", ScopeMode) or default


def _registry_ports(table: Table, mode: ScopeMode) -> tuple[int, ...]:
    ports = table.integers("registry_ports", 1, MAX_PORT, "a port")
    if ports and mode is ScopeMode.REGISTRIES:
        message = "mode `registries` looks at every port; the list counts where names are not read"
        table.report.warn(table.at("registry_ports"), message)
    if ports == ():
        message = "the list is empty: nothing would be filtered"
        table.error("registry_ports", message, f"registry_ports = {list(DEFAULT_REGISTRY_PORTS)}")
    return DEFAULT_REGISTRY_PORTS if ports is None else ports


def _cgroups(table: Table, default: tuple[str, ...]) -> tuple[str, ...]:
    patterns = table.texts("cgroups")
    for position, pattern in enumerate(patterns or ()):
        wrong = _cgroup_problem(pattern)
        if wrong:
            table.report.error((*table.at("cgroups"), position), *wrong)
    return default if patterns is None else patterns


def _cgroup_problem(pattern: str) -> tuple[str, str] | None:
    """What is wrong with a cgroup pattern, and what to write."""
    parts = pattern.split("/")
    if not pattern.isprintable():
        return "a cgroup's path has no control characters", ""
    if pattern.startswith("/"):
        right = pattern.removeprefix("/sys/fs/cgroup").strip("/") or "engines.slice"
        return "a path below the cgroup root, without a leading slash", f'"{shown(right)}"'
    if not {"", ".", ".."}.isdisjoint(parts):
        right = "/".join(part for part in parts if part.strip(".")) or "engines.slice"
        return "a part of the path is empty, `.` or `..`", f'"{shown(right)}"'
    if "**" in pattern:
        right = re.sub(r"\*+", "*", pattern)
        return "`*` stands within one name, and `**` for nothing more", f'"{shown(right)}"'
    if not parts[0].strip("*?"):
        return f"`{shown(pattern)}` fits every cgroup of the machine", '"engines.slice"'
    return None


def _interfaces(table: Table) -> tuple[str, ...]:
    patterns = table.texts("interfaces")
    for position, pattern in enumerate(patterns or ()):
        wrong = _interface_problem(pattern)
        if wrong:
            table.report.error((*table.at("interfaces"), position), *wrong)
    return DEFAULT_INTERFACES if patterns is None else patterns


def _interface_problem(pattern: str) -> tuple[str, str] | None:
    """What is wrong with an interface pattern, and what to write."""
    if pattern and not pattern.strip("*"):
        return "`*` fits every interface, the way out among them", '"br-*"'
    if "*" in pattern[:-1]:
        return f"`{shown(pattern)}`: `*` may stand only at the end", '"br-*"'
    if len(pattern) > MAX_INTERFACE:
        return f"an interface's name has at most {MAX_INTERFACE} characters", ""
    if not _INTERFACE.fullmatch(pattern) or pattern in {".", ".."}:
        return f"`{shown(pattern)}` is not the name of an interface", '"docker0"'
    if pattern == "lo":
        return "`lo` is this machine itself, not a container bridge", '"docker0"'
    return None


def _dns(table: Table) -> Dns:
    table.only(("servers",))
    if "servers" not in table:
        return Dns()
    hint = 'servers = "system" or servers = ["192.0.2.53"]'
    if not table.holds_list("servers"):
        word = table.text("servers")
        if word is not None and word != "system":
            table.error("servers", 'must be "system" or a list of addresses', hint)
        return Dns()
    servers: dict[str, str] = {}
    for position, text in enumerate(table.texts("servers") or ()):
        path = (*table.at("servers"), position)
        server = _server(table.report, path, text)
        # The same text twice is known already; `::1` and `0::1` are not.
        if server is not None and servers.setdefault(str(server), text) != text:
            table.report.error(path, f"{server} is there twice")
    if table.items("servers") == []:
        table.error("servers", "the list is empty: no name could be resolved", hint)
    return Dns(tuple(servers))


def _server(
    report: Report, path: tuple[str | int, ...], text: str
) -> IPv4Address | IPv6Address | None:
    if "%" in text:
        message = "a server with an interface (`%`) is not possible"
        report.error(path, message, 'servers = "system"')
        return None
    try:
        server = ip_address(text)
    except ValueError:
        message = f"`{shown(text)}` is not an address; a server is an address without a port"
        report.error(path, message, '"192.0.2.53"')
        return None
    # A resolver on this machine (127.0.0.53) or of a cloud (169.254.169.253) is a usual one.
    reason = addresses.special_use(server)
    unusable = {"unspecified", "multicast", "broadcast", "reserved"}
    # An IPv6 link-local address says nothing without its interface.
    if reason in unusable or (isinstance(server, IPv6Address) and reason == "link-local"):
        report.error(path, f"{server} cannot be a server: {reason}", '"192.0.2.53"')
        return None
    return server
