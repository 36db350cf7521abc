"""The policies of the lab's tests, and how one is put together."""

from __future__ import annotations

DOCKER_IO = 'registry = "docker.io"'
GHCR_IO = 'registry = "ghcr.io"'
NEXUS = 'host = "nexus.corp.example"\nports = [8443]'


def policy(*allowed: str, more: str = "") -> str:
    """A policy that permits these, each given as the lines of its `[[allow]]` table."""
    organization = '[organization]\nname = "Example Corp"\n'
    tables = [f"[[allow]]\n{lines}\n" for lines in allowed]
    return "\n".join(["version = 1\n", organization, *tables, more])


HUB_ONLY = policy(DOCKER_IO)
HUB_AND_GHCR = policy(DOCKER_IO, GHCR_IO)
GHCR_ONLY = policy(GHCR_IO)
NEXUS_ONLY = policy(NEXUS)
