"""`python -m tests.lab.demo`: what ramfw does, shown on a real Docker Engine in under a minute.

The engine, the registries and the DNS server are real; the internet is a lab of network
namespaces with no way out. Nothing is left behind. Exit code 1 if something went otherwise than
it should.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import materials
from tests.lab.addresses import GHCR, HUB_SITES
from tests.lab.lab import Lab

WIDTH = 80
PERMITTED = "docker.io/library/app:1"
REFUSED = "ghcr.io/corp/app:1"
POLICY = """\
version = 1

[organization]
name = "Example Corp"
contact = "https://it.example.com/registries"

[[allow]]
registry = "docker.io"     # its api, auth and blob hosts come with it
"""
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}


def paint(text: str, style: str) -> str:
    """Colour for a terminal, and nothing of it for a pipe or a file."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if is_terminal() else text


def is_terminal() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def heading(text: str) -> None:
    print(f"\n{paint(text, 'bold')}\n")


def say(text: str) -> None:
    print(textwrap.fill(text, WIDTH))


def show(text: str) -> None:
    """What a program printed, or a file holds: indented, long lines broken between words."""
    for line in text.strip().splitlines():
        print(textwrap.fill(line, WIDTH, initial_indent="    ", subsequent_indent="      "))


def command(line: str) -> None:
    print(f"  {paint('$', 'dim')} {paint(line, 'bold')}")


class Story:
    """The demonstration, chapter by chapter; `failed` if one went otherwise than it should."""

    def __init__(self, lab: Lab) -> None:
        self._host = lab.host
        self._internet = lab.internet
        self.failed = False

    def before(self) -> None:
        heading("Without ramfw, this machine pulls from wherever it likes")
        for image in (PERMITTED, REFUSED):
            command(f"docker pull {image}")
            self._expect(self._host.pull(image).ok, "pulled")

    def policy(self) -> None:
        heading("The policy: /etc/ramfw/policy.toml permits Docker Hub and nothing else")
        show(POLICY)
        print()
        command("ramfw run")
        self._host.start_ramfw(POLICY)
        said = self._host.daemon.lines if self._host.daemon else []
        # A library grumbles where the kernel lacks nft's own `queue`, which hardly any does.
        show("\n".join(line for line in said if not line.startswith("libxtables: ")))

    def permitted(self) -> None:
        heading("A pull that is permitted goes through all of the registry's hosts")
        self._internet.reset_counts()
        command(f"docker pull {PERMITTED}")
        pulled = self._host.pull(PERMITTED)
        show(pulled.output)
        hosts = [site.name for site in HUB_SITES if self._internet.packets(site)]
        self._expect(pulled.ok, f"pulled in {pulled.seconds:.1f} s, from")
        for name in hosts:
            print(f"      {name}")

    def refused(self) -> None:
        heading("A pull that is not permitted is refused at once, with a plain error")
        self._internet.reset_counts()
        command(f"docker pull {REFUSED}")
        pulled = self._host.pull(REFUSED)
        show(pulled.output)
        got = self._internet.packets(GHCR)
        self._expect(
            pulled.refused and got == 0,
            f"refused in {pulled.seconds:.2f} s; packets that reached {GHCR.name}: {got}",
        )
        print()
        command(f"docker pull {GHCR.v4}:5000/corp/app:1")
        by_address = self._host.pull(f"{GHCR.v4}:5000/corp/app:1")
        self._expect(by_address.refused, "refused too: by its address, on another port")
        print()
        command("curl https://ghcr.io/v2/        (in a container)")
        self._host.load_tools()
        from_container = self._host.container().curl(f"https://{GHCR.name}/v2/")
        self._expect(from_container.refused, "refused too: containers are no way around")

    def status(self) -> None:
        heading("What ramfw says about it")
        command("ramfw status")
        status = self._host.ramfw("status", on_terminal=is_terminal())
        print("\n" + status.output.replace("\r", "").rstrip())
        self.failed |= not status.ok

    def _expect(self, true: bool, words: str) -> None:  # noqa: FBT001
        self.failed |= not true
        mark = paint("✓", "green") if true else paint("✗ NOT", "red")
        print(f"    {mark} {words}")


@contextmanager
def open_lab() -> Iterator[Lab]:
    with materials.temporary() as directory:
        with Lab(materials.make(Path(directory))) as lab:
            lab.host.start_engine()
            yield lab
        left = [lab.space.directory.exists(), any(p.running for p in lab.space.processes)]
        heading("Nothing is left behind" if not any(left) else "Something is left behind")


def main() -> int:
    if os.geteuid() != 0:
        print("The demo makes network namespaces, which needs root: sudo make demo")
        return 1
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    say(
        "ramfw on a real Docker Engine. The internet it sees is a lab on this machine: "
        "network namespaces with a DNS server, Docker Hub and ghcr.io in them, and no way out."
    )
    with open_lab() as lab:
        story = Story(lab)
        story.before()
        story.policy()
        story.permitted()
        story.refused()
        story.status()
    return int(story.failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
