"""Real clients, and what each prints when it is refused.

`python -m tests.lab.clients` runs all of them in a lab and writes the table of
docs/refusals.md anew; what changed is then read in the diff.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab import materials as lab_materials
from tests.lab.addresses import GHCR
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.materials import Materials
from tests.lab.policies import DOCKER_IO, STRICT, policy
from tests.lab.space import Outcome

PAGE = Path(__file__).parents[2] / "docs/refusals.md"
BEGIN, END = "<!-- made by a test run: python -m tests.lab.clients -->", "<!-- until here -->"
IMAGE = "ghcr.io/corp/app:1"
MESSAGE = (
    "Access to ghcr.io has been restricted by your administrators (Example Corp). "
    "Allowed: docker.io."
)
IN_CERTIFICATE = f"certificate is valid for {MESSAGE}, not ghcr.io"
DENIED = f"denied: {MESSAGE}"
IN_STATUS = f"403 {MESSAGE}"
UNTRUSTED = "self-signed certificate"
WORDLESS = "error: 403"


@dataclass(frozen=True, slots=True)
class Client:
    """A program that pulls, and the words that it must print: without a CA, and with one."""

    name: str
    version: str
    run: Callable[[Host, Container], Outcome]
    without_ca: str
    with_ca: str


def _podman(host: Host, program: str) -> tuple[str, ...]:
    storage = host.directory / "storage"
    return (program, "--root", f"{storage}/root", "--runroot", f"{storage}/run")


def _tool(*argv: str) -> Callable[[Host, Container], Outcome]:
    return lambda host, _: host.run(*argv)


def _in_container(*argv: str) -> Callable[[Host, Container], Outcome]:
    return lambda _, container: container.run(*argv)


def _build(host: Host, *, kit: bool) -> Outcome:
    return host.namespace.run(
        *("docker", "--host", host.docker_url, "build", "--no-cache", "-"),
        stdin=f"FROM {IMAGE}\n",
        env={"DOCKER_BUILDKIT": "1" if kit else "0"},
    )


SKOPEO = ("skopeo", "inspect", "--insecure-policy", f"docker://{IMAGE}")
CURL = ("curl", "-sS", "--max-time", "10", "https://ghcr.io/v2/")
DOCKER = "dockerd --version"

CLIENTS = (
    Client("`docker pull`", DOCKER, lambda host, _: host.pull(IMAGE), IN_CERTIFICATE, DENIED),
    Client(
        "`docker build` (classic builder)",
        DOCKER,
        lambda host, _: _build(host, kit=False),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client(
        "`docker build` (BuildKit in dockerd)",
        DOCKER,
        lambda host, _: _build(host, kit=True),
        IN_CERTIFICATE,
        IN_STATUS,
    ),
    Client(
        "`ctr images pull`",
        "containerd --version",
        lambda host, _: host.run(
            "ctr", "--address", str(host.containerd_socket), "images", "pull", IMAGE
        ),
        IN_CERTIFICATE,
        IN_STATUS,
    ),
    Client(
        "`podman pull`",
        "podman --version",
        lambda host, _: host.run(*_podman(host, "podman"), "pull", IMAGE),
        IN_CERTIFICATE,
        DENIED,
    ),
    Client(
        "`buildah pull`",
        "buildah --version",
        lambda host, _: host.run(*_podman(host, "buildah"), "pull", IMAGE),
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


def policy_for(host: Host, materials: Materials, *, with_ca: bool) -> str:
    """A policy that permits Docker Hub alone; with the lab's authority, or without one."""
    authority = ""
    if with_ca:
        key = host.directory / "ca.key"
        key.unlink(missing_ok=True)
        key.write_bytes((materials / "ca.key").read_bytes())
        key.chmod(0o400)
        authority = f'[explainer]\nca = "{materials.ca}"\nkey = "{key}"\n'
    return policy(DOCKER_IO, more=authority, host=STRICT)


# -- the table ---------------------------------------------------------------------------------


def main() -> int:
    said: dict[str, list[str]] = {}
    with lab_materials.temporary() as directory:
        materials = lab_materials.make(Path(directory))
        with Lab(materials) as lab:
            host = lab.host
            host.start_engine()
            host.load_tools()
            for with_ca in (False, True):
                host.start_ramfw(policy_for(host, materials, with_ca=with_ca))
                host.start_explainer(with_signer=with_ca)
                container = host.container(command=("sleep", "600"))
                for client in CLIENTS:
                    refused = client.run(host, container)
                    said.setdefault(client.name, []).append(_important(refused.output))
                host.forget_ramfw()
                host.remove_containers()
    rows = "\n".join(_rows(said))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{rows}\n\n{END}{after}")
    return 0


def _rows(said: dict[str, list[str]]) -> Iterator[str]:
    yield "| client | it prints, with nothing installed | with the organization's authority |"
    yield "|---|---|---|"
    for client in CLIENTS:
        without, with_ca = said[client.name]
        yield f"| {client.name}, {_version(client)} | {without} | {with_ca} |"


def _version(client: Client) -> str:
    done = subprocess.run(client.version.split(), capture_output=True, text=True, check=True)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return found[0] if found else "?"


def _important(output: str) -> str:
    """The line that tells why, without what changes from run to run."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    words = ("403", GHCR.name, "certificate problem")
    telling = (one for one in reversed(lines) if any(word in one for word in words))
    line = next(telling, lines[-1])
    line = re.sub(r'time="[^"]*" ', "", line)
    line = re.sub(r"\x1b\[[0-9;]*m", "", line)
    return "`" + line.replace("|", "\\|").replace("`", "'") + "`"


if __name__ == "__main__":
    sys.exit(main())
