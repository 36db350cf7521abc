"""`ramfw status` for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ramfw.render.refusals import refusal
from ramfw.render.text import Page, clean, listed, number, size, span

Fields = dict[str, Any]

WIDE = 120
"""Columns from which all addresses of a host are shown, and not only the first few."""
FEW = 3
MOST_NAMES = 20
"""Names learned under a wildcard that a wide page shows; there can be thousands."""

WATCHES = {
    "native": "answers held (nft queue)",
    "xt": "answers held (xt NFQUEUE)",
    "copy": "answers copied, not held (NFLOG)",
    "none": "none",
}


def status(facts: Fields, page: Page) -> list[str]:
    """What is enforced, permitted and refused, and what is not enforced and why."""
    return [
        *_header(facts, page),
        "",
        *_scopes(facts["scopes"], page),
        "",
        *_entries(facts, page),
        *_refusals_elsewhere(facts, page),
        *_latest(facts["refusals"], page),
        *_refused_by_name(facts["names"], page),
        *_found_by_asking(facts["names"]["probe"], page),
        *_policy_problems(facts["policy_problems"], page),
        *_problems(facts["problems"], page),
    ]


def missing(facts: Fields) -> list[str]:
    """What keeps `settled` from being true, a sentence each."""
    sentences = []
    if not facts["in_force"]:
        sentences.append(_not_in_force(facts))
    unanswered = _unresolved(facts)
    if unanswered:
        sentences.append(f"without an address: {listed(unanswered)}")
    if facts["dns"]["problem"]:
        sentences.append(facts["dns"]["problem"])
    return sentences or ["addresses that were learned are still on their way into the kernel"]


# -- the header --------------------------------------------------------------------------------


def _header(facts: Fields, page: Page) -> Iterator[str]:
    organization = facts["organization"]
    name = clean(organization["name"]) or "its policy"
    whose = f"the policy of {name}" if organization["name"] else "its policy"
    if facts["mode"] == "audit":
        does, color = f"ramfw only watches: {whose} is in audit mode", "yellow"
    elif facts["in_force"]:
        does, color = f"ramfw enforces {whose}", "green"
    else:
        does, color = f"ramfw does not enforce {whose} as it is meant", "red"
    yield from (page.paint(line, "bold", color) for line in page.wrap(does))
    if facts["in_force"]:
        state = f"in force, read back from the kernel {span(facts['verified_ago'] or 0)} ago"
        settled = "" if facts["settled"] else "; addresses are still being learned"
        yield from page.wrap(state + settled)
    else:
        yield from page.wrap(_not_in_force(facts))
    for alarm in facts["alarms"]:
        yield from (page.paint(line, "bold", "red") for line in page.wrap(f"ALARM: {clean(alarm)}"))
    rows = [("policy", facts["policy"])]
    if organization["contact"]:
        rows.append(("contact", clean(organization["contact"])))
    catalog = facts["catalog"]
    if catalog["source"] != "shipped":
        rows.append(("catalogue", clean(f"{catalog['source']}, edition {catalog['edition']}")))
    servers = listed(facts["dns"]["servers"]) or "none"
    behind = listed(facts["dns"]["upstream"])
    servers = f"{servers}, and behind it {behind}" if behind else servers
    former = listed(facts["dns"]["former"])
    rows.append(("trusted DNS", f"{servers}; for a moment still {former}" if former else servers))
    watch = facts["watch"]
    rows.append(("DNS watch", _watch(watch)))
    held = "locked: nobody else can change it" if facts["lock"]["held"] else "watched, not locked"
    rows.append(("table", held))
    if facts["canary"]["ago"] is not None:
        rows.append(("canary", f"{span(facts['canary']['ago'])} ago: {facts['canary']['detail']}"))
    rows.append(("names", _names(facts["names"])))
    rows.append(
        ("daemon", f"ramfw {facts['version']}, pid {facts['pid']}, up {span(facts['uptime'])}")
    )
    yield from page.table([(f"  {label}", text) for label, text in rows])


def _watch(watch: Fields) -> str:
    every = f"all of them, for {clean(watch['held_because'])}" if watch["held"] == "all" else ""
    return ": ".join(filter(None, (WATCHES[watch["form"]], watch["problem"] or every)))


def _names(names: Fields) -> str:
    if not names["checked"]:
        return "not checked: addresses alone decide"
    counts = ", ".join(f"{names[what]:,} {what}" for what in ("permitted", "passed", "refused"))
    return f"read in each connection's first bytes: {counts}{_unread(names)}"


def _unread(names: Fields) -> str:
    """How much passed unread, and when: the latest absences."""
    if not names["unread"]:
        return ""
    when = ", ".join(
        f"for {span(one['since_ago'] - one['until_ago'])} until {span(one['until_ago'])} ago"
        for one in names["absences"][:FEW]
    )
    without = f" while no daemon was there ({when})" if when else ""
    return f"; {number(names['unread'], 'connection')} passed unread{without}"


def _not_in_force(facts: Fields) -> str:
    rejection = facts["kernel"]["last_rejection"]
    if rejection:
        return f"the rules are not in force: the kernel refused them: {clean(rejection)}"
    return "the rules are not in force yet"


def _latest(refusals: list[Fields], page: Page) -> Iterator[str]:
    if not refusals:
        return
    yield ""
    yield page.paint("REFUSED LAST", "bold")
    inner = replace(page, width=page.width - 2)
    for facts in reversed(refusals):
        when = f"{span(facts['last_ago'])} ago"
        yield from (f"  {line}" for line in refusal(facts, inner, when))


# -- scopes ------------------------------------------------------------------------------------


def _scopes(scopes: list[Fields], page: Page) -> Iterator[str]:
    rows = [("SCOPE", "MODE", "REFUSED", "WHO")]
    rows += [(s["name"], s["mode"], _refused(s), _who(s)) for s in scopes]
    heading, *lines = page.table(rows)
    yield page.paint(heading, "bold")
    yield from lines


def _refused(scope: Fields) -> str:
    if scope["mode"] == "off":
        return "-"
    refused, audited = scope["refused"]["packets"], scope["audited"]["packets"]
    if audited:
        return f"{audited:,} would be" + (f", {refused:,} were" if refused else "")
    return number(refused, "packet") if refused else "nothing"


def _who(scope: Fields) -> str:
    if scope["mode"] == "off":
        return "left alone"
    parts = []
    if scope["cgroups"]:
        parts.append(", ".join(scope["cgroups"]))
    elif scope["name"] == "engines":
        parts.append("no engine's cgroup exists now")
    if scope["interfaces"]:
        parts.append(", ".join(scope["interfaces"]))
    if scope["registry_ports"]:
        parts.append("port " + ", ".join(map(str, scope["registry_ports"])))
    if scope["name"] == "host":
        parts.insert(0, "everything else")
    return "; ".join(parts)


# -- what is permitted -------------------------------------------------------------------------


def _entries(facts: Fields, page: Page) -> Iterator[str]:
    entries = facts["entries"]
    if not entries:
        nothing = "Nothing is permitted: the policy has no [[allow]]."
        yield from (page.paint(line, "bold") for line in page.wrap(nothing))
        return
    yield page.paint("PERMITTED", "bold")
    judged = [scope["name"] for scope in facts["scopes"] if scope["mode"] != "off"]
    for entry in entries:
        yield from _entry(entry, judged, page)


def _entry(entry: Fields, judged: list[str], page: Page) -> Iterator[str]:
    used = number(entry["connections"], "connection")
    if entry["bytes"]:
        used += f", {size(entry['bytes'])}"
    only = [scope for scope in judged if scope in entry["scopes"]]
    if only != judged:
        used += f"; for {listed(only)} only" if only else "; for scopes that are off"
    kind = " (proxy)" if entry["kind"] == "proxy" else ""
    label = clean(entry["label"]) + kind
    hosts = entry["hosts"]
    is_one = len(hosts) == 1 and entry["kind"] != "registry"
    if is_one:
        # Its name and ports are the label already.
        used += f"; {_addresses_of(hosts[0])}"
    first, *others = page.wrap(f"{label}  {used}", 2, 6)
    yield first.replace(label, f"{page.paint(label, 'bold')} ", 1)
    yield from others
    for host in hosts:
        if not is_one:
            ports = "" if host["ports"] == [443] else ":" + ",".join(map(str, host["ports"]))
            role = f"{host['role']}, " if host["role"] else ""
            yield from _beside(f"{host['name']}{ports}", role + _addresses_of(host), page)
        yield from _details(host, page)


def _addresses_of(host: Fields) -> str:
    addresses = number(len(host["addresses"]), "address", "addresses")
    if _is_wildcard(host):
        return f"{number(len(_by_name(host)), 'name')} learned, {addresses}"
    wait = host["next_refresh_in"]
    if wait is None:
        return addresses
    return f"{addresses}, asked again {f'in {span(wait)}' if wait >= 1 else 'now'}"


def _is_wildcard(host: Fields) -> bool:
    return str(host["name"]).startswith("*.")


def _by_name(host: Fields) -> dict[str, list[Fields]]:
    """The addresses by the name that was learned, the latest first."""
    found: dict[str, list[Fields]] = {}
    for address in sorted(host["addresses"], key=lambda address: float(address["learned_ago"])):
        found.setdefault(address["name"], []).append(address)
    return found


def _learned(host: Fields, page: Page) -> Iterator[str]:
    """The names under a wildcard, each with its addresses and who gave them when."""
    names = _by_name(host)
    shown = list(names.items())[: MOST_NAMES if page.width >= WIDE else FEW]
    for name, given in shown:
        addresses = ", ".join(_few([address["address"] for address in given], page))
        servers = listed(dict.fromkeys(str(address["server"]) for address in given))
        told = f"{servers}, {span(given[0]['learned_ago'])} ago"
        yield from page.wrap(f"{name}: {addresses} ({told})", 6, 8)
    if len(names) > len(shown):
        yield from page.wrap(f"and {number(len(names) - len(shown), 'more name')}", 6)


def _few(addresses: list[str], page: Page) -> list[str]:
    """All of them, or on a narrow page the first, and how many more there are."""
    shown = addresses if page.width >= WIDE else addresses[:FEW]
    more = len(addresses) - len(shown)
    return [*shown, *([f"and {more} more"] if more else [])]


def _details(host: Fields, page: Page) -> Iterator[str]:
    if _is_wildcard(host):
        lines: Iterable[str] = _learned(host, page)
    else:
        lines = page.items(_few([address["address"] for address in host["addresses"]], page), 6)
    yield from (page.paint(line, "dim") for line in lines)
    yield from (page.paint(line, "yellow") for line in page.wrap(_trouble(host), 6))


def _beside(name: str, facts: str, page: Page, column: int = 30) -> Iterator[str]:
    """The name and, on the same line where there is room, what is said of it."""
    line = f"    {name}".ljust(column) + f"  {facts}"
    if len(line) <= page.width:
        yield line
    else:
        yield f"    {name}"
        yield from page.wrap(facts, 6)


def _trouble(host: Fields) -> str:
    if not host["problem"]:
        return ""
    stale = host["serving_stale_for"]
    if stale is not None and host["addresses"]:
        ago = span(host["last_good_ago"] or 0)
        return (
            f"{host['problem']}; the last good answer, {ago} old, serves on for {span(stale)} at "
            "most"
        )
    return str(host["problem"])


# -- what is wrong -----------------------------------------------------------------------------


def _refusals_elsewhere(facts: Fields, page: Page) -> Iterator[str]:
    revoked, mismatches = facts["revoked"]["packets"], facts["kernel"]["mismatches"]
    sentences = []
    if revoked:
        sentences.append(f"Cut off after a registry was taken out: {number(revoked, 'packet')}.")
    if mismatches:
        times = number(mismatches, "time")
        sentences.append(f"Somebody changed ramfw's table {times}; each time it was put right.")
    if facts["links"]["uplinks"]:
        names = listed(facts["links"]["uplinks"])
        sentences.append(f"Not taken for container bridges, because they lead out: {names}.")
    if sentences:
        yield ""
    for sentence in sentences:
        yield from page.wrap(sentence, 0, 2)


def _refused_by_name(names: Fields, page: Page) -> Iterator[str]:
    refusals = names["refusals"]
    if not refusals:
        return
    yield ""
    yield page.paint("LATELY REFUSED BY NAME", "bold")
    for one in refusals[: MOST_NAMES if page.width >= WIDE else FEW]:
        where = f"[{one['address']}]" if ":" in one["address"] else one["address"]
        what = f"{clean(one['name'])} at " if one["name"] else ""
        told = f"{what}{where}:{one['port']}, {one['scope']}, {span(one['ago'])} ago"
        yield from page.wrap(f"{told}: {one['reason']}", 2, 4)


def _found_by_asking(probe: Fields, page: Page) -> Iterator[str]:
    registries = probe["registries"]
    if not registries:
        return
    shown = registries[: MOST_NAMES if page.width >= WIDE else FEW]
    yield ""
    yield page.paint("REGISTRIES FOUND BY ASKING, AND REFUSED", "bold")
    for one in shown:
        where = f"[{one['address']}]" if ":" in one["address"] else one["address"]
        name = clean(one["name"])
        what = f"{name} at {where}:{one['port']}" if name else f"{where}:{one['port']}"
        how = "refused at every address" if one["everywhere"] else "refused there"
        told = f"{what}, {span(one['ago'])} ago: {one['evidence']}; {how}"
        yield from page.wrap(told, 2, 4)
    if len(registries) > len(shown):
        yield from page.wrap(f"and {len(registries) - len(shown):,} more", 2)


def _policy_problems(problems: list[str], page: Page) -> Iterator[str]:
    if not problems:
        return
    yield ""
    heading = "The policy file was refused; the last good one stays in force:"
    yield from (page.paint(line, "bold", "red") for line in page.wrap(heading))
    for problem in problems:
        first, *others = problem.splitlines()
        yield from page.wrap(first, 2, 4)
        for line in others:
            yield from page.wrap(line, 6)


def _problems(problems: Iterable[Fields], page: Page) -> Iterator[str]:
    problems = list(problems)
    if not problems:
        return
    yield ""
    yield page.paint("NOT ENFORCED, OR ONLY IN PART", "bold")
    for problem in problems:
        yield from (page.paint(line, "yellow") for line in page.wrap(problem["what"], 2, 4))
        yield from page.wrap(f"so: {problem['follows']}", 4, 8)
        if problem["mend"]:
            yield from page.wrap(f"do: {problem['mend']}", 4, 8)


def _unresolved(facts: Fields) -> list[str]:
    return [
        f"{host['name']} ({host['problem']})"
        for entry in facts["entries"]
        for host in entry["hosts"]
        if not host["addresses"] and host["problem"] and not host["name"].startswith("*.")
    ]
