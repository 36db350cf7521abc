"""The system's DNS servers, read from resolv.conf and followed when it changes.

Those that resolv.conf(5) makes the clients of this machine ask, and no others: the first three
`nameserver` lines. Options and search lists do not matter here.
"""

from __future__ import annotations

import asyncio
import errno
import stat
from collections.abc import AsyncGenerator
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from asyncinotify import Event, Inotify, Mask

from ramfw.core.events import Address, ServersChanged
from ramfw.observe.inotify import burst, explain, watcher

RESOLV_CONF = Path("/etc/resolv.conf")

STUB_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")
STUBS = frozenset({ip_address("127.0.0.53"), ip_address("127.0.0.54")})
"""systemd-resolved's listeners, systemd-resolved.service(8)."""

_MAXNS = 3  # resolv.conf(5)
_MAX_SIZE = 1 << 16
_MAX_TRAIL = 200  # names; the kernel follows at most 40 links (path_resolution(7))
_ARM_TRIES = 10
_QUIET = 0.05  # seconds without a change, after which a file counts as written
_PATIENCE = 10  # quiet times that are waited for before reading all the same
_LOOK_AGAIN = 5.0  # seconds, while something is wrong

ASKED_STILL = 15.0
"""Seconds for which a server counts that was taken out: Go's programs, dockerd among them, read the
file again when they ask after five seconds (net/dnsclient_unix.go, tryUpdate), and wait as long for
an answer to what they asked before, twice."""

_NAMES = Mask.CREATE | Mask.DELETE | Mask.MOVE
_CONTENT = Mask.MODIFY | Mask.CLOSE_WRITE | Mask.ATTRIB


def parse(text: str) -> ServersChanged:
    """The servers that the text of a resolv.conf names, in order, and what is wrong with it.

    Pure. As resolv.conf(5) has it: the keyword starts the line, at most three servers count. A
    server that needs an interface (`fe80::1%eth0`) cannot be used, and is said.
    """
    servers: dict[Address, None] = {}
    problems: list[str] = []
    lines = 0
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0] != "nameserver" or line[0].isspace():
            continue
        lines += 1
        value = words[1] if len(words) > 1 else ""
        if lines > _MAXNS:
            problems.append(
                f"line {number}: nameserver {value} is not used: resolv.conf(5) counts {_MAXNS}"
            )
        elif "%" in value:
            problems.append(f"line {number}: nameserver {value} is not used: it needs an interface")
        else:
            try:
                servers[ip_address(value)] = None
            except ValueError:
                problems.append(f"line {number}: nameserver {value or '(nothing)'} is no address")
    if not servers:
        problems.append("no usable nameserver line: add one, as `nameserver 192.0.2.53`")
    return ServersChanged(tuple(servers), "; ".join(problems))


