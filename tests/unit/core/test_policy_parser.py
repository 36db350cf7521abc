"""A policy file becomes frozen values, or all that is wrong with it at once, line by line."""

from __future__ import annotations

import re
from datetime import date
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.catalog import shipped
from ramfw.core.policy import (
    ALL_SCOPES,
    Dns,
    EntryKind,
    Mode,
    Policy,
    Protocol,
    ScopeMode,
    ScopeName,
    UnknownHosts,
)
from ramfw.core.policy_entries import MOST_ENTRIES
from ramfw.core.policy_parser import parse
from ramfw.errors import PolicyError, Problem

WHOLE = """\
version = 1

[organization]
name = "Example Corp"
contact = "https://it.example.com/registries"

[[allow]]
registry = "docker.io"

[[allow]]
host = "Nexus.Corp.Example."
ports = [8443, 8444]

[[allow]]
host = "*.pkg.dev"

[[allow]]
proxy = "proxy.corp.example"

[[allow]]
address = "10.0.0.0/24"
ports = [514]
protocol = "udp"
scopes = ["engines"]
names = false

[[allow]]
address = "127.0.0.1"
ports = [5000]

[enforcement]
mode = "audit"
mark_mask = 0xffff0000

[scopes.engines]
cgroups = ["engines.slice"]

[scopes.containers]
interfaces = ["docker0", "br-*"]
registry_ports = [80, 443]

[scopes.host]
mode = "strict"

[dns]
servers = ["192.0.2.53", "2001:DB8::53"]
"""


def read(text: str) -> Policy:
    return parse(text, "policy.toml", shipped())[0]


def warnings(text: str) -> tuple[Problem, ...]:
    return parse(text, "policy.toml", shipped())[1]


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(PolicyError) as refused:
        parse(text, "policy.toml", shipped())
    return refused.value.problems


def entry(lines: str) -> str:
    return f"version = 1\n[[allow]]\n{lines}"


def test_a_whole_policy_becomes_values() -> None:
    policy = read(WHOLE)

    docker, nexus, pkg, proxy, logs, local = policy.entries
    assert policy.organization.name == "Example Corp"
    assert docker.kind is EntryKind.REGISTRY
    assert [t.role for t in docker.targets[:3]] == ["api", "auth", "blobs"]
    assert docker.scopes == ALL_SCOPES
    assert [(t.pattern, t.ports) for t in nexus.targets] == [("nexus.corp.example", (8443, 8444))]
    assert nexus.label == "nexus.corp.example:8443,8444"
    assert nexus.line == 10
    assert pkg.targets[0].is_wildcard
    assert (proxy.kind, proxy.targets[0].ports) == (EntryKind.PROXY, (3128,))
    assert logs.networks == (IPv4Network("10.0.0.0/24"),)
    assert (logs.protocol, logs.ports, logs.expects_name) == (Protocol.UDP, (514,), False)
    assert logs.scopes == {ScopeName.ENGINES}
    assert local.networks == (IPv4Network("127.0.0.1/32"),)
    assert (local.label, local.expects_name) == ("127.0.0.1:5000", True)
    assert (policy.mode, policy.mark_mask) == (Mode.AUDIT, 0xFFFF0000)
    assert policy.host.mode is ScopeMode.STRICT
    assert policy.dns == Dns(("192.0.2.53", "2001:db8::53"))


def test_an_address_expects_a_name_over_tcp_unless_the_file_says_no() -> None:
    with_name, without = read(
        'version = 1\n[[allow]]\naddress = "192.0.2.1"\n'
        '[[allow]]\naddress = "192.0.2.2"\nnames = false\n'
    ).entries
    assert with_name.expects_name
    assert not without.expects_name


