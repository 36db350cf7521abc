"""The machine under test: a Docker Engine, containers, clients, and ramfw.

Everything runs in the host's own network, mounts and cgroup tree, in the cgroup where systemd
would have put it. What is written to `/run`, `/etc` and `/var/lib` stays in memory, and goes.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ramfw.control import request
from tests.lab.addresses import CONTAINERS_V6, DNS, HOST, ROUTER
from tests.lab.container import Container
from tests.lab.materials import Materials
from tests.lab.sender import PROGRAMS, PYTHON, Sender, download_command
from tests.lab.space import Namespace, Outcome, Process

ENGINE = "system.slice/docker.service"
ENGINE_IN_SLICE = "engines.slice/docker.service"
RAMFW = "system.slice/ramfw.service"
EXPLAINER = "system.slice/ramfw-explainer.service"
SIGNER = "system.slice/ramfw-signer.service"
PROBER = "system.slice/ramfw-prober.service"
ACTIVATED = (
    *(PYTHON, "-I", str(PROGRAMS / "activate.py"), "307", "unshare", "--net"),
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--bounding-set=-all", "--no-new-privs"),
)
"""The rights of the explainer's service."""
TOOLS = "tools:1"


class Host:
    """A host with one uplink. Nothing runs on it until a test starts it."""

    def __init__(self, namespace: Namespace, materials: Materials) -> None:
        self.namespace = namespace
        self.directory = namespace.space.directory / "host"
        self.engine_cgroup = ENGINE
        self._materials = materials
        self._hosts = self.directory / "hosts"
        self._resolv = self.directory / "resolv.conf"
        self._docker = self.directory / "docker"
        self._docker_url = f"unix://{self.directory}/docker.sock"
        self._policy = namespace.root / "etc" / "ramfw" / "policy.toml"
        self.control = namespace.root / "run" / "ramfw" / "control.sock"
        self.daemon: Process | None = None
        self.engine: Process | None = None
        self.explainer: Process | None = None
        self.signer: Process | None = None
        self.prober: Process | None = None

    def connect(self) -> None:
        """Give the host its addresses, its resolver, and trust in the lab's authority."""
        for directory in (self.directory, self._docker):
            directory.mkdir()
        resolv = self._resolv
        self.set_servers(*DNS.addresses)
        self.set_hosts({})
        # With /etc and /run of its own, ramfw runs with the paths that it has on a real machine.
        self.namespace.sh(
            f"""
            ip addr add {HOST.v4}/24 dev uplink
            ip addr add {HOST.v6}/64 dev uplink nodad
            ip link set uplink up
            ip route add default via {ROUTER.v4}
            ip route add default via {ROUTER.v6}
            echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
            mount -t tmpfs tmpfs /run
            mount -t tmpfs tmpfs {self._docker}
            mount -t tmpfs tmpfs /var/lib
            mkdir /run/etc /run/work
            mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work /etc
            resolv=$(readlink -m /etc/resolv.conf)
            mkdir -p "${{resolv%/*}}" && touch "$resolv"
            mount --bind {resolv} "$resolv"
            mkdir -p /etc/ramfw
            mount --bind {self._hosts} /etc/hosts
            mount --bind {self._materials.ca} /etc/ssl/certs/ca-certificates.crt
            """
        )

    # Programs

    def run(self, *argv: str, timeout: float = 60, cgroup: str = "user.slice") -> Outcome:
        """Run a program as a user of this host would."""
        return self.namespace.run(*argv, timeout=timeout, cgroup=cgroup)

    def as_engine(self, *argv: str, timeout: float = 60) -> Outcome:
        """Run a program in the engine's own cgroup: its traffic is the engine's."""
        return self.namespace.run(*argv, timeout=timeout, cgroup=self.engine_cgroup)

    def curl(self, url: str, *more: str, as_engine: bool = False) -> Outcome:
        """Fetch a URL; fails on an HTTP error other than 401, which a registry gives at first."""
        argv = (
            "curl",
            "-sS",
            "--max-time",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{stderr}%{http_code}\n",
        )
        return (self.as_engine if as_engine else self.run)(*argv, *more, url)

    def start_sender(self, *places: str) -> Sender:
        """Start a program of the engine that tries to reach places without pause.

        A place is written `tcp/203.0.113.20/443`.
        """
        return Sender(self.namespace.start(*Sender.command(places), cgroup=self.engine_cgroup))

    def send_lone_ack(self, address: str, port: int) -> None:
        """Send one TCP segment of a connection that was never opened, as the engine."""
        program = str(PROGRAMS / "lone_ack.py")
        self.namespace.run(
            *(sys.executable, "-I", program, HOST.v4, address, str(port)),
            cgroup=self.engine_cgroup,
        )

    def set_hosts(self, names: Mapping[str, str]) -> None:
        """Write `/etc/hosts`: an address for each name, and localhost."""
        lines = [f"{address} {name}" for name, address in names.items()]
        text = "\n".join(["127.0.0.1 localhost", "::1 localhost", *lines])
        # Written in place: a new file would not be the one that is mounted.
        self._hosts.write_text(f"{text}\n")

    def set_servers(self, *addresses: str) -> None:
        """Write `/etc/resolv.conf`: the DNS servers that this host asks."""
        self._resolv.write_text("".join(f"nameserver {address}\n" for address in addresses))

    # The engine

    def start_engine(
        self,
        *,
        in_slice: bool = False,
        mirror: str = "",
        proxy: str = "",
        insecure: Sequence[str] = (),
    ) -> Process:
        """Start dockerd as its service would, in docker.service's cgroup, and wait for it."""
        self.engine_cgroup = ENGINE_IN_SLICE if in_slice else ENGINE
        config: dict[str, Any] = {
            "data-root": str(self._docker / "data"),
            "exec-root": str(self._docker / "exec"),
            "pidfile": str(self.directory / "docker.pid"),
            "hosts": [self._docker_url],
            "ipv6": True,
            "fixed-cidr-v6": CONTAINERS_V6,
            "ip6tables": True,
            "experimental": True,
            "registry-mirrors": [mirror] if mirror else [],
            "insecure-registries": list(insecure),
        }
        path = self.directory / "daemon.json"
        path.write_text(json.dumps(config))
        env = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy} if proxy else {}
        self.engine = self.namespace.start(
            "dockerd", "--config-file", str(path), cgroup=self.engine_cgroup, env=env
        )
        self.engine.wait_for("API listen on")
        return self.engine

    def stop_engine(self) -> None:
        """Stop dockerd as systemd does: its cgroup, if nothing is left in it, goes too."""
        if self.engine is not None:
            self.engine.stop()
        self.namespace.space.remove_cgroup(self.engine_cgroup)

    def docker(self, *argv: str, timeout: float = 60, stdin: str | bytes = b"") -> Outcome:
        """Run the docker command."""
        return self.namespace.run(
            *("docker", "--host", self._docker_url, *argv),
            timeout=timeout,
            stdin=stdin,
            # The classic builder is the one that every engine has without a plugin.
            env={"DOCKER_BUILDKIT": "0"},
        )

    def pull(self, image: str, timeout: float = 60) -> Outcome:
        """Pull an image; all that was pulled before is removed, so that each byte travels."""
        have = self.docker("images", "--format", "{{.Repository}}:{{.Tag}}").output.split()
        pulled = [name for name in have if name != TOOLS]
        if pulled:
            self.docker("image", "rm", "--force", *pulled)
        return self.docker("pull", image, timeout=timeout)

    def start_pull(self, image: str) -> Process:
        """Start to pull an image, without waiting for the end."""
        return self.namespace.start("docker", "--host", self._docker_url, "pull", image)

    def start_download(self, image: str) -> Process:
        """Start to fetch an image's last layer as the engine would, and wait for its first bytes.

        Unlike docker pull, it does not try again when its connection breaks: it says so and ends.
        """
        download = self.namespace.start(*download_command(image), cgroup=self.engine_cgroup)
        download.wait_for("receiving")
        return download

    def build(self, dockerfile: str, *options: str) -> Outcome:
        """Build an image with the engine's own builder, from a Dockerfile and nothing else."""
        return self.docker("build", "--no-cache", "--force-rm", *options, "-", stdin=dockerfile)

    def load_tools(self) -> None:
        """Have the image of the lab's containers without pulling it."""
        loaded = self.docker("load", "--input", str(self._materials / "tools.tar"))
        if not loaded.ok:
            raise AssertionError(loaded.output)

    def container(self, *options: str, command: Sequence[str] = ()) -> Container:
        """Start a container, with this host's programs in it."""
        ca = "/etc/ssl/certs/ca-certificates.crt"
        begun = self.docker(
            *("run", "--detach", "--rm", "--volume", "/usr:/usr:ro", "--volume", f"{ca}:{ca}:ro"),
            *(*options, TOOLS, *command),
        )
        if not begun.ok:
            raise AssertionError(begun.output)
        return Container(self.docker, self.namespace.start, begun.output.split()[-1])

    def remove_containers(self) -> None:
        """Remove all containers, and all networks that were made."""
        if running := self.docker("ps", "--all", "--quiet").output.split():
            self.docker("rm", "--force", *running)
        self.docker("network", "prune", "--force")

    def start_registry(self, port: int) -> Process:
        """Start a registry on this host's loopback, without TLS."""
        config = self.directory / "registry.yml"
        storage = self.directory / "registry"
        config.write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {storage}}}}}\n"
            f"http: {{addr: '127.0.0.1:{port}', secret: of-the-lab}}\n"
        )
        registry = self.namespace.start("docker-registry", "serve", str(config))
        registry.wait_for("listening")
        return registry

    # ramfw

    def start_ramfw(self, policy: str, *options: str) -> Process:
        """Write a policy, start the daemon, and wait until its rules are in and names resolved."""
        self.write_policy(policy)
        self.daemon = self._start_service(RAMFW, "run", *options)
        request(self.control, "wait", {"seconds": 10})
        return self.daemon

    def start_explainer(self, *, with_signer: bool = False, by_hand: bool = False) -> Process:
        """Start the explainer as its service would, and the signer before it.

        It is given its socket, and has no right, and a network with nothing in it. By hand, it
        listens by itself, and gives up root.
        """
        socket_of_signer = ("--signer", str(self.directory / "signer.sock"))
        if with_signer:
            # As its socket unit would: asked by the explainer's user alone.
            self.signer = self._start_service(SIGNER, "signer", *socket_of_signer)
            self.namespace.sh(f"chown nobody {self.directory}/signer.sock")
        before = () if by_hand else ACTIVATED
        self.explainer = self._start_service(
            EXPLAINER, "explainer", *socket_of_signer, before=before
        )
        return self.explainer

    def start_prober(self, *, by_hand: bool = False) -> Process:
        """Start the prober as its service would: no right, and a network with nothing in it.

        By hand it listens by itself, in this host's network, and gives up root.
        """
        if by_hand:
            self.prober = self._start_service(PROBER, "prober")
            return self.prober
        path = self.namespace.root / "run" / "ramfw-prober.sock"
        path.unlink(missing_ok=True)
        self.prober = self._start_service(
            PROBER, "prober", before=(*ACTIVATED[:3], "/run/ramfw-prober.sock", *ACTIVATED[4:])
        )
        return self.prober

    def stop_prober(self) -> None:
        """End the prober, if it runs."""
        if self.prober is not None:
            self.prober.stop(signal.SIGKILL)
        self.prober = None

    def authority(self) -> str:
        """Place the lab's authority for the signer; the lines of a policy that name it."""
        key = self.directory / "ca.key"
        key.unlink(missing_ok=True)
        key.write_bytes((self._materials / "ca.key").read_bytes())
        key.chmod(0o400)
        return f'[explainer]\nca = "{self._materials.ca}"\nkey = "{key}"\n'

    def stop_explainer(self) -> None:
        """End the explainer, and the signer, if they run."""
        for process in (self.explainer, self.signer):
            if process is not None:
                process.stop(signal.SIGKILL)
        self.explainer = self.signer = None

    def _start_service(self, cgroup: str, *argv: str, before: Sequence[str] = ()) -> Process:
        """Start a command of ramfw, and wait until it says that it is ready."""
        path = self.directory / "notify.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(path))
            path.chmod(0o666)
            deadline = time.monotonic() + 20
            process = self.namespace.start(
                *(*before, *_ramfw(), *argv), cgroup=cgroup, env={"NOTIFY_SOCKET": str(path)}
            )
            try:
                said = b""
                while b"READY=1" not in said.split(b"\n"):
                    notify.settimeout(max(deadline - time.monotonic(), 0.001))
                    said = notify.recv(4096)
            except TimeoutError:
                raise AssertionError(f"{argv[0]} is not ready:\n{process.output}") from None
        return process

    def kill_ramfw(self) -> None:
        """End the daemon as the OOM killer would."""
        if self.daemon is not None:
            self.daemon.stop(signal.SIGKILL)

    def forget_ramfw(self) -> None:
        """End the daemon, if one runs, and remove its table: the host is as it was."""
        self.stop_explainer()
        self.stop_prober()
        self.kill_ramfw()
        self.daemon = None
        self.run("nft", "delete", "table", "inet", "ramfw")
        for kept in ("alive", "leases"):
            self.control.with_name(f"{self.control.name}.{kept}").unlink(missing_ok=True)

    @property
    def docker_url(self) -> str:
        """Where the engine answers."""
        return self._docker_url

    @property
    def containerd_socket(self) -> Path:
        """Where the containerd that the engine started answers."""
        return self._docker / "exec" / "containerd" / "containerd.sock"

    def start_command(self, *argv: str) -> Process:
        """Start a ramfw command that does not end by itself."""
        return self.namespace.start(*_ramfw(), *argv)

    def ramfw(
        self,
        *argv: str,
        on_terminal: bool = False,
        as_nobody: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run a ramfw command; on a terminal it may use colour."""
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        command = [*(nobody if as_nobody else ()), *_ramfw(), *argv]
        if on_terminal:
            line = f"stty columns 80; {shlex.join(command)}"
            command = ["script", "--quiet", "--return", "--command", line, "/dev/null"]
        return self.namespace.run(*command, timeout=20, env={"TERM": "xterm", **(env or {})})

    def status(self) -> Any:  # noqa: ANN401
        """What `ramfw status --json` says."""
        said = self.ramfw("status", "--json")
        if not said.ok:
            raise AssertionError(said.output)
        return json.loads(said.output)

    def write_policy(self, policy: str) -> None:
        self._policy.write_text(policy)
        self._policy.chmod(0o644)

    def reload(self, policy: str) -> Outcome:
        """Write another policy and reload it."""
        self.write_policy(policy)
        return self.ramfw("reload")

    def reload_at_once(self, policy: str) -> None:
        """The same over the control socket: without the time that a command takes to start."""
        self.write_policy(policy)
        request(self.control, "reload")

    def rules(self) -> str:
        """ramfw's table as nft lists it; empty where there is none."""
        listed = self.run("nft", "list", "table", "inet", "ramfw")
        return listed.output if listed.ok else ""

    def permits(self, address: str) -> bool:
        """Whether an address is among the permitted ones that ramfw's table holds."""
        return re.search(rf"(^|\s){re.escape(address)} \. (tcp|udp) ", self.rules()) is not None

    def marked_flows(self) -> set[str]:
        """The live TCP flows that carry a mark, each as its original direction and the mark."""
        listed = self.run("conntrack", "--dump", "--proto", "tcp")
        flow = re.compile(r"ESTABLISHED src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) .*(mark=\d+)")
        found = (flow.search(line) for line in listed.output.splitlines())
        return {" ".join(match.groups()) for match in found if match and match[5] != "mark=0"}

    def forget_flows(self) -> None:
        """Empty the host's connection tracking, so that what follows can be told apart."""
        self.namespace.run("conntrack", "--flush")

    def marks_of_flows(self, only: str = "") -> set[int]:
        """The marks of all tracked flows, DNS apart; `only` selects lines that contain it."""
        listed = self.namespace.sh("conntrack --dump; conntrack --dump --family ipv6")
        lines = [line for line in listed.splitlines() if only in line and "dport=53 " not in line]
        return {int(mark) for line in lines for mark in re.findall(r"mark=(\d+)", line)}

    def rules_of_others(self) -> str:
        """All nftables rules but ramfw's, without their counters."""
        tables = self.namespace.sh("nft list tables").splitlines()
        others = [table for table in tables if table != "table inet ramfw"]
        listed = [self.namespace.sh(f"nft --stateless list {table}") for table in others]
        return "\n".join(listed)

    def counted(self, what: str) -> dict[str, int]:
        """The packets that each scope has `refused`, or `audited`, as status tells it."""
        return {scope["name"]: int(scope[what]["packets"]) for scope in self.status()["scopes"]}

    def engine_cgroup_id(self) -> int:
        """The id that the kernel knows the engine's cgroup by."""
        return self.namespace.space.cgroup(self.engine_cgroup).stat().st_ino


def _ramfw() -> tuple[str, ...]:
    """The command, run from the tree that these tests are in, whatever is installed."""
    tree = Path(__file__).parents[2]
    return ("env", f"PYTHONPATH={tree}", sys.executable, "-P", "-m", "ramfw")
