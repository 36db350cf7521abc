"""Who lives where in the lab: documentation addresses only (RFC 5737, RFC 3849)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Site:
    """A name with one IPv4 and one IPv6 address."""

    name: str
    v4: str
    v6: str

    @property
    def addresses(self) -> tuple[str, str]:
        return (self.v4, self.v6)


def _site(name: str, number: int) -> Site:
    return Site(name, f"203.0.113.{number}", f"2001:db8:f::{number}")


SERVERS_V4 = "203.0.113.0/24"
SERVERS_V6 = "2001:db8:f::/64"

HUB = _site("registry-1.docker.io", 10)
HUB_AUTH = _site("auth.docker.io", 11)
HUB_BLOBS = _site("production.cloudfront.docker.com", 12)
HUB_SITES = (HUB, HUB_AUTH, HUB_BLOBS)
HUB_INDEX = _site("index.docker.io", 17)
"""The registry's name for clients that are made with go-containerregistry."""
HUB_OTHER_BLOBS = (
    _site("production.cloudflare.docker.com", 13),
    _site("docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com", 14),
    _site("docker-images-prod.s3.dualstack.us-east-1.amazonaws.com", 15),
    _site("docker-images-prod.s3.amazonaws.com", 16),
)
"""Hosts that Docker Hub names to other clients; here nobody is sent there."""

GHCR = _site("ghcr.io", 20)
"""The registry that no policy of the lab permits, unless a test says so."""

GHCR_V6_ONLY = Site("v6.ghcr.example", "", "2001:db8:f::20")
"""The same registry under a name that has no IPv4 address."""

NEXUS = _site("nexus.corp.example", 30)
CDN_GOOD = _site("good.cdn.example", 40)
CDN_BAD = Site("bad.cdn.example", CDN_GOOD.v4, CDN_GOOD.v6)
"""Two names on one address, as on any CDN."""

ECR_MINE = _site("123456789012.dkr.ecr.eu-west-1.amazonaws.com", 70)
ECR_THEIRS = _site("123456789013.dkr.ecr.eu-west-1.amazonaws.com", 71)
"""Two accounts of one cloud's registry: a label of the name tells them apart."""

PROXY = _site("proxy.corp.example", 50)
LOGS = _site("logs.corp.example", 60)
SITES = (
    *(*HUB_SITES, *HUB_OTHER_BLOBS, HUB_INDEX, GHCR, GHCR_V6_ONLY, NEXUS),
    *(CDN_GOOD, CDN_BAD, ECR_MINE, ECR_THEIRS, PROXY, LOGS),
)

HUB_MOVED = _site(HUB.name, 110)
HUB_AUTH_MOVED = _site(HUB_AUTH.name, 111)
HUB_BLOBS_MOVED = _site(HUB_BLOBS.name, 112)
HUB_SITES_MOVED = (HUB_MOVED, HUB_AUTH_MOVED, HUB_BLOBS_MOVED)
"""Where Docker Hub goes when it moves."""

DNS = Site("dns.corp.example", "198.51.100.53", "2001:db8:53::53")
ROUTER = Site("router.corp.example", "192.0.2.1", "2001:db8:1::1")
HOST = Site("host.corp.example", "192.0.2.2", "2001:db8:1::2")
CONTAINERS_V6 = "2001:db8:d::/64"
