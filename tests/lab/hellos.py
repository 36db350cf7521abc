"""The first bytes of the lab's real clients, as a server hears them.

`python -m tests.lab.hellos` records those that tests/unit/wire/hellos has of them anew, and the
table in the README there; what changed is then read in the diff.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import materials as lab_materials
from tests.lab.addresses import GHCR, Site
from tests.lab.clients import CLIENTS, Client, Places, places, version
from tests.lab.engines import newer_on_host
from tests.lab.internet import PROGRAMS, Internet, Service
from tests.lab.lab import Lab
from tests.lab.sender import PYTHON
from tests.lab.space import Outcome, Process
from tests.unit.wire.hello_sample import HELLOS, OF_THE_LAB

README = HELLOS / "README.md"
BEGIN, END = "<!-- made by: python -m tests.lab.hellos -->", "<!-- until here -->"
LISTENER = Site(GHCR.name, "203.0.113.80", "2001:db8:f::80")
"""Where clients find the one who writes down, under the name of the registry that they want."""
URL = f"https://{GHCR.name}/v2/"
FETCH = f"import urllib.request; urllib.request.urlopen('{URL}')"


def _run(*argv: str) -> Callable[[Places], Outcome]:
    return lambda at: at.host.run(*argv, timeout=20)


@dataclass(frozen=True, slots=True)
class Speaker:
    """A program that opens a TLS connection; `version` is the command that tells which it is."""

    key: str
    version: str
    run: Callable[[Places], Outcome]


def _speaker(client: Client) -> Speaker:
    return Speaker(re.sub(r"\W+", "-", client.key).strip("-"), client.version, client.run)


SPEAKERS = (
    *map(_speaker, CLIENTS),
    Speaker("git-clone", "git --version", _run("git", "clone", "-q", f"{URL}app", "/run/app")),
    Speaker("python-urllib", f"{PYTHON} --version", _run(PYTHON, "-Ic", FETCH)),
    Speaker("wget", "wget --version", _run("wget", "-q", "-t1", "-O-", URL)),
)
SAMPLED = tuple(one for one in SPEAKERS if not re.search("in-a-container|curl-", one.key))
"""Of each program one: a container or an option makes no other hello."""


class Recorder:
    """Hears what clients say first."""

    def __init__(self, at: Places, listener: Process) -> None:
        self._at = at
        self._listener = listener

    def hear(self, speaker: Speaker) -> bytes:
        """The first record that it sends."""
        said = len(self._listener.lines)
        done = speaker.run(self._at)
        try:
            line = self._listener.wait_for("^hello ", timeout=5, after=said)
        except AssertionError:
            raise AssertionError(f"{speaker.key} sent none:\n{done.output}") from None
        return bytes.fromhex(line.split()[1])


@contextmanager
def recording(lab: Lab) -> Iterator[Recorder]:
    """A host on which nothing filters, and where the registry's name leads to the listener."""
    host, internet = lab.host, lab.internet
    newer = newer_on_host(host)
    listener = _start(internet)
    with places(host, newer) as at:
        internet.set_name(GHCR.name, *LISTENER.addresses)
        try:
            yield Recorder(at, listener)
        finally:
            internet.set_name(GHCR.name, *GHCR.addresses)
            listener.stop()


def _start(internet: Internet) -> Process:
    port = str(Service.HELLOS.value)
    listener = internet.namespace.start(sys.executable, "-I", str(PROGRAMS / "hellos.py"), port)
    listener.wait_for("listening")
    internet.serve(LISTENER, {443: Service.HELLOS})
    return listener


def main() -> int:
    rows = ["| file | version, of the engine where one asked |", "|---|---|"]
    for path in HELLOS.glob(f"{OF_THE_LAB}*.bin"):
        path.unlink()
    with lab_materials.temporary() as directory, Lab(lab_materials.make(Path(directory))) as lab:
        lab.host.start_engine()
        lab.host.load_tools()
        with recording(lab) as recorder:
            for speaker in SAMPLED:
                file = HELLOS / f"{OF_THE_LAB}{speaker.key}.bin"
                file.write_bytes(recorder.hear(speaker))
                rows.append(f"| `{file.name}` | {version(speaker.version)} |")
    before, _, rest = README.read_text().partition(BEGIN)
    table = "\n".join(rows)
    README.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
