"""The internet of the lab: DNS, registries, and whatever else answers a connection.

One namespace plays all servers. Every address of the servers' networks is its own, and its
nftables table says which service answers where, and counts each packet that arrives.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable, Mapping
from enum import IntEnum
from pathlib import Path

from tests.lab.addresses import (
    CDN_GOOD,
    DNS,
    ECR_MINE,
    ECR_THEIRS,
    GHCR,
    HOST,
    HUB,
    HUB_AUTH,
    HUB_BLOBS,
    HUB_INDEX,
    NEXUS,
    PROXY,
    ROUTER,
    SERVERS_V4,
    SERVERS_V6,
    SITES,
    Site,
)
from tests.lab.materials import Materials
from tests.lab.space import Namespace, Process

PROGRAMS = Path(__file__).parent / "servers"

REPOSITORIES = {"library/app": "app", "corp/app": "app", "library/slow": "slow"}
"""What the registries hold, all with the tag `1`; they share one storage."""


class Service(IntEnum):
    """A server of the lab and the port that it listens on, at any address."""

    HUB = 10001
    OPEN = 10002
    AUTH = 10003
    BLOBS = 10004
    PROXY = 10005
    GREETER = 10006
    DATABASE = 10007
    SINK = 10008
    PAGE = 10009
    REGISTRY = 10010
    LATE = 10011
    DRIP = 10012
    HELLOS = 10013


HOME: Mapping[Site, Mapping[int, Service]] = {
    HUB: {443: Service.HUB},
    HUB_INDEX: {443: Service.HUB},
    HUB_AUTH: {443: Service.AUTH},
    HUB_BLOBS: {443: Service.BLOBS},
    GHCR: {443: Service.OPEN, 5000: Service.OPEN, 4433: Service.OPEN},
    NEXUS: {443: Service.OPEN, 8443: Service.OPEN},
    CDN_GOOD: {443: Service.OPEN},
    ECR_MINE: {443: Service.OPEN},
    ECR_THEIRS: {443: Service.OPEN},
    PROXY: {3128: Service.PROXY},
}
"""What answers where. Any other TCP port of the servers' networks is answered with a greeting."""

TABLE = f"""
table inet lab {{
    map services4 {{ type ipv4_addr . inet_service : inet_service; }}
    map services6 {{ type ipv6_addr . inet_service : inet_service; }}
    set gone4 {{ type ipv4_addr; }}
    set gone6 {{ type ipv6_addr; }}
    set seen4 {{ type ipv4_addr . inet_proto . inet_service; flags dynamic; counter; }}
    set seen6 {{ type ipv6_addr . inet_proto . inet_service; flags dynamic; counter; }}
    chain count {{
        type filter hook prerouting priority raw;
        ip daddr {SERVERS_V4} update @seen4 {{ ip daddr . meta l4proto . th dport }}
        ip6 daddr {SERVERS_V6} update @seen6 {{ ip6 daddr . meta l4proto . th dport }}
    }}
    chain gone {{
        type filter hook prerouting priority mangle;
        ip daddr @gone4 meta l4proto tcp reject with tcp reset
        ip6 daddr @gone6 meta l4proto tcp reject with tcp reset
    }}
    chain serve {{
        meta l4proto tcp redirect to : ip daddr . th dport map @services4
        meta l4proto tcp redirect to : ip6 daddr . th dport map @services6
        ip daddr {SERVERS_V4} meta l4proto tcp redirect to :{Service.GREETER}
        ip6 daddr {SERVERS_V6} meta l4proto tcp redirect to :{Service.GREETER}
    }}
    chain arriving {{ type nat hook prerouting priority dstnat; jump serve; }}
    chain local {{ type nat hook output priority -100; jump serve; }}
}}
"""


