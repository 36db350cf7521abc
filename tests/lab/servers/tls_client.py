"""A client that shakes hands in TLS, waits for SIGUSR1, and then asks for `/v2/`.

Arguments: an address, and the name to ask there for. Prints `shaken hands`, and the first line of
the answer.
"""

from __future__ import annotations

import signal
import socket
import ssl
import sys


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    address, name = sys.argv[1:]
    context = ssl.create_default_context()
    # Whose the server is does not matter here: the container trusts nobody.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, 443), 10) as plain:
        stream = context.wrap_socket(plain, server_hostname=name)
        print("shaken hands", flush=True)  # noqa: T201
        signal.sigwait({signal.SIGUSR1})
        stream.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        print(stream.recv(4096).decode().partition("\r\n")[0], flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
