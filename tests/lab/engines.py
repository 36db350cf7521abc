"""More engines in the lab: Debian 13's Docker on the host, and both Debians' in containers.

The root of Debian 13 is the one that tests/setup/machine.sh makes; nothing of it is installed on
this machine. An engine in a container brings its BuildKit and its containerd there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.space import Outcome

MADE = Path(__file__).parents[2] / "build" / "machine" / "trixie"
PLACE = "/run/newer"
"""Where the host has Debian 13's root, and a container has it."""

PREPARE_ROOT = f"""
    cd {PLACE}
    for kernels in proc sys dev; do mount --rbind /$kernels $kernels; done
    mount -t tmpfs tmpfs run
    mkdir -p var/lib/docker
    mount -t tmpfs tmpfs var/lib/docker
    for file in etc/resolv.conf etc/ssl/certs/ca-certificates.crt; do cat /$file >$file; done
"""
PREPARE_CONTAINER = """
    mkdir -p /run /var/lib/docker /etc/docker /root /tmp
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/lib/docker
    ln -s /run /var/run
"""
# A build's own steps are containers, for which runc makes cgroups.
IN_CONTAINER = "mount -o remount,rw /sys/fs/cgroup"
# What it does here is to pull and to build, so it has no network for containers of its own.
DOCKERD = ("dockerd", "--iptables=false", "--ip6tables=false")
ENVIRONMENT = ("env", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/bin")
IN_ROOT = ("chroot", PLACE, *ENVIRONMENT)


def dockerfile(command: str) -> str:
    """A build that runs a command in an image of a permitted registry; newlines are escaped."""
    return f"FROM docker.io/library/app:1\\nRUN {command}\\n"


class Engine:
    """A running dockerd, its containerd, and the clients that speak to them."""

    def __init__(self, run: Callable[..., Outcome], before: tuple[str, ...]) -> None:
        self._run = run
        self._before = before

    def run(self, *argv: str) -> Outcome:
        """Run a program of the engine's Debian where the engine runs."""
        return self._run(*self._before, *argv)

    def pull(self, image: str) -> Outcome:
        return self.run("docker", "pull", image)

    def build(self, image: str, *, kit: bool = True) -> Outcome:
        """Have it build from an image, with BuildKit or with the classic builder."""
        chosen = f"DOCKER_BUILDKIT={int(kit)} docker build --no-cache -"
        return self.run("sh", "-c", f"echo 'FROM {image}' | {chosen}")

    def step(self, command: str) -> Outcome:
        """Have BuildKit run a command in a build, as a container on the network that it has."""
        chosen = "DOCKER_BUILDKIT=1 docker build --no-cache --network=host -"
        return self.run("sh", "-c", f"printf '{dockerfile(command)}' | {chosen}")

    def ctr(self, image: str) -> Outcome:
        """Have its containerd pull."""
        return self.run(
            *("ctr", "--address", "/run/docker/containerd/containerd.sock"),
            *("images", "pull", image),
        )


def newer_on_host(host: Host) -> Engine:
    """Start Debian 13's as another engine of the host, in the engine's cgroup, for all its life."""
    _have_root()
    # With no bridge at all, it would take docker0 away from the other engine.
    bridge = "ip link add newer0 type bridge && ip addr add 172.31.0.1/24 dev newer0"
    host.namespace.sh(f"{_overlay(PLACE)}\n{bridge}\n{PREPARE_ROOT}")
    engine = host.namespace.start(*IN_ROOT, *DOCKERD, "--bridge=newer0", cgroup=host.engine_cgroup)
    engine.wait_for("API listen on", timeout=60)
    return Engine(host.run, IN_ROOT)


def newer_in_container(host: Host) -> Engine:
    """Start Debian 13's in a container, with which it ends."""
    _have_root()
    lower = "/run/newer-in-container"
    host.namespace.sh(f"mountpoint -q {lower} || {{ {_overlay(lower)}; }}")
    volume = ("--volume", f"{lower}:{PLACE}")
    return Engine(_running(host, PREPARE_ROOT, IN_ROOT, volume).run, IN_ROOT)


def own_in_container(host: Host) -> tuple[Engine, Container]:
    """Start this machine's in a container, in which podman and buildah can run as well."""
    volumes = [f"/etc/{name}:/etc/{name}:ro" for name in ("containers", "passwd")]
    options = tuple(word for volume in volumes for word in ("--volume", volume))
    container = _running(host, PREPARE_CONTAINER, ENVIRONMENT, options)
    return Engine(container.run, ENVIRONMENT), container


def _running(
    host: Host, prepare: str, before: tuple[str, ...], options: tuple[str, ...]
) -> Container:
    """A container that is a dockerd, which answers."""
    container = host.container(
        # Not `--privileged`: the machine that runs this may lack some capability.
        *("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN"),
        *("--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"),
        *options,
        command=(
            "sh",
            "-ec",
            f"{IN_CONTAINER}\n{prepare}\nexec {' '.join((*before, *DOCKERD, '--bridge=none'))}",
        ),
    )
    said = host.namespace.start(
        "docker", "--host", host.docker_url, "logs", "--follow", container.id
    )
    said.wait_for("API listen on", timeout=60)
    return container


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
