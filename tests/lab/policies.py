"""The policies of the lab's tests, and how one is put together."""

from __future__ import annotations

DOCKER_IO = 'registry = "docker.io"'
GHCR_IO = 'registry = "ghcr.io"'
NEXUS = 'host = "nexus.corp.example"\nports = [8443]'


STRICT = 'mode = "strict"'
OFF = 'mode = "off"'
REGISTRIES = 'mode = "registries"'


def policy(*allowed: str, more: str = "", containers: str = STRICT, host: str = OFF) -> str:
    """A policy that permits these, each given as the lines of its `[[allow]]` table.

    `containers` and `host` are the lines of the tables of these scopes.
    """
    organization = '[organization]\nname = "Example Corp"\n'
    tables = [f"[[allow]]\n{lines}\n" for lines in allowed]
    scopes = f"[scopes.containers]\n{containers}\n\n[scopes.host]\n{host}\n"
    return "\n".join(["version = 1\n", organization, *tables, scopes, more])


HUB_ONLY = policy(DOCKER_IO)
HUB_AND_GHCR = policy(DOCKER_IO, GHCR_IO)
GHCR_ONLY = policy(GHCR_IO)
NEXUS_ONLY = policy(NEXUS)
