"""Real clients, and what each prints when it is refused.

`python -m tests.lab.clients` runs all of them in a lab and writes the table of
docs/refusals.md anew; what changed is then read in the diff.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import materials as lab_materials
from tests.lab.addresses import GHCR
from tests.lab.container import Container
from tests.lab.engines import (
    MADE,
    Engine,
    dockerfile,
    newer_in_container,
    newer_on_host,
    own_in_container,
)
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.policies import DOCKER_IO, STRICT, policy
from tests.lab.refused import MESSAGE
from tests.lab.space import Outcome

PAGE = Path(__file__).parents[2] / "docs/refusals.md"
BEGIN, END = "<!-- made by a test run: python -m tests.lab.clients -->", "<!-- until here -->"
IMAGE = "ghcr.io/corp/app:1"
IN_CERTIFICATE = f"certificate is valid for {MESSAGE}, not ghcr.io"
DENIED = f"denied: {MESSAGE}"
IN_STATUS = f"403 {MESSAGE}"
UNTRUSTED = "self-signed certificate"
WORDLESS = "error: 403"


@dataclass(frozen=True, slots=True)
class Places:
    """Where clients run: on a host and in a container, with this machine's engine and a newer."""

    host: Host
    container: Container
    newer: Engine
    """Debian 13's, on the host."""
    inner: Engine
    """The same in a container."""
    own_inner: Engine
    """This machine's in a container."""
    outer: Container
    """The container of that."""


@dataclass(frozen=True, slots=True)
class Client:
    """A program that pulls, and the words that it must print: without a CA, and with one."""

    name: str
    version: str
    run: Callable[[Places], Outcome]
    without_ca: str
    with_ca: str
    waited: Callable[[Outcome], float] = lambda refused: refused.seconds
    """Seconds until it has said so."""

    @property
    def key(self) -> str:
        newer = "-debian-13" if self.version.startswith("chroot") else ""
        return self.name.replace("`", "") + newer


@contextmanager
def places(host: Host, newer: Engine) -> Iterator[Places]:
    """Containers for clients, on a host with both engines; they go at the end."""
    inner = newer_in_container(host)
    own_inner, outer = own_in_container(host)
    container = host.container(command=("sleep", "600"))
    # What a client reads and makes when it runs for the first time is not what is measured.
    for engine in (newer, inner, own_inner):
        engine.run("docker", "images")
    for run in (_step_on_host(host, "true"), inner.step("true"), own_inner.step("true")):
        assert run.ok, run.output
    for program in ("podman", "buildah"):
        host.run(*_podman(host, program), "images")
        outer.run(*_inside(program), "images")
    yield Places(host, container, newer, inner, own_inner, outer)
    host.remove_containers()


def _podman(host: Host, program: str) -> tuple[str, ...]:
    storage = host.directory / "storage"
    return (program, "--root", f"{storage}/root", "--runroot", f"{storage}/run")


def _inside(program: str) -> tuple[str, ...]:
    storage = ("--storage-driver", "vfs", "--root", "/storage/root", "--runroot", "/storage/run")
    return ("env", "TMPDIR=/storage", program, *storage)


def _pull_inside(program: str) -> Callable[[Places], Outcome]:
    return lambda at: at.outer.run(*_inside(program), "pull", IMAGE)


def _tool(*argv: str) -> Callable[[Places], Outcome]:
    return lambda at: at.host.run(*argv)


def _in_container(*argv: str) -> Callable[[Places], Outcome]:
    return lambda at: at.container.run(*argv)


def _build(host: Host, *, kit: bool) -> Outcome:
    return host.namespace.run(
        *("docker", "--host", host.docker_url, "build", "--no-cache", "-"),
        stdin=f"FROM {IMAGE}\n",
        env={"DOCKER_BUILDKIT": "1" if kit else "0"},
    )


def _step_on_host(host: Host, command: str) -> Outcome:
    """A command in a build by the host's engine: a container on its bridge."""
    return host.namespace.run(
        *("docker", "--host", host.docker_url, "build", "--no-cache", "-"),
        stdin=dockerfile(command).replace("\\n", "\n"),
        env={"DOCKER_BUILDKIT": "1"},
    )


def _in_step(refused: Outcome) -> float:
    """When the refusal was printed, by BuildKit's own clock, which begins with the step.

    What the build does before that, with other registries, is none of it.
    """
    found = re.search(r"^#\d+ (\d+\.\d+) wget: server returned", refused.output, re.MULTILINE)
    if found is None:
        raise AssertionError(refused.output)
    return float(found[1])


WGET = "busybox wget -O - https://ghcr.io/v2/"
SKOPEO = ("skopeo", "inspect", "--insecure-policy", f"docker://{IMAGE}")
CURL = ("curl", "-sS", "--max-time", "10", "https://ghcr.io/v2/")
DOCKER = "dockerd --version"
NEWER_DOCKER = f"chroot {MADE}/root dockerd --version"
NEWER_CTR = f"chroot {MADE}/root containerd --version"
STEP = "`RUN wget` in a `docker build` (BuildKit in dockerd)"
PULL, BUILD_KIT, CTR = "`docker pull`", "`docker build` (BuildKit in dockerd)", "`ctr images pull`"

