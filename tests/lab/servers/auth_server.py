"""The token server of a registry: answers GET /token with a JWT that grants what was asked.

The Docker Registry token specification; RS256 signatures made by openssl, so that the machine
needs no other library. Arguments: port, certificate and key of the server, and the certificate
and RSA key that sign.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET6
from urllib.parse import parse_qs, urlsplit

ISSUER = "auth.docker.io"
LIFETIME = 300


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(service: str, scopes: list[str], certificate: Path, key: Path) -> str:
    """A signed JWT for scopes such as `repository:library/app:pull,push`."""
    body = "".join(line for line in certificate.read_text().splitlines() if "-----" not in line)
    header = {"typ": "JWT", "alg": "RS256", "x5c": [body]}
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": "",
        "aud": service,
        "exp": now + LIFETIME,
        "nbf": now - 60,
        "iat": now,
        "jti": secrets.token_hex(8),
        "access": [
            dict(zip(("type", "name", "actions"), (kind, name, actions.split(",")), strict=True))
            for kind, name, actions in (scope.split(":") for scope in scopes)
        ],
    }
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    signature = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(key)],
        input=signed.encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return f"{signed}.{base64url(signature)}"


class Handler(BaseHTTPRequestHandler):
    signer: tuple[Path, Path]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = parse_qs(url.query)
        if url.path != "/token":
            self.send_error(404)
            return
        granted = token(asked.get("service", [""])[0], asked.get("scope", []), *self.signer)
        body = json.dumps({"token": granted, "expires_in": LIFETIME}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    address_family = AF_INET6


def main() -> None:
    port, certificate, key, signing_certificate, signing_key = sys.argv[1:]
    Handler.signer = (Path(signing_certificate), Path(signing_key))
    server = Server(("::", int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    print("listening", flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