def test_a_policy_of_one_line_has_the_defaults() -> None:
    policy = read("version = 1")

    assert policy.entries == ()
    assert policy.mode is Mode.ENFORCE
    assert policy.engines.mode is ScopeMode.STRICT
    assert "engines.slice" in policy.engines.cgroups
    assert "wsl-user/distro-*/systemd/system.slice/docker.service" in policy.engines.cgroups
    assert policy.containers.mode is ScopeMode.REGISTRIES
    assert policy.containers.unknown is UnknownHosts.ALLOW
    assert not policy.probes
    assert "docker0" in policy.containers.interfaces
    assert "system.slice/docker-*.scope" in policy.containers.cgroups
    assert policy.containers.registry_ports == (80, 443, 5000)
    assert policy.host.mode is ScopeMode.REGISTRIES
    assert policy.dns == Dns(None)
    assert policy.mark_mask == 0x0000FFFF


def test_a_mode_alone_keeps_the_lists_and_a_list_replaces_its_default() -> None:
    default = read("version = 1").containers
    off = read('version = 1\n[scopes.containers]\nmode = "off"').containers
    mine = read('version = 1\n[scopes.containers]\ninterfaces = ["lxc*"]').containers

    assert off.interfaces == default.interfaces
    assert off.cgroups == default.cgroups
    assert mine.interfaces == ("lxc*",)
    assert mine.cgroups == default.cgroups
    assert mine.mode is ScopeMode.REGISTRIES


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("127.0.0.1", IPv4Network("127.0.0.1/32")),
        ("127.0.0.1/32", IPv4Network("127.0.0.1/32")),
        ("::1", IPv6Network("::1/128")),
        ("10.0.0.0/8", IPv4Network("10.0.0.0/8")),
        ("2001:DB8::/32", IPv6Network("2001:db8::/32")),
        ("fd12::5", IPv6Network("fd12::5/128")),
    ],
)
def test_an_address_may_be_one_or_a_range(written: str, network: IPv4Network | IPv6Network) -> None:
    assert read(entry(f'address = "{written}"')).entries[0].networks == (network,)