CLIENTS = (
    Client(PULL, DOCKER, lambda at: at.host.pull(IMAGE), IN_CERTIFICATE, DENIED),
    Client(PULL, NEWER_DOCKER, lambda at: at.newer.pull(IMAGE), IN_CERTIFICATE, DENIED),
    Client(
        f"{PULL} in a container",
        DOCKER,
        lambda at: at.own_inner.pull(IMAGE),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client(
        f"{PULL} in a container",
        NEWER_DOCKER,
        lambda at: at.inner.pull(IMAGE),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client(
        "`docker build` (classic builder)",
        DOCKER,
        lambda at: _build(at.host, kit=False),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client(
        "`docker build` (classic builder) in a container",
        DOCKER,
        lambda at: at.own_inner.build(IMAGE, kit=False),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client(BUILD_KIT, DOCKER, lambda at: _build(at.host, kit=True), IN_CERTIFICATE, IN_STATUS),
    Client(BUILD_KIT, NEWER_DOCKER, lambda at: at.newer.build(IMAGE), IN_CERTIFICATE, IN_STATUS),
    Client(
        f"{BUILD_KIT} in a container",
        DOCKER,
        lambda at: at.own_inner.build(IMAGE),
        IN_CERTIFICATE,
        IN_STATUS,
    ),
    Client(
        f"{BUILD_KIT} in a container",
        NEWER_DOCKER,
        lambda at: at.inner.build(IMAGE),
        IN_CERTIFICATE,
        IN_STATUS,
    ),
    Client(
        STEP,
        DOCKER,
        lambda at: _step_on_host(at.host, WGET),
        IN_STATUS,
        IN_STATUS,
        _in_step,
    ),
    Client(
        f"{STEP} in a container",
        DOCKER,
        lambda at: at.own_inner.step(WGET),
        IN_STATUS,
        IN_STATUS,
        _in_step,
    ),
    Client(
        f"{STEP} in a container",
        NEWER_DOCKER,
        lambda at: at.inner.step(WGET),
        IN_STATUS,
        IN_STATUS,
        _in_step,
    ),
    Client(
        CTR,
        "containerd --version",
        lambda at: at.host.run(
            "ctr", "--address", str(at.host.containerd_socket), "images", "pull", IMAGE
        ),
        IN_CERTIFICATE,
        IN_STATUS,
    ),
    Client(CTR, NEWER_CTR, lambda at: at.newer.ctr(IMAGE), IN_CERTIFICATE, IN_STATUS),
    Client(
        f"{CTR} in a container",
        "containerd --version",
        lambda at: at.own_inner.ctr(IMAGE),
        IN_CERTIFICATE,
        IN_STATUS,
    ),
    Client(
        f"{CTR} in a container",
        NEWER_CTR,
        lambda at: at.inner.ctr(IMAGE),
        IN_CERTIFICATE,
        IN_STATUS,
    ),
    Client(
        "`podman pull`",
        "podman --version",
        lambda at: at.host.run(*_podman(at.host, "podman"), "pull", IMAGE),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client(
        "`podman pull` in a container",
        "podman --version",
        _pull_inside("podman"),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client(
        "`buildah pull`",
        "buildah --version",
        lambda at: at.host.run(*_podman(at.host, "buildah"), "pull", IMAGE),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client(
        "`buildah pull` in a container",
        "buildah --version",
        _pull_inside("buildah"),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client("`skopeo inspect`", "skopeo --version", _tool(*SKOPEO), IN_CERTIFICATE, DENIED),
    Client(
        "`skopeo inspect` in a container",
        "skopeo --version",
        _in_container(*SKOPEO),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client("`curl`", "curl --version", _tool(*CURL), UNTRUSTED, MESSAGE),
    Client("`curl --insecure`", "curl --version", _tool(*CURL, "-k"), MESSAGE, MESSAGE),
    Client("`curl --fail`", "curl --version", _tool(*CURL, "-kf"), WORDLESS, WORDLESS),
    Client("`curl` in a container", "curl --version", _in_container(*CURL), UNTRUSTED, MESSAGE),
)


def policy_for(host: Host, *, with_ca: bool) -> str:
    """A policy that permits Docker Hub alone; with the lab's authority, or without one."""
    return policy(DOCKER_IO, more=host.authority() if with_ca else "", host=STRICT)


# -- the table ---------------------------------------------------------------------------------


def main() -> int:
    said: dict[str, list[str]] = {}
    with lab_materials.temporary() as directory:
        materials = lab_materials.make(Path(directory))
        with Lab(materials) as lab:
            host = lab.host
            host.start_engine()
            host.load_tools()
            newer = newer_on_host(host)
            for with_ca in (False, True):
                host.start_ramfw(policy_for(host, with_ca=with_ca))
                host.start_explainer(with_signer=with_ca)
                with places(host, newer) as at:
                    for client in CLIENTS:
                        refused = client.run(at)
                        said.setdefault(client.key, []).append(_important(refused.output))
                host.forget_ramfw()
    rows = "\n".join(_rows(said))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{rows}\n\n{END}{after}")
    return 0


def _rows(said: dict[str, list[str]]) -> Iterator[str]:
    yield "| client | it prints, with nothing installed | with the organization's authority |"
    yield "|---|---|---|"
    for client in CLIENTS:
        without, with_ca = said[client.key]
        yield f"| {client.name}, {version(client.version)} | {without} | {with_ca} |"


def version(command: str) -> str:
    """The number in what a command says of its version."""
    done = subprocess.run(command.split(), capture_output=True, text=True, check=True)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return found[0] if found else "?"


def _important(output: str) -> str:
    """The line that tells why, without what changes from run to run."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # The message itself, or else what comes nearest.
    for words in ((MESSAGE,), ("403", GHCR.name, "certificate problem"), ("",)):
        telling = [one for one in lines if any(word in one for word in words)]
        if telling:
            break
    line = re.sub(r'time="[^"]*" ', "", telling[-1])
    line = re.sub(r"^(#\d+ )?\d+\.\d+ ", "", line)
    line = re.sub(r"\x1b\[[0-9;]*m", "", line)
    return "`" + line.replace("|", "\\|").replace("`", "'") + "`"


if __name__ == "__main__":
    sys.exit(main())
