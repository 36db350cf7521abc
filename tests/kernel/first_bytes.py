"""Plays what becomes of first bytes where the kernel has nft's native `queue`; tells it as JSON.

All names have one address, as on a CDN. The engine (scope strict) and a container (scope
registries) show them, and other first bytes, with both families; then again without the daemon.
Arguments: nothing for the whole story; `serve` and `show` are its two sides.
"""

from __future__ import annotations

import json
import signal
import socket
import ssl
import sys
import threading

from tests.kernel import first_connection
from tests.kernel.world import DNS, ENGINE, HOST, HOST6, SERVERS, World, world
from tests.lab.policies import OFF, REGISTRIES, policy
from tests.lab.space import Namespace
from tests.unit.wire.hello_sample import python_hello

NUMBER = 7
GOOD, SITE, KNOWN = "good.example", "site.example", "ghcr.io"
ADDRESSES = [first_connection.server_address(kind, NUMBER) for kind in SERVERS]
PORTS = (80, 443)
POLICY = policy(
    f'host = "{GOOD}"', containers=REGISTRIES, host=OFF, more=f'[dns]\nservers = ["{DNS}"]\n'
)
CONTAINER, CONTAINER6 = "172.17.0.2", "2001:db8:17::2"
BRIDGE, BRIDGE6 = "172.17.0.1", "2001:db8:17::1"
HEARD = b"taken"
FORBIDDEN = "HTTP/1.1 403"
ALERT = "alert access_denied"
ACCESS_DENIED = bytes.fromhex("15 0303 0002 02 31")
"""As a TLS record (RFC 8446, section 6)."""
MYSELF = (sys.executable, "-m", "tests.kernel.first_bytes")
PATIENCE = 3.0


def _hello(name: str) -> bytes:
    return python_hello(name, [], ssl.TLSVersion.TLSv1_3)


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {SITE}\r\n\r\n".encode()


def _in_ten(data: bytes) -> list[bytes]:
    size = -(-len(data) // 10)
    return [data[at : at + size] for at in range(0, len(data), size)]


SHOWN: dict[str, tuple[int, list[bytes]]] = {
    "permitted": (443, [_hello(GOOD)]),
    "permitted, in ten segments": (443, _in_ten(_hello(GOOD))),
    "another": (443, [_hello(SITE)]),
    "another, in ten segments": (443, _in_ten(_hello(SITE))),
    "a known registry": (443, [_hello(KNOWN)]),
    "a site's page": (80, [_get("/")]),
    "the API of registries": (80, [_get("/v2/")]),
}
"""Port, and what is sent at once."""


def serve() -> None:
    """Tell each connection that its first bytes were taken, once as many came as a hello has."""
    for port in PORTS:
        server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.bind((DNS, 53))
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        while True:
            query, client = asked.recvfrom(512)
            asked.sendto(first_connection.answer(query, NUMBER), client)


def _accept(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_take, args=(connection,), daemon=True).start()


def _take(connection: socket.socket) -> None:
    with connection:
        begun = connection.recv(65536)
        # Of a hello all of its record: what is left unread at the end would reset the connection.
        while begun[:1] == b"\x16" and len(begun) < max(6, 5 + int.from_bytes(begun[3:5])):
            begun += connection.recv(65536)
        connection.sendall(HEARD)


def join_container(host: Namespace, network: Namespace) -> Namespace:
    """A container: a network behind the host's docker0."""
    container = host.space.namespace()
    host.space.link(host, container, "veth0")
    host.sh(
        f"""
        ip link add docker0 type bridge
        ip link set veth0 master docker0 up
        ip addr add {BRIDGE}/16 dev docker0
        ip addr add {BRIDGE6}/64 dev docker0 nodad
        ip link set docker0 up
        echo 1 > /proc/sys/net/ipv4/ip_forward
        echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
        """
    )
    container.sh(
        f"""
        ip link set uplink up
        ip addr add {CONTAINER}/16 dev uplink
        ip addr add {CONTAINER6}/64 dev uplink nodad
        ip route add default via {BRIDGE}
        ip route add default via {BRIDGE6}
        """
    )
    network.sh(
        f"""
        ip route add {CONTAINER}/32 via {HOST}
        ip route add {CONTAINER6}/128 via {HOST6}
        """
    )
    return container


def show(*whats: str) -> None:
    """Tell as JSON what each of these met, by either family."""
    json.dump({what: [_met(what, address) for address in ADDRESSES] for what in whats}, sys.stdout)


def _met(what: str, address: str) -> str:
    port, segments = SHOWN[what]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(PATIENCE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            client.connect((address, port))
            for segment in segments:
                client.sendall(segment)
            said = client.recv(1024)
        except OSError as error:
            return type(error).__name__
    return ALERT if said == ACCESS_DENIED else said[: len(FORBIDDEN)].decode("latin-1")


def play(made: World) -> dict[str, object]:
    """The story."""
    container = join_container(made.host, made.network)

    def shown(*whats: str) -> dict[str, object]:
        return {
            who: json.loads(where.run(*MYSELF, "show", *whats, cgroup=cgroup, check=True).output)
            for who, where, cgroup in (
                ("engine", made.host, ENGINE),
                ("container", container, "docker/container"),
            )
        }

    made.network.start(*MYSELF, "serve").wait_for("serving")
    daemon = made.start_ramfw(POLICY)
    status = made.status()
    story: dict[str, object] = {
        "checked": status["names"]["checked"],
        "form": status["watch"]["form"],
        "judged": shown(*SHOWN),
    }
    daemon.stop(signal.SIGKILL)
    return story | {"no daemon": shown("permitted", "another")}


def main() -> None:
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["show", *whats]:
            show(*whats)
        case _:
            with world() as made:
                json.dump(play(made), sys.stdout)


if __name__ == "__main__":
    main()