@pytest.mark.parametrize(
    ("text", "line", "key", "words", "hint"),
    [
        # the file as a whole
        ("", 1, "", "a policy begins with `version = 1`", "version = 1"),
        ("# nothing\n", 1, "", "a policy begins with `version = 1`", "version = 1"),
        ('[dns]\nservers = "system"', 1, "version", "a policy begins with", "version = 1"),
        ("version = 2", 1, "version", "policies of version 1", "version = 1"),
        ("version = true", 1, "version", "an integer, not a boolean", ""),
        ('\nversion = "1"', 2, "version", "an integer, not a string", ""),
        ("version = 1.0", 1, "version", "an integer, not a float", ""),
        ("version = 1\nversion = 1", 2, "", "not valid TOML: Cannot overwrite", ""),
        ("version = 1\n\nx = [", 3, "", "not valid TOML", ""),
        ("version = 1\nx = 'a\0'", 2, "", "not valid TOML", ""),
        # unknown keys and wrong types
        ("version = 1\n[organisation]", 2, "organisation", "did you mean `organization`?", ""),
        ("version = 1\n[zzz]", 2, "zzz", "known are `version`,", ""),
        ('version = 1\n"a\\u001b" = 1', 2, '"a\\u001b"', "unknown key", ""),
        ("version = 1\n[organization]\nnam = 1", 3, "organization.nam", "mean `name`?", ""),
        (
            "version = 1\n[organization]\nname = 7",
            3,
            "organization.name",
            "must be a string, not an integer",
            'name = "7"',
        ),
        (
            'version = 1\n[organization]\nname = "a\\nb"',
            3,
            "organization.name",
            "one line without control characters",
            "",
        ),
        (f'version = 1\n[organization]\nname = "{"x" * 201}"', 3, "organization.name", "201", ""),
        ("version = 1\nallow = 5", 2, "allow", "an array of tables", "[[allow]]"),
        ("version = 1\n[allow]\n", 2, "allow", "an array of tables", "[[allow]]"),
        ("version = 1\nallow = [\n 1]", 3, "allow[0]", "must be a table", "[[allow]]"),
        ("version = 1\ndns = []", 2, "dns", "must be a table, not an array", "[dns]"),
        ("version = 1\ndns = 2026-01-01", 2, "dns", "not a date or time", "[dns]"),
        # an entry's kind
        (entry(""), 2, "allow[0]", "has none of registry, host", 'registry = "docker.io"'),
        (entry('adress = "192.0.2.1"'), 3, "allow[0].adress", "did you mean `address`?", ""),
        (
            entry('host = "a.example"\nproxy = "b.example"'),
            2,
            "allow[0]",
            "has `host` and `proxy`; an entry has exactly one",
            "write an [[allow]] for each",
        ),
        # registries
        (
            entry('registry = "hub.docker.com"'),
            3,
            "allow[0].registry",
            "not in the catalogue",
            'did you mean `registry = "docker.io"`?',
        ),
        (
            entry('registry = "dokcer.io"'),
            3,
            "allow[0].registry",
            "not in",
            'did you mean `registry = "docker.io"`? Or `ocir.io`?',
        ),
        (
            entry('registry = "zzz"\naccount = "123456789012"'),
            3,
            "allow[0].registry",
            "`zzz` is not in the catalogue",
            'permit its hosts one by one: `host = "registry.example"`',
        ),
        (
            entry('registry = "docker.io"\naccount = "123456789012"'),
            4,
            "allow[0].account",
            "the catalogue entry `docker.io` takes no `account`",
            "",
        ),
        (
            entry('registry = "docker.io"\nports = [443]'),
            4,
            "allow[0].ports",
            "takes no `ports`",
            "",
        ),
        (entry('registry = "docker.io"\nnames = true'), 4, "allow[0].names", "no `names`", ""),
        (
            entry("registry = 5"),
            3,
            "allow[0].registry",
            "a string, not an integer",
            'registry = "5"',
        ),
        # hosts
        (entry('host = "https://ghcr.io/x"'), 3, "allow[0].host", "host alone: `ghcr.io`", ""),
        (entry('host = "a.example:8443"'), 3, "allow[0].host", "`ports = [8443]`", ""),
        (entry('host = "ghcr.io\\u0000.example"'), 3, "allow[0].host", "a NUL character", ""),
        (entry('host = "gh_cr.io"'), 3, "allow[0].host", "an underscore", ""),
        (entry('host = "*"'), 3, "allow[0].host", "`*` alone", ""),
        (entry('host = "*.com"'), 3, "allow[0].host", "top-level domain", ""),
        (
            entry('host = "*.cloudfront.net"'),
            3,
            "allow[0].host",
            "every customer of CloudFront is below it",
            "the exact distribution, which `ramfw discover IMAGE` shows",
        ),
        (entry('host = "*.github.io"'), 3, "allow[0].host", "public suffix", ""),
        (entry('host = "192.0.2.1"'), 3, "allow[0].host", '`address = "192.0.2.1"`', ""),
        (
            entry('ports = [5000]\nhost = "LocalHost"'),
            4,
            "allow[0].host",
            "is this machine itself",
            'address = "127.0.0.1" and ports = [5000]',
        ),
        (entry('host = "*.localhost"'), 3, "allow[0].host", "top-level domain", ""),
        (
            entry('host = "a.localhost"'),
            3,
            "allow[0].host",
            "is this machine itself",
            'address = "127.0.0.1" and ports = [443]',
        ),
        (
            entry('host = "a.example"\nprotocol = "tcp"'),
            4,
            "allow[0].protocol",
            "only with `address`",
            "",
        ),
        (
            entry('host = "a.example"\nnames = false'),
            4,
            "allow[0].names",
            "only with `address`",
            "",
        ),
        (entry('host = "a.example"\nport = [1]'), 4, "allow[0].port", "did you mean `ports`?", ""),
        # proxies
        (entry('proxy = "*.corp.example"'), 3, "allow[0].proxy", "one exact name", ""),
        (entry('proxy = "http://p.example:3128"'), 3, "allow[0].proxy", "`ports = [3128]`", ""),
        (
            entry('proxy = "localhost"'),
            3,
            "allow[0].proxy",
            "this machine itself",
            "write the name of the organization's own proxy",
        ),
        # ports
        (
            entry('host = "a.example"\nports = []'),
            4,
            "allow[0].ports",
            "the list is empty",
            "ports = [443]",
        ),
        (
            entry('host = "a.example"\nports = 8443'),
            4,
            "allow[0].ports",
            "must be an array",
            "ports = [8443]",
        ),
        (entry('host = "a.example"\nports = [0]'), 4, "allow[0].ports[0]", "from 1 to 65535", ""),
        (
            entry('host = "a.example"\nports = [\n443,\n65536]'),
            6,
            "allow[0].ports[1]",
            "from 1 to 65535",
            "",
        ),
        (entry('host = "a.example"\nports = [true]'), 4, "allow[0].ports[0]", "not a boolean", ""),
        (entry('host = "a.example"\nports = ["443"]'), 4, "allow[0].ports[0]", "not a string", ""),
        (
            entry('host = "a.example"\nports = [1, 2, 1]'),
            4,
            "allow[0].ports[2]",
            "1 is there twice",
            "",
        ),
        # scopes of an entry
        (
            entry('host = "a.example"\nscopes = ["engine"]'),
            4,
            "allow[0].scopes[0]",
            "did you mean `engines`?",
            "",
        ),
        (
            entry('host = "a.example"\nscopes = []'),
            4,
            "allow[0].scopes",
            "leave it out for all",
            'scopes = ["engines"]',
        ),
        (
            entry('host = "a.example"\nscopes = "host"'),
            4,
            "allow[0].scopes",
            "must be an array",
            'scopes = ["host"]',
        ),
        (
            entry('host = "a.example"\nscopes = ["host", "host"]'),
            4,
            "allow[0].scopes[1]",
            '"host" is there twice',
            "",
        ),
        # addresses
        (
            entry('address = "nexus.corp.example"'),
            3,
            "allow[0].address",
            "is a name",
            'host = "nexus.corp.example"',
        ),
        (
            entry('address = "nonsense!"'),
            3,
            "allow[0].address",
            "is not an address",
            'address = "192.0.2.10" or "192.0.2.0/24"',
        ),
        (
            entry('address = ""'),
            3,
            "allow[0].address",
            "is not an address",
            'address = "192.0.2.10" or "192.0.2.0/24"',
        ),
        (
            entry('address = "10.0.0.1:5000"'),
            3,
            "allow[0].address",
            "the port does not belong",
            'address = "10.0.0.1" and ports = [5000]',
        ),
        (
            entry('address = "[::1]:5000"'),
            3,
            "allow[0].address",
            "the port does not belong",
            'address = "::1" and ports = [5000]',
        ),
        (
            entry('address = "10.0.0.5/24"'),
            3,
            "allow[0].address",
            "has bits set below its prefix",
            'address = "10.0.0.0/24" for the range, address = "10.0.0.5" for the one address',
        ),
        (
            entry('address = "10.0.0.0/255.0.0.0"'),
            3,
            "allow[0].address",
            "length of its prefix",
            'address = "10.0.0.0/8"',
        ),
        (
            entry('address = "::ffff:10.0.0.1"'),
            3,
            "allow[0].address",
            "in IPv6 form",
            'address = "10.0.0.1"',
        ),
        (entry('address = "fe80::1%eth0"'), 3, "allow[0].address", "link-local", ""),
        (
            entry('address = "0.0.0.0/0"'),
            3,
            "allow[0].address",
            "never permitted",
            "write smaller ranges that leave them out",
        ),
        (
            entry('address = "127.0.0.0/8"'),
            3,
            "allow[0].address",
            "loopback",
            'address = "127.0.0.1"',
        ),
        (
            entry('address = "64:ff9b::7f00:1"'),
            3,
            "allow[0].address",
            "never permitted: loopback",
            "",
        ),
        (entry('address = "169.254.169.254"'), 3, "allow[0].address", "cloud metadata service", ""),
        (
            entry('address = "169.254.0.0/16"'),
            3,
            "allow[0].address",
            "cloud metadata",
            "write smaller ranges that leave them out",
        ),
        (
            entry('address = "100.64.0.0/10"'),
            3,
            "allow[0].address",
            "cloud metadata",
            "write smaller ranges that leave them out",
        ),
        (entry('address = "fe80::1"'), 3, "allow[0].address", "link-local", ""),
        (entry('address = "ff02::1"'), 3, "allow[0].address", "multicast", ""),
        (
            entry('address = "224.0.0.0/4"'),
            3,
            "allow[0].address",
            "multicast",
            "write smaller ranges that leave them out",
        ),
        (entry('address = "255.255.255.255"'), 3, "allow[0].address", "broadcast", ""),
        (entry('address = "0.0.0.0"'), 3, "allow[0].address", "unspecified", ""),
        (
            entry('address = "192.0.2.1"\nprotocol = "sctp"'),
            4,
            "allow[0].protocol",
            "known are `tcp`, `udp`",
            "",
        ),
        (
            entry('address = "192.0.2.1"\nprotocol = "udp"'),
            4,
            "allow[0].protocol",
            "needs its ports",
            "ports = [514]",
        ),
        (
            entry('address = "192.0.2.1"\nprotocol = "udp"\nports = [514, 443]'),
            5,
            "allow[0].ports",
            "UDP 443 is refused everywhere",
            "",
        ),
        (
            entry('address = "192.0.2.1"\nprotocol = "udp"\nports = [514]\nnames = true'),
            6,
            "allow[0].names",
            "no name is to be expected",
            "names = false",
        ),
        (entry('address = "192.0.2.1"\nnames = 0'), 4, "allow[0].names", "true or false", ""),
        # enforcement
        (
            'version = 1\n[enforcement]\nmode = "enforced"',
            3,
            "enforcement.mode",
            "did you mean `enforce`?",
            "",
        ),
        *(
            (
                f"version = 1\n[enforcement]\nmark_mask = {mask}",
                3,
                "enforcement.mark_mask",
                "exactly 16 bits",
                "mark_mask = 0x0000ffff or mark_mask = 0xffff0000",
            )
            for mask in ("0", "-1", "0xffff00000", "0x1ffff", "0x7fff", "0xff00ff", "0xffffffff")
        ),
        (
            "version = 1\n[enforcement]\nmark_mask = true",
            3,
            "enforcement.mark_mask",
            "not a boolean",
            "",
        ),
        # scopes
        ("version = 1\n[scopes.engine]", 2, "scopes.engine", "did you mean `engines`?", ""),
        (
            'version = 1\n[scopes.containers]\ninterface = ["a"]',
            3,
            "scopes.containers.interface",
            "did you mean `interfaces`?",
            "",
        ),
        (
            "version = 1\n[scopes.host]\ninterfaces = []",
            3,
            "scopes.host.interfaces",
            "a key of [scopes.containers]",
            "",
        ),
        (
            "version = 1\n[scopes.engines]\nregistry_ports = [80]",
            3,
            "scopes.engines.registry_ports",
            "a key of [scopes.containers]",
            "",
        ),
        (
            'version = 1\n[scopes.engines]\nmode = "registries"',
            3,
            "scopes.engines.mode",
            "an engine's scope is `strict` or `off`",
            'mode = "strict"',
        ),
        (
            'version = 1\n[scopes.host]\nmode = "strict"\nunknown = "allow"',
            4,
            "scopes.host.unknown",
            "this scope's is `strict`",
            'mode = "registries"',
        ),
        (
            'version = 1\n[scopes.engines]\nunknown = "allow"',
            3,
            "scopes.engines.unknown",
            "is a key of [scopes.containers]",
            "",
        ),
        (
            'version = 1\n[scopes.host]\nmode = "stritc"',
            3,
            "scopes.host.mode",
            "did you mean `strict`?",
            "",
        ),
        (
            "version = 1\n[scopes.host]\nregistry_ports = []",
            3,
            "scopes.host.registry_ports",
            "nothing would be filtered",
            "registry_ports = [80, 443, 5000]",
        ),
        (
            "version = 1\n[scopes.engines]\ncgroups = []",
            3,
            "scopes.engines.cgroups",
            "no engine would be filtered",
            'mode = "off"',
        ),
        (
            "version = 1\n[scopes.containers]\ncgroups = []\ninterfaces = []",
            4,
            "scopes.containers.interfaces",
            "no container would be filtered",
            'mode = "off"',
        ),
        *(
            (
                f'version = 1\n[scopes.engines]\ncgroups = ["x",\n"{pattern}"]',
                4,
                "scopes.engines.cgroups[1]",
                words,
                hint,
            )
            for pattern, words, hint in (
                ("/engines.slice", "without a leading slash", '"engines.slice"'),
                ("/sys/fs/cgroup/engines.slice", "without a leading slash", '"engines.slice"'),
                ("/", "without a leading slash", '"engines.slice"'),
                ("", "empty", '"engines.slice"'),
                ("a//b", "empty", '"a/b"'),
                ("a/", "empty", '"a"'),
                ("../b", "`..`", '"b"'),
                ("a/./b", "`.`", '"a/b"'),
                ("a/**", "`**`", '"a/*"'),
                ("*", "every cgroup", '"engines.slice"'),
                ("*/docker.service", "every cgroup", '"engines.slice"'),
                ("a\\u0000b", "control characters", ""),
            )
        ),
        *(
            (
                f'version = 1\n[scopes.containers]\ninterfaces = ["{pattern}"]',
                3,
                "scopes.containers.interfaces[0]",
                words,
                hint,
            )
            for pattern, words, hint in (
                ("*", "fits every interface", '"br-*"'),
                ("**", "fits every interface", '"br-*"'),
                ("b*r", "only at the end", '"br-*"'),
                ("br-**", "only at the end", '"br-*"'),
                ("docker_gwbridge1", "at most 15 characters", ""),
                ("br/0", "not the name of an interface", '"docker0"'),
                ("br 0", "not the name of an interface", '"docker0"'),
                ('br\\"0', "not the name of an interface", '"docker0"'),
                ("", "not the name of an interface", '"docker0"'),
                ("..", "not the name of an interface", '"docker0"'),
                ("lo", "this machine itself", '"docker0"'),
            )
        ),
        # dns
        (
            'version = 1\n[dns]\nservers = "sytem"',
            3,
            "dns.servers",
            'must be "system" or a list',
            'servers = "system" or servers = ["192.0.2.53"]',
        ),
        (
            "version = 1\n[dns]\nservers = []",
            3,
            "dns.servers",
            "the list is empty",
            'servers = "system" or servers = ["192.0.2.53"]',
        ),
        ("version = 1\n[dns]\nservers = 5", 3, "dns.servers", "must be a string", 'servers = "5"'),
        (
            'version = 1\n[dns]\nservers = ["ns.example"]',
            3,
            "dns.servers[0]",
            "is not an address",
            '"192.0.2.53"',
        ),
        (
            'version = 1\n[dns]\nservers = ["192.0.2.53:53"]',
            3,
            "dns.servers[0]",
            "without a port",
            '"192.0.2.53"',
        ),
        (
            'version = 1\n[dns]\nservers = ["192.0.2.53/24"]',
            3,
            "dns.servers[0]",
            "is not an address",
            '"192.0.2.53"',
        ),
        (
            'version = 1\n[dns]\nservers = ["0.0.0.0"]',
            3,
            "dns.servers[0]",
            "unspecified",
            '"192.0.2.53"',
        ),
        (
            'version = 1\n[dns]\nservers = ["ff02::fb"]',
            3,
            "dns.servers[0]",
            "multicast",
            '"192.0.2.53"',
        ),
        (
            'version = 1\n[dns]\nservers = ["fe80::1"]',
            3,
            "dns.servers[0]",
            "link-local",
            '"192.0.2.53"',
        ),
        (
            'version = 1\n[dns]\nservers = ["fe80::1%eth0"]',
            3,
            "dns.servers[0]",
            "interface",
            'servers = "system"',
        ),
        (
            'version = 1\n[dns]\nservers = ["::1", "0::1"]',
            3,
            "dns.servers[1]",
            "::1 is there twice",
            "",
        ),
        ('version = 1\n[dns]\nservers = ["::1", "::1"]', 3, "dns.servers[1]", "is there twice", ""),
        ("version = 1\n[dns]\nservers = [1]", 3, "dns.servers[0]", "must be a string", ""),
    ],
)
def test_bad_input_has_its_line_key_words_and_hint(
    text: str, line: int, key: str, words: str, hint: str
) -> None:
    found = [p for p in problems(text) if (p.line, p.key) == (line, key)]
    assert len(found) == 1
    assert words in found[0].message
    assert found[0].hint == hint
    assert found[0].source == "policy.toml"


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ('registry = "ghcr.io"', 'registry = "ghcr.io"', "the same as the entry at line 2"),
        ('host = "a.example"', 'host = "A.Example."', "the same as the entry at line 2"),
        ('address = "192.0.2.1"', 'address = "192.0.2.1/32"', "the same as the entry at line 2"),
        (
            'host = "a.example"\nports = [443, 8443]',
            'host = "a.example"\nports = [8443]',
            "`a.example` on port 8443 is permitted already by `a.example:443,8443` at line 2",
        ),
        (
            'registry = "ghcr.io"',
            'host = "ghcr.io"',
            "`ghcr.io` on port 443 is permitted already by `ghcr.io` at line 2",
        ),
        (
            'proxy = "p.example"',
            'host = "p.example"\nports = [3128]',
            "the same as the entry at line 2",
        ),
        (
            'address = "10.0.0.0/8"',
            'address = "10.1.0.0/16"\nports = [80, 443]',
            "`10.1.0.0/16` on tcp port 443 is permitted already by `10.0.0.0/8:443` at line 2",
        ),
        (
            'address = "2001:db8::1"',
            'address = "2001:db8::/64"\nscopes = ["engines"]',
            "`2001:db8::1` on tcp port 443 is permitted already by `[2001:db8::1]:443` at line 2",
        ),
    ],
)
def test_what_is_permitted_twice_points_to_the_first(first: str, second: str, words: str) -> None:
    text = f"version = 1\n[[allow]]\n{first}\n[[allow]]\n{second}\n"
    (problem,) = problems(text)
    assert problem.key == "allow[1]"
    assert problem.line == 4 + first.count("\n")
    assert problem.message == words
    assert problem.hint == "take one of the two away"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('host = "a.example"', 'host = "a.example"\nports = [8443]'),
        ('host = "a.example"', 'host = "b.example"'),
        ('host = "*.corp.example"', 'host = "nexus.corp.example"'),
        ('host = "a.example"\nscopes = ["host"]', 'host = "a.example"\nscopes = ["engines"]'),
        (
            'address = "192.0.2.1"\nports = [514]',
            'address = "192.0.2.1"\nports = [514]\nprotocol = "udp"',
        ),
        ('address = "192.0.2.0/25"', 'address = "192.0.2.128/25"'),
    ],
)
def test_what_differs_is_not_twice(first: str, second: str) -> None:
    assert len(read(f"version = 1\n[[allow]]\n{first}\n[[allow]]\n{second}\n").entries) == 2


