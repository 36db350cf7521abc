"""Fetches the last layer of an image, as an engine does: token, manifest, blob.

Argument: an image, as `registry.example/corp/app:1`. Prints `receiving` at the first bytes and
`received` at the end; says what went wrong, and fails, if the connection breaks.
"""

from __future__ import annotations

import json
import re
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PIECE = 16 * 1024
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def token(challenge: str) -> str:
    """The token that a `WWW-Authenticate: Bearer` header asks for."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    url = f"{asked['realm']}?service={asked['service']}&scope={asked['scope']}"
    with urlopen(url) as answer:  # noqa: S310
        return str(json.load(answer)["token"])


def main() -> None:
    host, repository, tag = re.fullmatch(r"([^/]+)/(.+):(.+)", sys.argv[1]).groups()  # type: ignore[union-attr]
    registry = f"https://{'registry-1.docker.io' if host == 'docker.io' else host}/v2/{repository}"
    headers = {"Accept": MANIFEST}
    try:
        manifest = urlopen(Request(f"{registry}/manifests/{tag}", headers=headers))  # noqa: S310
    except HTTPError as refused:
        headers["Authorization"] = f"Bearer {token(refused.headers['WWW-Authenticate'])}"
        manifest = urlopen(Request(f"{registry}/manifests/{tag}", headers=headers))  # noqa: S310
    layer = json.load(manifest)["layers"][-1]
    size = 0
    with urlopen(Request(f"{registry}/blobs/{layer['digest']}", headers=headers)) as blob:  # noqa: S310
        try:
            while piece := blob.read(PIECE):
                if not size:
                    print("receiving", flush=True)  # noqa: T201
                size += len(piece)
        except OSError as error:
            sys.exit(f"after {size} bytes: {error}")
    if size != layer["size"]:
        sys.exit(f"after {size} bytes of {layer['size']}: the connection ended")
    print(f"received {size}")  # noqa: T201


if __name__ == "__main__":
    main()