class Internet:
    """All that the host can reach, on the other end of its uplink."""

    def __init__(self, namespace: Namespace, materials: Materials) -> None:
        self.namespace = namespace
        self._materials = materials
        self._directory = namespace.space.directory
        self._names: dict[str, tuple[str, ...]] = {site.name: site.addresses for site in SITES}
        self._limit = self._directory / "bytes-per-second"
        self._storage = self._directory / "registry"

    def start(self) -> None:
        """Give the servers their addresses, start every one, and fill the registries."""
        self.namespace.sh(
            f"""
            ip addr add {DNS.v4}/32 dev lo
            ip addr add {DNS.v6}/128 dev lo nodad
            ip route add local {SERVERS_V4} dev lo
            ip route add local {SERVERS_V6} dev lo
            echo nameserver {DNS.v4} > {self._directory}/internet-resolv.conf
            mount --bind {self._directory}/internet-resolv.conf /etc/resolv.conf
            """
        )
        self.namespace.run("nft", "-f", "-", stdin=TABLE, check=True)
        for site, ports in HOME.items():
            self.serve(site, ports)
        self._start_dns(ttl=300)
        starting = [self._start_registry("open", Service.OPEN, ""), *self._start_hub()]
        starting.append(self._start_program("greeter.py", str(Service.GREETER.value)))
        self.proxy = self._start_proxy()
        for server in [*starting, self.proxy]:
            server.wait_for("listening")
        self._fill()

    def connect(self) -> None:
        """Give this end of the link to the host, which has just been plugged in, its addresses."""
        self.namespace.sh(
            f"""
            ip addr add {ROUTER.v4}/24 dev uplink
            ip addr add {ROUTER.v6}/64 dev uplink nodad
            ip link set uplink up
            ip route add 172.16.0.0/12 via {HOST.v4}
            """
        )

    # Where things are

    def serve(self, site: Site, ports: Mapping[int, Service]) -> None:
        """Let services answer at a site's addresses."""
        for port, service in ports.items():
            for family, address in zip("46", site.addresses, strict=True):
                if address:
                    element = f"{{ {address} . {port} : {service.value} }}"
                    self._nft(f"add element inet lab services{family} {element}")

    def abandon(self, site: Site) -> None:
        """From now on, nothing answers at a site's addresses: connections are reset."""
        for family, address in zip("46", site.addresses, strict=True):
            self._nft(f"add element inet lab gone{family} {{ {address} }}")

    def set_name(self, name: str, *addresses: str) -> None:
        """Let the DNS answer with these addresses; with none, the name does not exist."""
        self._names[name] = addresses
        self._write_names()
        said = len(self.dns.lines)
        self.dns.send(signal.SIGHUP)
        self.dns.wait_for(r"read .*(names|addresses)", after=said)

    def set_ttl(self, seconds: int) -> None:
        """Start the DNS server anew, with another TTL for all its answers."""
        self.dns.stop()
        self._start_dns(seconds)

    # What came in

    def packets(self, site: Site, port: int | None = None, protocol: str = "any") -> int:
        """How many packets have arrived for a site, at one port or any, since the last reset."""
        return sum(
            packets
            for (_, seen_protocol, seen_port), packets in self.seen(site).items()
            if seen_port == (port or seen_port) and protocol in (seen_protocol, "any")
        )

    def seen(self, site: Site) -> dict[tuple[str, str, int], int]:
        """The same by address, protocol and port: only what has arrived is in it."""
        listed = self.namespace.run("nft", "-j", "list", "table", "inet", "lab", check=True)
        found = {}
        for item in json.loads(listed.output)["nftables"]:
            for element in item.get("set", {}).get("elem", []):
                if not isinstance(element, dict):
                    continue
                address, protocol, port = element["elem"]["val"]["concat"]
                if address in site.addresses:
                    found[address, protocol, port] = element["elem"]["counter"]["packets"]
        return found

    def reset_counts(self) -> None:
        self._nft("flush set inet lab seen4; flush set inet lab seen6")

    def end_connections(self) -> None:
        """End every connection of the servers, half-open ones too.

        What a client that has gone left unfinished is sent again for a minute, and whoever has its
        address answers with a reset: a packet that arrives, and nobody's attempt.
        """
        self.namespace.run("ss", "--kill", "--tcp", "state", "connected", check=True)

    # How fast it goes

    def limit_downloads(self, bytes_per_second: int) -> None:
        """Serve blobs slowly, those already under way too."""
        self._limit.write_text(str(bytes_per_second))

    def unlimit_downloads(self) -> None:
        self._limit.unlink(missing_ok=True)

    def tokens_given(self) -> int:
        return sum('"GET /token' in line and " 200 " in line for line in self.auth.lines)

    def blobs_given(self) -> int:
        return sum('"GET /docker' in line and " 200 " in line for line in self.blobs.lines)

    # How it is made

    def _nft(self, commands: str) -> None:
        self.namespace.run("nft", commands, check=True)

    def _write_names(self) -> None:
        lines = [
            f"{address} {name}" for name, addresses in self._names.items() for address in addresses
        ]
        hosts = [line for line in lines if line.split()[0]]
        (self._directory / "names").write_text("".join(f"{line}\n" for line in hosts))

    def _start_dns(self, ttl: int) -> None:
        self._write_names()
        self.dns = self.namespace.start(
            *("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null"),
            *("--pid-file=", "--user=root", "--no-resolv", "--no-hosts", "--local=/#/"),
            *("--bind-interfaces", f"--listen-address={DNS.v4},{DNS.v6}", "--no-ident"),
            *(f"--addn-hosts={self._directory}/names", f"--local-ttl={ttl}"),
            "--log-queries",
        )
        self.dns.wait_for(r"read .*(names|addresses)")

    def _start_program(self, program: str, *arguments: str) -> Process:
        return self.namespace.start(sys.executable, "-I", str(PROGRAMS / program), *arguments)

    def _start_hub(self) -> Iterable[Process]:
        """A registry as Docker Hub is one: tokens from a second host, blobs from a third."""
        made = self._materials
        server = (str(made / "server.pem"), str(made / "server.key"))
        signer = (str(made / "tokens.pem"), str(made / "tokens.key"))
        self.auth = self._start_program("auth_server.py", str(Service.AUTH.value), *server, *signer)
        self.blobs = self._start_program(
            *("blob_server.py", str(Service.BLOBS.value), *server),
            *(str(self._storage), str(self._limit)),
        )
        self.hub = self._start_registry(
            "hub",
            Service.HUB,
            f"""
auth:
  token:
    realm: https://{HUB_AUTH.name}/token
    service: registry.docker.io
    issuer: auth.docker.io
    rootcertbundle: {made.ca}
middleware:
  storage:
    - name: redirect
      options:
        baseurl: https://{HUB_BLOBS.name}
""",
        )
        return (self.auth, self.blobs, self.hub)

    def _start_registry(self, name: str, service: Service, more: str) -> Process:
        config = self._directory / f"{name}.yml"
        config.write_text(
            f"""\
version: 0.1
storage:
  filesystem:
    rootdirectory: {self._storage}
  delete:
    enabled: false
http:
  addr: "[::]:{service.value}"
  secret: of-the-lab
  tls:
    certificate: {self._materials / "server.pem"}
    key: {self._materials / "server.key"}
{more}"""
        )
        return self.namespace.start("docker-registry", "serve", str(config))

    def _start_proxy(self) -> Process:
        config = self._directory / "proxy.conf"
        config.write_text(f"Port {Service.PROXY.value}\nTimeout 60\nMaxClients 20\nLogLevel Info\n")
        return self.namespace.start("tinyproxy", "-d", "-c", str(config))

    def _fill(self) -> None:
        for repository, image in REPOSITORIES.items():
            self.namespace.run(
                *("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "--quiet"),
                f"oci:{self._materials / image}:1",
                f"docker://127.0.0.1:{Service.OPEN.value}/{repository}:1",
                check=True,
            )