def test_more_entries_than_there_are_ids_for_are_refused_where_they_begin() -> None:
    (problem,) = problems("version = 1\n" + "[[allow]]\n" * (MOST_ENTRIES + 1))
    assert problem.line == MOST_ENTRIES + 2
    assert problem.message == "20,001 entries; there may be 20,000"


def test_all_problems_are_said_at_once_in_the_order_of_lines() -> None:
    text = """\
version = 2
[[allow]]
host = "https://ghcr.io"
port = [1]
[[allow]]
registry = "dokcer.io"
[scopes.containers]
interface = ["docker0"]
[dns]
servers = []
"""
    found = problems(text)
    assert [(p.line, p.key) for p in found] == [
        (1, "version"),
        (3, "allow[0].host"),
        (4, "allow[0].port"),
        (6, "allow[1].registry"),
        (8, "scopes.containers.interface"),
        (10, "dns.servers"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("version = 1", 1, "", "it refuses everything in its scopes"),
        (entry('proxy = "p.example"'), 3, "allow[0].proxy", "(CONNECT)"),
        (entry('host = "ghcr.io"'), 3, "allow[0].host", "one host alone"),
        (entry('host = "nexus"'), 3, "allow[0].host", "without a search domain"),
        (entry('registry = "docker.io"'), 3, "allow[0].registry", "CloudFront"),
        (
            entry(
                'host = "a.example"\n'
                + "".join(
                    f'[scopes.{s}]\nmode = "off"\n' for s in ("engines", "containers", "host")
                )
            ),
            4,
            "scopes",
            "nothing is enforced",
        ),
    ],
)
def test_what_is_doubtful_is_a_warning(text: str, line: int, key: str, words: str) -> None:
    (warning,) = warnings(text)
    assert (warning.line, warning.key) == (line, key)
    assert words in warning.message


