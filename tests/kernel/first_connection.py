"""Runs the real daemon between a client and servers, and tells as JSON what the client met.

Arguments: nothing for the whole story, which is played in network namespaces of its own: a host
with ramfw and a client in the engine's cgroup, and a network with a DNS server that has a new
address for each name and a server on all of them. `serve` and `connect` are its two sides.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from collections import Counter
from ipaddress import ip_address

import dns.message
import dns.query
import dns.rrset

from tests.kernel.world import DNS, ENGINE, SERVERS, World, world
from tests.lab.policies import policy

MYSELF = (sys.executable, "-m", "tests.kernel.first_connection")
PORT = 443
ROUNDS = 40
PATIENCE = 10.0
POLICY = policy('host = "*.cdn.example"', more=f'[dns]\nservers = ["{DNS}"]\n')


def server_address(kind: str, number: int) -> str:
    base = SERVERS[kind].partition("/")[0]
    return str(ip_address(int(ip_address(base)) + number))


def serve() -> None:
    """Answer DNS questions: `7.cdn.example` has the address number 7. Accept all connections."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked,
        socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True) as server,
        selectors.DefaultSelector() as selector,
    ):
        asked.bind((DNS, 53))
        for listener in (asked, server):
            selector.register(listener, selectors.EVENT_READ)
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        while True:
            for ready, _ in selector.select():
                if ready.fileobj is server:
                    server.accept()[0].close()
                    continue
                query, client = asked.recvfrom(512)
                asked.sendto(answer(query), client)


def answer(query: bytes, number: int | None = None) -> bytes:
    """The address with this number, or with the one that is the name's first label."""
    message = dns.message.make_response(dns.message.from_wire(query))
    (question,) = message.question
    kind = dns.rdatatype.to_text(question.rdtype)
    address = server_address(kind, number or int(question.name.labels[0]))
    message.answer.append(dns.rrset.from_text(question.name, 300, "IN", kind, address))
    return message.to_wire()


def connect() -> None:
    """Tell how often what became of the first connection, by what was done before it."""
    met: dict[str, Counter[str]] = {"nothing": Counter(), "other": Counter(), "cdn": Counter()}
    for kind in SERVERS:
        met["nothing"][attempt(server_address(kind, 250))] += 1
        for number in range(1, ROUNDS + 1):
            domain = "other" if number == ROUNDS else "cdn"
            asked = dns.message.make_query(f"{number}.{domain}.example", kind)
            told = dns.query.udp(asked, DNS, timeout=PATIENCE)
            met[domain][attempt(told.answer[0][0].to_text())] += 1
    json.dump(met, sys.stdout)


def attempt(address: str) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect((address, PORT))
        except OSError as error:
            return type(error).__name__
    return "connected"


def start_serving(made: World) -> None:
    """Start the servers of the network."""
    made.network.start(*MYSELF, "serve").wait_for("serving")


def play(made: World) -> dict[str, object]:
    """The story; what the client met, and how the daemon says that it watches."""
    start_serving(made)
    daemon = made.start_ramfw(POLICY)
    met = made.host.run(*MYSELF, "connect", cgroup=ENGINE, timeout=120, check=True).output
    status = made.status()
    daemon.stop()
    return {"met": json.loads(met), "watch": status["watch"], "kernel": status["kernel"]}


def main() -> None:
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["connect"]:
            connect()
        case _:
            with world() as made:
                json.dump(play(made), sys.stdout)


if __name__ == "__main__":
    main()
