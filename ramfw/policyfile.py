"""Reads a policy file, and the catalogue it names, only if nobody but root could have written them.

The file is opened before anything is asked about it, and every question is put to what was
opened: nothing can be exchanged between the check and the reading. Its directories are those of
the name that was given and those where the file really is, which differ where a link is on the way.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from dataclasses import replace
from pathlib import Path

from ramfw.core.catalog import Catalog, load, shipped
from ramfw.core.fqdn import forget_public_suffixes
from ramfw.core.policy import Policy
from ramfw.core.policy_parser import catalog_file, parse
from ramfw.errors import PolicyError, Problem

MAX_BYTES = 1 << 20
FIRST_PERSON = 1000
"""The first uid that is no service's (login.defs(5), UID_MIN)."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read(path: Path, catalog: Catalog | None = None) -> tuple[Policy, tuple[Problem, ...]]:
    """The policy in a file, and warnings about it.

    The catalogue is the one that the policy names, or the shipped one; a named one that cannot be
    used leaves the shipped one in force, and a warning says so.

    Root's policy must be root's alone to write. A caller who is not root may also read a file of
    their own: a draft to be checked. Raises PolicyError with all that is wrong with the file and
    with what is in it, and nothing else.
    """
    policy, warnings, _ = read_text(path, catalog)
    return policy, warnings


def read_text(
    path: Path, catalog: Catalog | None = None
) -> tuple[Policy, tuple[Problem, ...], str]:
    """As `read`, and the text that the policy was read from."""
    problems, text = _contents(path, "policy")
    if text is None:
        raise PolicyError(tuple(problems))
    try:
        policy, warnings = parse(text, str(path), catalog or _catalog(catalog_file(text)))
    except PolicyError as error:
        raise PolicyError((*problems, *error.problems)) from None
    finally:
        forget_public_suffixes()
    if problems:
        raise PolicyError(tuple(problems))
    return policy, warnings, text


def again(text: str, source: str) -> Policy:
    """The policy in a text that was kept of a file, with the catalogue that it names.

    Raises PolicyError.
    """
    return parse(text, source, _catalog(catalog_file(text)))[0]


def catalog_of(path: Path) -> Catalog:
    """The catalogue by which a policy file would be read; the shipped one if there is no file."""
    problems, text = _contents(path, "policy")
    return shipped() if problems or text is None else _catalog(catalog_file(text))


def _catalog(file: str | None) -> Catalog:
    """The organization's catalogue, if it is root's alone and sound; else the shipped one."""
    if file is None:
        return shipped()
    problems, text = _contents(Path(file), "catalogue")
    if problems or text is None:
        problem = "; ".join(str(one).replace("\n    ", ": ") for one in problems)
        return replace(shipped(), problem=problem)
    try:
        return load(text, file)
    except ValueError as error:
        return replace(shipped(), problem=f"{file}: {error}")


def _contents(path: Path, what: str) -> tuple[list[Problem], str | None]:
    """What is wrong with the file, and its text; None where it cannot or must not be read."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        return [_not_opened(path, error, what)], None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return [_not_a_file(path, status, what)], None
        problems = [*_ownership(path, status, what), *_directories(path, descriptor)]
        content = _at_most(descriptor, MAX_BYTES + 1)
    except OSError as error:
        return [_unreadable(path, error)], None
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        size = max(status.st_size, len(content))
        message = f"has {size} bytes; a {what} has at most {MAX_BYTES} (1 MiB)"
        return [*problems, Problem(str(path), 0, "", message)], None
    text, wrong = _text(path, content, what)
    return [*problems, *wrong], text


def _at_most(descriptor: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _text(path: Path, content: bytes, what: str) -> tuple[str | None, list[Problem]]:
    name = shlex.quote(str(path))
    if content.startswith(_BYTE_ORDER_MARK):
        hint = f"sed -i '1s/^\\xEF\\xBB\\xBF//' {name}"
        return None, [Problem(str(path), 1, "", "begins with a byte order mark", hint)]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, [_at_byte(path, content, error.start, "is not UTF-8", what)]
    nul = content.find(0)
    if nul >= 0:
        return None, [_at_byte(path, content, nul, "has a NUL", what)]
    return text, []


def _at_byte(path: Path, content: bytes, offset: int, wrong: str, what: str) -> Problem:
    line = content.count(b"\n", 0, offset) + 1
    message = f"{wrong} at byte {offset} (0x{content[offset]:02x}); a {what} is UTF-8 text"
    return Problem(str(path), line, "", message)


def _not_opened(path: Path, error: OSError | ValueError, what: str) -> Problem:
    name = shlex.quote(str(path))
    if isinstance(error, FileNotFoundError) and what == "policy":
        first = 'version = 1\\n\\n[[allow]]\\nregistry = "docker.io"\\n'
        hint = f"printf '{first}' | sudo install -D -m 0644 /dev/stdin {name}"
        return Problem(str(path), 0, "", "there is no such file; this makes a first policy:", hint)
    return _unreadable(path, error)


def _unreadable(path: Path, error: OSError | ValueError) -> Problem:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    hint = ""
    if isinstance(error, PermissionError):
        name = shlex.quote(str(path))
        for_service = f"chgrp {grp.getgrgid(os.getegid()).gr_name} {name} && chmod 640 {name}"
        hint = "read it as root" if _is_person() else for_service
    return Problem(str(path), 0, "", f"cannot be read: {words}", hint)


def _not_a_file(path: Path, status: os.stat_result, what: str) -> Problem:
    if stat.S_ISDIR(status.st_mode):
        name = "policy.toml" if what == "policy" else "catalog.toml"
        hint = f"name the file in it, as {shlex.quote(str(path / name))}"
        return Problem(str(path), 0, "", f"is a directory, not a {what} file", hint)
    return Problem(str(path), 0, "", "is not a regular file")


def _ownership(path: Path, status: os.stat_result, what: str) -> list[Problem]:
    problems = []
    name = shlex.quote(str(path))
    # For root and for the daemon's own user, only root's file will do.
    own = {os.geteuid()} if _is_person() else set()
    if status.st_uid not in {0} | own:
        message = f"is owned by {_user(status.st_uid)}: only root may write a {what}"
        problems.append(Problem(str(path), 0, "", message, f"chown root: {name}"))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "others" if status.st_mode & stat.S_IWOTH else "its group"
        message = f"is writable by {who}: only root may write a {what}"
        problems.append(Problem(str(path), 0, "", message, f"chmod go-w {name}"))
    return problems


def _directories(path: Path, descriptor: int) -> list[Problem]:
    """Directories in which anyone could put another file in this one's place."""
    given = Path(os.path.abspath(path))  # noqa: PTH100  links must stay: they are judged as given
    real = Path(f"/proc/self/fd/{descriptor}").readlink()
    problems = []
    for directory in dict.fromkeys((*given.parents, *real.parents)):
        mode = directory.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            message = f"is in {directory}, where others may put another file in its place"
            hint = f"chmod o-w {shlex.quote(str(directory))}"
            problems.append(Problem(str(path), 0, "", message, hint))
    return problems


def _is_person() -> bool:
    """Whether the caller is somebody who may have drafts, and no service's user."""
    return os.geteuid() >= FIRST_PERSON


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
