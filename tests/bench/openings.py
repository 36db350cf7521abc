"""Servers that are connected to by name, and what a host measures on connections to them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass

from tests.bench.setting import DOCKER_TABLES, ENGINE, RUN, Delay, Host, Setting
from tests.lab.space import Namespace, Process

SERVED = "0-0-16-3600.served.example"
"""The permitted name; the addresses that answerer.c gives for it are the first of its own."""
FORBIDDEN = "0-0-16-3600.forbidden.example"
"""A name at the same addresses that is not permitted."""
FIRST_ADDRESS, ADDRESSES = "198.18.0.0", 16
TLS_PORT, OTHER_PORT = 8443, 8080

DOWNLOADS, DOWNLOAD_FROM = "198.18.64.0/24", "198.18.64.1"
DOWNLOAD_PORT = 5000
"""A port of registries: what a container has from there is judged."""
SECONDS_OF_DOWNLOAD = 2

POLICY = f"""
[[allow]]
host = "{SERVED}"
ports = [{TLS_PORT}, {OTHER_PORT}]

[[allow]]
address = "{DOWNLOADS}"
ports = [{DOWNLOAD_PORT}]
names = false
"""

RUN_UNREAD = f"""
from ramfw.errors import ObserveError
from ramfw.observe.openings import OpeningsWatch
def refuse(*_):
    raise ObserveError("the bench wants it so")
OpeningsWatch.__post_init__ = refuse
{RUN}
"""
"""The daemon that judges by addresses alone, as where the kernel has no queue."""


@dataclass(frozen=True, slots=True)
class Burst:
    """What became of connections that were all opened at once."""

    lost: int
    passed: int
    """Those with a forbidden name that the server saw, or whose client was not refused."""
    seconds: float


class Openings:
    """The servers, and the ways to measure on a host."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.directory = setting.space.directory
        for program in ("taker", "opener"):
            setting.compile(program, "-lssl", "-lcrypto")
        subprocess.run(
            (
                *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=bench"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-addext", f"subjectAltName=DNS:{SERVED}"),
                *("-keyout", "served.key", "-out", "served.pem"),
            ),
            cwd=self.directory,
            check=True,
            capture_output=True,
        )
        files = f"{self.directory}/served.pem", f"{self.directory}/served.key"
        ports = str(TLS_PORT), str(OTHER_PORT)
        self._taker = setting.servers.start(f"{self.directory}/taker", *ports, *files, FORBIDDEN)
        self._taker.wait_for("listening")
        self._downloads: Process | None = None

    def serve_downloads(self) -> None:
        """Start the server of downloads, if it does not run yet."""
        if self._downloads is None:
            options = ("--server", "--port", str(DOWNLOAD_PORT), "--forceflush")
            self._downloads = self.setting.servers.start("iperf3", *options)
            self._downloads.wait_for("listening")

    # -- what is measured --------------------------------------------------------------------------

    def tls_rate(self, host: Host, count: int) -> float:
        """TLS handshakes a second, all of which must come to their end."""
        return self._rate(host, "tls", TLS_PORT, f"{self.directory}/served.pem", count)

    def plain_rate(self, host: Host, count: int) -> float:
        """Connections a second with one request and its response, none of which may fail."""
        return self._rate(host, "plain", OTHER_PORT, "-", count)

    def _rate(self, host: Host, what: str, port: int, more: str, count: int) -> float:
        rate, failed = self._open(host, what, port, more, count)
        if failed:
            raise RuntimeError(f"{what}: {failed:.0f} of {count} connections failed")
        return rate

    def delay(self, host: Host, count: int, port: int = OTHER_PORT) -> Delay:
        """How long the first byte after a hello takes, one connection after the other.

        On TLS_PORT the server computes its part of the handshake first; on the other it answers at
        once, as answerer.c does.
        """
        p50, p99, silent, first, number = self._open(host, "delay", port, "-", count)
        if silent:
            # The end of the stream has no errno.
            why = os.strerror(int(number)) if number else "closed"
            raise RuntimeError(
                f"{silent:.0f} of {count} handshakes were not answered; "
                f"number {first:.0f} was the first: {why}"
            )
        return Delay(p50, p99)

    def burst(self, host: Host, count: int) -> Burst:
        """All connections opened at once, every second one with the forbidden name."""
        before = self._forbidden_seen()
        lost, answered, seconds = self._open(host, "burst", OTHER_PORT, FORBIDDEN, count)
        seen = self._forbidden_seen() - before
        return Burst(int(lost), max(int(answered), seen), seconds)

    def _forbidden_seen(self) -> int:
        return sum(line.startswith("forbidden") for line in self._taker.lines)

    def _open(self, host: Host, what: str, port: int, more: str, count: int) -> list[float]:
        done = host.namespace.run(
            *(f"{self.directory}/opener", what, FIRST_ADDRESS, str(ADDRESSES), str(port)),
            *(SERVED, more, str(count)),
            cgroup=ENGINE,
            timeout=120,
            check=True,
        )
        return [float(number) for number in done.output.split()]


def download(namespace: Namespace) -> float:
    """Gigabits a second of one download, from an engine's cgroup or a container's network."""
    done = namespace.run(
        *("iperf3", "--client", DOWNLOAD_FROM, "--port", str(DOWNLOAD_PORT), "--reverse"),
        *("--time", str(SECONDS_OF_DOWNLOAD), "--json"),
        cgroup=ENGINE,
        check=True,
    )
    whole = re.search(r"\{.*\}", done.output, re.DOTALL)
    if whole is None:
        raise RuntimeError(f"iperf3:\n{done.output}")
    return float(json.loads(whole[0])["end"]["sum_received"]["bits_per_second"]) / 1e9


def container_behind(host: Host) -> Namespace:
    """A network behind a bridge of the host, translated as an engine has it."""
    container = host.setting.space.namespace()
    host.namespace.run("nft", "-f", "-", stdin=DOCKER_TABLES, check=True)
    host.setting.space.link(host.namespace, container, "veth1")
    host.namespace.sh(
        "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0;"
        "ip link set docker0 up; ip link set veth1 master docker0 up;"
        "echo 1 > /proc/sys/net/ipv4/ip_forward"
    )
    container.sh(
        "ip addr add 172.17.0.2/16 dev uplink; ip link set uplink up;"
        "ip route add default via 172.17.0.1"
    )
    return container