@pytest.mark.parametrize("host", ["nexus.corp.example", "*.pkg.dev"])
def test_a_plain_policy_has_no_warning(host: str) -> None:
    assert warnings(entry(f'host = "{host}"')) == ()


def test_a_dns_server_on_this_machine_or_of_a_cloud_is_a_usual_one() -> None:
    text = 'version = 1\n[dns]\nservers = ["127.0.0.53", "169.254.169.253"]'
    assert read(text).dns.servers == ("127.0.0.53", "169.254.169.253")


@pytest.mark.parametrize("shift", range(17))
def test_any_16_bits_side_by_side_are_a_mark_mask(shift: int) -> None:
    mask = 0xFFFF << shift
    assert read(f"version = 1\n[enforcement]\nmark_mask = {mask:#x}").mark_mask == mask


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 5000, "a = " + "[" * 400 + "]" * 400, "version = " + "9" * 5000, "=", "[" * 99],
)
def test_hostile_toml_is_a_problem_of_the_policy(text: str) -> None:
    assert problems(text)


def test_a_number_too_long_to_print_is_still_a_problem() -> None:
    found = problems(f"version = 1\n[organization]\nname = 0x{'f' * 9000}")
    assert found[0].key == "organization.name"
    assert len(found[0].hint) < 200


