"""What the kernel can do with ramfw's rules, asked by dry runs, and what its version brings."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ramfw.core.compiler import compile_ruleset
from ramfw.core.names_report import NOT_TOLD
from ramfw.core.numbering import number
from ramfw.core.permitted import KEY4, KEY6
from ramfw.core.plan import Machine
from ramfw.core.policy import Policy, ScopeMode, ScopeName
from ramfw.core.reconcile import diff
from ramfw.core.refusals import log_refusal
from ramfw.core.ruleset import (
    IDS,
    VERDICTS,
    Chain,
    Count,
    Dispatch,
    Field,
    Hook,
    Masked,
    Match,
    NamedSet,
    Reject,
    Rule,
    SetMark,
    SetRef,
    SocketCgroup,
    Tag,
    Untag,
)
from ramfw.core.tablestate import TableState
from ramfw.core.transaction import (
    AddChain,
    AddCounter,
    AddElements,
    AddRule,
    AddSet,
    AddTable,
    Operation,
    Transaction,
)
from ramfw.core.turn_rules import Turning
from ramfw.core.watch_rules import WatchForm
from ramfw.doctor.finding import MISSING, NOTE, OK, Finding
from ramfw.errors import KernelError, MissingError
from ramfw.program.nft import Nft
from ramfw.program.tun import DEVICE

CAP_NET_ADMIN = 12
"""Its bit in CapEff, capabilities(7)."""

_NAME = "doctor_probe"
_MARK = Masked(Field.CT_MARK, 0xFFFF)


class Checker(Protocol):
    """What is asked of nftables here; nothing of it changes anything."""

    def check(self, transaction: Transaction) -> None:
        """Have the kernel judge a transaction without committing it; raises KernelError."""

    def read(self, *, with_grants: bool) -> TableState | None:
        """See `Kernel.read`."""

    def can_lock(self) -> bool:
        """Whether a table can be owned, and stay when its owner ends. Changes nothing."""

    def watch_form(self) -> tuple[WatchForm, str]:
        """See `Kernel.watch_form`."""

    def turning(self) -> tuple[Turning, str]:
        """See `Kernel.turning`."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Something that ramfw needs of nftables; `follows` says what fails without it."""

    what: str
    operations: tuple[Operation, ...]
    follows: str
    mend: str


def open_nft() -> Checker:
    """The real one. Raises MissingError."""
    nft = Nft()
    nft.watch_form()  # how it is to list the table depends on that
    return nft


def findings(root: Path, policy: Policy, open_checker: Callable[[], Checker]) -> Iterator[Finding]:
    """nftables, its binding, the right to use it, each expression, and the kernel's version."""
    # Before a context is open: a process that has one must not fork.
    yield _nft_version()
    yield from _asked(root, policy, open_checker)
    yield _device(root)
    yield from _version(root)
    yield from _loose(root)


def _nft_version() -> Finding:
    command = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if command is None:
        return Finding(
            "the command nft is not installed",
            NOTE,
            "ramfw does not need it, but its rules cannot be looked at",
            "apt-get install nftables",
        )
    answer = subprocess.run(  # noqa: S603 - a fixed command
        [command, "--version"], capture_output=True, text=True, check=False, timeout=10
    )
    return Finding(answer.stdout.strip() or "nft does not tell its version", OK)


def _asked(root: Path, policy: Policy, open_checker: Callable[[], Checker]) -> Iterator[Finding]:
    try:
        checker = open_checker()
    except MissingError as error:
        words, _, mend = str(error).rpartition(": ")
        yield Finding(words, MISSING, "nothing can be enforced", mend)
        return
    yield Finding("the nftables binding for Python is there (python3-nftables)", OK)
    if not _is_privileged(root):
        yield Finding(
            "this process has no CAP_NET_ADMIN",
            MISSING,
            "the kernel was not asked what it can do, and nothing can be enforced without it",
            "sudo ramfw doctor",
        )
        return
    refusal = _refusal(checker, (AddTable(),))
    if refusal and checker.read(with_grants=False) is not None:
        # Locked, by the daemon that runs: to all others the kernel answers like that.
        yield Finding(
            f"the table inet ramfw is loaded and locked: only its owner may change it ({refusal})",
            OK,
            "the kernel takes such rules; what it can do besides, ramfw status tells",
        )
        return
    if refusal:
        yield Finding(
            f"the kernel has no usable nf_tables: {refusal}",
            MISSING,
            "nothing can be enforced",
            "a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET: modprobe nf_tables",
        )
        return
    yield Finding("nf_tables can be used in this network namespace", OK)
    lacking = [finding for probe in _probes() for finding in _probed(checker, probe)]
    yield from lacking
    no_cgroups = _refusal(checker, (AddTable(), *_BY_CGROUP))
    yield _cgroup_match(policy, no_cgroups)
    if any(finding.state == MISSING for finding in lacking):
        return
    yield _watch(checker)
    yield _names(checker)
    yield _turning(checker)
    yield _lock(checker)
    yield _whole(checker, policy, by_cgroup=not no_cgroups)


