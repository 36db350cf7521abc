"""Debian 13's Docker on the lab's host, whatever Debian this machine runs.

Its root is the one that tests/setup/machine.sh makes; nothing of it is installed here. dockerd runs
in it with the host's network, processes and cgroups, or in a container of the host's own engine,
which then is an engine (and its BuildKit) in a container.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.space import Outcome

MADE = Path(__file__).parents[2] / "build" / "machine" / "trixie"
PLACE = "/run/newer"
"""Where the host has the root, and the container has it."""

PREPARE = f"""
    cd {PLACE}
    for kernels in proc sys dev; do mount --rbind /$kernels $kernels; done
    mount -t tmpfs tmpfs run
    mkdir -p var/lib/docker
    mount -t tmpfs tmpfs var/lib/docker
    for file in etc/resolv.conf etc/ssl/certs/ca-certificates.crt; do cat /$file >$file; done
"""
# What it does here is to pull and to build, so its bridge leads nowhere.
DOCKERD = ("dockerd", "--iptables=false", "--ip6tables=false")
IN_ROOT = ("chroot", PLACE, "env", "HOME=/root", "PATH=/usr/sbin:/usr/bin")


class NewerDocker:
    """A running dockerd of Debian 13, its containerd, and the clients that speak to them."""

    def __init__(self, run: Callable[..., Outcome]) -> None:
        self._run = run

    def run(self, *argv: str) -> Outcome:
        """Run a program of Debian 13 where its dockerd runs."""
        return self._run(*IN_ROOT, *argv)

    def pull(self, image: str) -> Outcome:
        return self.run("docker", "pull", image)

    def build(self, image: str) -> Outcome:
        """Have its BuildKit build from an image."""
        build = f"echo 'FROM {image}' | DOCKER_BUILDKIT=1 docker build --no-cache -"
        return self.run("sh", "-c", build)

    def ctr(self, image: str) -> Outcome:
        """Have its containerd pull."""
        return self.run(
            *("ctr", "--address", "/run/docker/containerd/containerd.sock"),
            *("images", "pull", image),
        )


def on_host(host: Host) -> NewerDocker:
    """Start one as the host's engine, in the engine's cgroup; it ends with the lab."""
    _have_root()
    # With no bridge at all, it would take docker0 away from the other engine.
    bridge = "ip link add newer0 type bridge && ip addr add 172.31.0.1/24 dev newer0"
    host.namespace.sh(f"{_overlay(PLACE)}\n{bridge}\n{PREPARE}")
    engine = host.namespace.start(*IN_ROOT, *DOCKERD, "--bridge=newer0", cgroup=host.engine_cgroup)
    engine.wait_for("API listen on", timeout=60)
    return NewerDocker(host.run)


def in_container(host: Host) -> tuple[NewerDocker, Container]:
    """Start one in a container that may mount; it ends with the container."""
    _have_root()
    lower = "/run/newer-in-container"
    host.namespace.sh(f"mountpoint -q {lower} || {{ {_overlay(lower)}; }}")
    container = host.container(
        # Not `--privileged`: the machine that runs this may lack some capability.
        *("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN"),
        *("--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"),
        *("--volume", f"{lower}:{PLACE}"),
        # What podman and buildah ask for.
        *(
            "--volume",
            "/etc/containers:/etc/containers:ro",
            "--volume",
            "/etc/passwd:/etc/passwd:ro",
        ),
        command=("sh", "-ec", f"{PREPARE}\nexec {' '.join((*IN_ROOT, *DOCKERD, '--bridge=none'))}"),
    )
    said = host.namespace.start(
        "docker", "--host", host.docker_url, "logs", "--follow", container.id
    )
    said.wait_for("API listen on", timeout=60)
    return NewerDocker(container.run), container


def _overlay(place: str) -> str:
    """The commands that put the root in a place; what is written there stays in memory."""
    made = f"{place}.made"
    return (
        f"mkdir -p {place} {made}/upper {made}/work && mount -t overlay overlay"
        f" -o lowerdir={MADE}/root,upperdir={made}/upper,workdir={made}/work {place}"
    )


def _have_root() -> None:
    if not (MADE / "made-from").exists():
        raise RuntimeError("Debian 13's system is missing: run: make lab (as root)")