# What the format knows, wrong in every place: near enough to the truth to get deep into the parser.
WORDS = st.sampled_from(
    [
        *("version", "organization", "name", "contact", "allow", "registry", "host", "proxy"),
        *("address", "ports", "protocol", "scopes", "names", "enforcement", "mode", "mark_mask"),
        *("engines", "containers", "cgroups", "interfaces", "registry_ports", "dns", "servers"),
        *("account", "docker.io", "ghcr.io", "*.pkg.dev", "10.0.0.0/8", "127.0.0.1", "::1/64"),
        *("strict", "off", "system", "udp", "tcp", "br-*", "*", "", "a\0b", "xn--a", "é.example"),
    ]
)
SCALAR = (
    st.sampled_from([0, 1, 443, 65536, -1, 2**70, True, False, 1.5, float("nan"), date(2026, 1, 1)])
    | WORDS
    | st.text(max_size=8)
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner),
    max_leaves=25,
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" if not c.isalnum() else c for c in value) + '"'
    return str(value).lower()


def parses_or_says_why(text: str) -> None:
    try:
        policy, _ = parse(text, "policy.toml", shipped())
    except PolicyError as error:
        found = error.problems
    else:
        assert policy.engines.mode is not ScopeMode.REGISTRIES
        return
    assert found
    for problem in found:
        assert 0 <= problem.line <= text.count("\n") + 1
        assert re.sub("\n    .*", "", str(problem)).isprintable()


@given(st.dictionaries(WORDS, VALUE, max_size=8))
def test_whatever_toml_says_the_parser_answers(data: dict[str, object]) -> None:
    parses_or_says_why(
        "version = 1\n"
        + "".join(
            f"{toml(key)} = {toml(value)}\n" for key, value in data.items() if key != "version"
        )
    )


@given(st.lists(st.dictionaries(WORDS, VALUE, max_size=6), max_size=4))
def test_whatever_an_entry_says_the_parser_answers(entries: list[dict[str, object]]) -> None:
    parses_or_says_why(f"version = 1\nallow = {toml(entries)}\n")


@given(st.text(max_size=200) | st.text(alphabet="[]{}=.,\"'\\#\n ab1\r", max_size=60))
def test_whatever_text_it_is_given_the_parser_answers(text: str) -> None:
    parses_or_says_why(text)