def _is_privileged(root: Path) -> bool:
    status = (root / "proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> CAP_NET_ADMIN & 1)


def _probed(checker: Checker, probe: Probe) -> Iterator[Finding]:
    refusal = _refusal(checker, (AddTable(), *probe.operations))
    if refusal:
        yield Finding(
            f"{probe.what}: not to be had ({refusal})", MISSING, probe.follows, probe.mend
        )
    else:
        yield Finding(f"{probe.what}: works", OK)


def _device(root: Path) -> Finding:
    if (root / DEVICE.removeprefix("/")).exists():
        return Finding(f"clients that are refused by name can be told why ({DEVICE})", OK)
    return Finding(
        f"there is no {DEVICE}",
        NOTE,
        f"{NOT_TOLD}; ramfw log has the reason",
        "modprobe tun; in a container, let it have the device",
    )


def _lock(checker: Checker) -> Finding:
    if checker.can_lock():
        fact = "the table can be locked (owner, persist): nobody else can change it"
        return Finding(fact, OK)
    return Finding(
        "the table cannot be locked",
        NOTE,
        "root's other programs can change it; it is put right within milliseconds, and who did it "
        "is told; what is sent meanwhile passes",
        "Linux 6.9 and nftables 1.1.0 or later, as in Debian 13",
    )


def _turning(checker: Checker) -> Finding:
    turning, problem = checker.turning()
    match turning:
        case Turning.ALL:
            return Finding("refused connections can be turned to the explainer (redirect, fib)", OK)
        case Turning.SOCKETS:
            fact = f"containers' refused connections cannot be turned to the explainer: {problem}"
        case Turning.NONE:
            fact = f"refused connections cannot be turned to the explainer: {problem}"
    follows = "they are refused without a word of explanation"
    return Finding(
        fact, NOTE, follows, "such a kernel, or its module: modprobe nft_fib_inet nft_redir"
    )


def _watch(checker: Checker) -> Finding:
    form, problem = checker.watch_form()
    mend = "a kernel with CONFIG_NFT_QUEUE, or its module: modprobe nft_queue"
    match form:
        case WatchForm.NATIVE:
            return Finding("DNS answers can be held until what they open is open (nft queue)", OK)
        case WatchForm.XT:
            fact = "DNS answers can be held until what they open is open (xt NFQUEUE)"
            return Finding(fact, OK)
        case WatchForm.COPY:
            return Finding(
                f"DNS answers can only be copied (NFLOG), not held: {problem}",
                NOTE,
                "a first connection to a new address may take a second longer",
                mend,
            )
        case WatchForm.NONE:
            return Finding(
                f"DNS answers cannot be watched: {problem}",
                NOTE,
                "only names that are resolved ahead are open; wildcards open nothing",
                mend,
            )


def _names(checker: Checker) -> Finding:
    form, problem = checker.watch_form()
    if form.holds:
        return Finding("names can be read in a connection's first bytes", OK)
    return Finding(
        f"names cannot be read in a connection's first bytes: {problem}",
        NOTE,
        "addresses alone decide, and an address that a permitted registry shares (a CDN) is open "
        "whatever name is asked there; mode registries is strict for containers, off for the host",
        "a kernel with CONFIG_NFT_QUEUE, or its module: modprobe nft_queue",
    )


def _cgroup_match(policy: Policy, refusal: str) -> Finding:
    what = "matching by cgroup (socket cgroupv2)"
    if not refusal:
        return Finding(f"{what}: works", OK)
    if policy.host.mode is not ScopeMode.OFF:
        return Finding(
            f"{what}: not to be had ({refusal})",
            NOTE,
            "engines are judged as the rest of the host is: on its registry_ports only",
            "a kernel with CONFIG_NFT_SOCKET (Debian and Ubuntu have it, WSL 6.6 and 6.18 do not)",
        )
    return Finding(
        f"{what}: not to be had ({refusal})",
        MISSING,
        "engines cannot be told from the rest of the host, and the scope host is off: what they "
        "fetch is not judged; containers on bridges are",
        'under [scopes.host]: mode = "strict"; or a kernel with CONFIG_NFT_SOCKET',
    )


def _whole(checker: Checker, policy: Policy, *, by_cgroup: bool) -> Finding:
    """The rules of the policy itself, as they would be with no cgroup and no address known."""
    if checker.read(with_grants=False) is not None:
        # Its shape would stand in the way; and what is enforced is not to be risked for a question.
        return Finding("the table inet ramfw is loaded, so the kernel takes such rules", OK)
    # Ids do not matter here: only the shape of the rules does.
    entries = [number(entry_id, entry) for entry_id, entry in enumerate(policy.entries, start=16)]
    whole = diff(compile_ruleset(policy, Machine(by_cgroup=by_cgroup), entries), None)[0]
    refusal = _refusal(checker, whole)
    if refusal:
        return Finding(
            f"the kernel refuses the policy's rules as a whole: {refusal}",
            MISSING,
            "nothing can be enforced",
            "report it, with the output of: ramfw doctor --json",
        )
    return Finding("the kernel takes the policy's rules as a whole (a dry run)", OK)


def _refusal(checker: Checker, transaction: Transaction) -> str:
    """Why the kernel refuses it, on one line; empty where it does not."""
    try:
        checker.check(transaction)
    except KernelError as error:
        lines = (error.detail or str(error)).strip().splitlines()
        return lines[0].removeprefix("Error: ") if lines else "it does not say why"
    return ""


def _rule(rule: Rule, hook: str = "output", *before: Operation) -> tuple[Operation, ...]:
    chain = Chain(_NAME, (), Hook(hook, 0))
    return (*before, AddChain(chain), AddRule(_NAME, rule))


# Its set has a name of its own: libnftables remembers the sets of earlier dry runs.
_CGROUPS = f"{_NAME}_cgroups"
_BY_CGROUP = _rule(
    (Match(SocketCgroup(1), SetRef(_CGROUPS)),),
    "output",
    AddSet(NamedSet(_CGROUPS, ("cgroupsv2",))),
)


def _probes() -> Iterator[Probe]:
    yield Probe(
        "connection marks (ct mark)",
        _rule((Match(_MARK, 0), SetMark(0xFFFF0000, 1))),
        "a flow cannot be remembered as permitted",
        "a kernel with CONFIG_NFT_CT and CONFIG_NF_CONNTRACK_MARK: modprobe nft_ct",
    )
    refusals = (Reject("tcp reset"), Reject("icmpx admin-prohibited"))
    yield Probe(
        "refusing with an answer (reject)",
        (
            *_rule((Match(Field.L4PROTO, "tcp"), refusals[0])),
            AddRule(_NAME, (refusals[1],)),
        ),
        "refused connections would hang",
        "a kernel with CONFIG_NFT_REJECT_INET: modprobe nft_reject_inet",
    )
    yield Probe(
        "copies of refused connections (log, limit)",
        _rule(log_refusal(ScopeName.ENGINES)),
        "the rules cannot be loaded: each refusal is logged by them",
        "a kernel with CONFIG_NFT_LOG and CONFIG_NFT_LIMIT: modprobe nft_log nft_limit",
    )
    names = NamedSet(_NAME, ("ifname",), frozenset({"interval"}))
    yield Probe(
        "interface patterns in sets",
        (
            AddSet(names),
            AddElements(_NAME, frozenset({"br-*"})),
            *_rule((Match(Field.OIFNAME, SetRef(_NAME)),)),
        ),
        "container bridges cannot be told by their names",
        "nftables 1.0.2 or later: apt-get install nftables",
    )
    # nft remembers sets of a dry run, so each has a name of its own.
    for family, key, address in ((4, KEY4, Field.IP_DADDR), (6, KEY6, Field.IP6_DADDR)):
        timed, ranges = frozenset({"timeout"}), frozenset({"interval", "timeout"})
        yield Probe(
            f"sets of address, protocol and port with timeouts, IPv{family}",
            (
                AddSet(NamedSet(f"{_NAME}{family}", key, timed, data=IDS)),
                AddSet(NamedSet(f"{_NAME}_ranges{family}", key, ranges, data=IDS)),
                *_rule((Tag((address, Field.L4PROTO, Field.TH_DPORT), f"{_NAME}{family}"),)),
            ),
            "no address can be permitted for a time",
            "kernel 5.6 or later, and nftables 1.0.2 or later",
        )
    yield Probe(
        "verdicts by a packet's priority",
        (
            AddSet(NamedSet(f"{_NAME}_entries", ("classid",), data=VERDICTS)),
            *_rule((Untag(),)),
            AddRule(_NAME, (Dispatch(f"{_NAME}_entries"),)),
        ),
        "what a permitted address belongs to cannot be told",
        "nftables 1.0.2 or later: apt-get install nftables",
    )
    yield Probe(
        "counters",
        (AddCounter(_NAME), *_rule((Count(_NAME),))),
        "nothing can be counted",
        "a kernel with CONFIG_NF_TABLES and its named objects (4.10 or later)",
    )


def _version(root: Path) -> Iterator[Finding]:
    release = (root / "proc/sys/kernel/osrelease").read_text().strip()
    numbers = re.match(r"(\d+)\.(\d+)", release)
    version = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    yield Finding(f"Linux {release}", OK)
    if version < (6, 12):
        yield Finding(
            "before Linux 6.12, adding an element again leaves its timeout as it was",
            NOTE,
            "ramfw adds, deletes and adds in one transaction; other tools' refreshes do nothing",
            "nothing is to be done",
        )
    if version < (6, 17):
        yield Finding(
            "before Linux 6.17, a lookup can miss an element while a commit replaces it",
            NOTE,
            "at a refresh, a permitted connection can be refused, and will work when tried again",
            "Linux 6.17 or later, where that matters",
        )


def _loose(root: Path) -> Iterator[Finding]:
    setting = root / "proc/sys/net/netfilter/nf_conntrack_tcp_loose"
    if setting.exists() and setting.read_text().strip() != "0":
        yield Finding(
            "conntrack takes up connections in their middle (nf_conntrack_tcp_loose is on)",
            OK,
            "ramfw asks for a SYN itself, so this opens nothing",
        )