def read(path: Path = RESOLV_CONF) -> ServersChanged:
    """The servers that the file names now; never raises, a file that cannot be read is said."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ServersChanged((), f"{path} is no file")
        with path.open("rb") as file:
            text = file.read(_MAX_SIZE).decode(errors="replace")
    except FileNotFoundError:
        return ServersChanged((), f"{path} is missing: name DNS servers in it, or in the policy")
    except OSError as error:
        return ServersChanged((), f"{path} cannot be read: {error.strerror or error}")
    parsed = parse(text)
    problem = f"{path}: {parsed.problem}" if parsed.problem else ""
    return ServersChanged(parsed.servers, problem)


async def follow(
    path: Path = RESOLV_CONF, stub: Path = STUB_UPSTREAM
) -> AsyncGenerator[ServersChanged, None]:
    """As `watch`, and where systemd-resolved's stub is the server, with the servers behind it.

    Docker gives those to containers, for which the stub's loopback address leads nowhere. A server
    that is taken out is `former` for a while, and then goes in an event of its own.
    """
    sources = {which: watch(which) for which in (path, stub)}
    loop = asyncio.get_running_loop()

    async def following(which: Path) -> tuple[Path, ServersChanged]:
        return which, await anext(sources[which])

    # No task group: it must not be left by a generator that is closed where it yields.
    tasks = {loop.create_task(following(which)) for which in sources}
    latest: dict[Path, ServersChanged] = {}
    former: dict[Address, float] = {}
    last: ServersChanged | None = None
    try:
        while True:
            patience = max(0.0, min(former.values()) - loop.time()) if former else None
            done, tasks = await asyncio.wait(
                tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                which, latest[which] = task.result()
                tasks.add(loop.create_task(following(which)))
            if len(latest) < len(sources):
                continue
            now = latest[path]
            if STUBS & set(now.servers):
                now = replace(now, upstream=latest[stub].servers)
            if last is not None:
                former = _former(former, last, now, loop.time())
                now = replace(now, former=tuple(former))
            if now != last:
                last = now
                yield now
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _former(
    known: dict[Address, float], before: ServersChanged, after: ServersChanged, now: float
) -> dict[Address, float]:
    """Until when each server still counts that is no longer named."""
    taken_out = dict.fromkeys((*before.servers, *before.upstream), now + ASKED_STILL)
    return {
        address: until
        for address, until in (taken_out | known).items()
        if until > now and address not in after.trusted
    }


async def watch(path: Path = RESOLV_CONF) -> AsyncGenerator[ServersChanged, None]:
    """The servers now, and then again after each change that makes a difference.

    Follows the file through rewriting, replacing and removing, and every symbolic link on the
    way to it. Never raises: what hinders is said in the event, and tried again.
    """
    last: ServersChanged | None = None
    while True:
        # A new instance after each change: no watch of a former trail outlives it.
        with ExitStack() as stack:
            inotify: Inotify | None = None
            hindrance = ""
            names: dict[int, set[str]] = {}
            try:
                inotify = stack.enter_context(watcher())
                names = _arm(inotify, path)
            except OSError as error:
                hindrance = f"{path} cannot be watched, only looked at: {explain(error)}"
            now = read(path)
            if hindrance:
                now = ServersChanged(now.servers, "; ".join(filter(None, (now.problem, hindrance))))
            if now != last:
                last = now
                yield now
            if inotify is None:
                await asyncio.sleep(_LOOK_AGAIN)
            else:
                await _changed(inotify, names, _LOOK_AGAIN if now.problem else None)


def _trail(path: Path) -> list[tuple[Path, str]]:
    """Each (real directory, name) that a lookup of the path passes: there it can be turned.

    Ends at the first name that is missing.
    """
    at, trail = Path("/"), list[tuple[Path, str]]()
    pending = list(reversed(path.absolute().parts[1:]))
    while pending and len(trail) < _MAX_TRAIL:
        name = pending.pop()
        if name == "..":
            at = at.parent
            continue
        trail.append((at, name))
        step = at / name
        try:
            target = step.readlink()
        except FileNotFoundError:
            return trail
        except NotADirectoryError:
            return trail[:-1]
        except OSError:  # EINVAL: no link
            at = step
            continue
        if target.is_absolute():
            at = Path("/")
        pending += reversed([part for part in target.parts if part != "/"])
    return trail


def _arm(inotify: Inotify, path: Path) -> dict[int, set[str]]:
    """Watch all that can turn the path elsewhere: the names that matter, by watch descriptor.

    Raises OSError where the kernel gives no watch.
    """
    for _try in range(_ARM_TRIES):
        trail = _trail(path)
        names: dict[int, set[str]] = {}
        masks: dict[Path, Mask] = {directory: _NAMES for directory, _name in trail}
        last_directory, last_name = trail[-1]
        masks[last_directory] |= _CONTENT
        try:
            for directory, name in trail:
                watch = inotify.add_watch(directory, masks[directory])
                names.setdefault(watch.wd, set()).add(name)
            # The file too: where it is a mount of its own, writers come by another directory.
            with suppress(FileNotFoundError):
                watch = inotify.add_watch(last_directory / last_name, _CONTENT)
                names.setdefault(watch.wd, set()).add("")
        except (FileNotFoundError, NotADirectoryError):
            continue
        if _trail(path) == trail:
            return names
    raise OSError(errno.EAGAIN, "it keeps changing")


async def _changed(inotify: Inotify, names: dict[int, set[str]], patience: float | None) -> None:
    """Return when the file may have changed and no writer seems to be at work on it any more."""
    while events := await burst(inotify, patience):
        if any(_matters(event, names) for event in events):
            break
    else:
        return
    for _ in range(_PATIENCE):
        if not await burst(inotify, _QUIET):
            return


def _matters(event: Event, names: dict[int, set[str]]) -> bool:
    if Mask.Q_OVERFLOW in event.mask or event.watch is None:
        return True
    return str(event.name or "") in names.get(event.watch.wd, set())
