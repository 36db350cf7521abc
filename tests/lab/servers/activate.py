"""Listens on a port as a service manager would, and becomes a command that is given the socket.

Arguments: the port or a path, and the command, which keeps this process's id (sd_listen_fds(3)).
"""

import os
import socket
import sys

FIRST = 3


def listen(where: str) -> socket.socket:
    if where.isdigit():
        return socket.create_server(
            ("", int(where)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
        )
    os.umask(0o177)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
    listener.listen(1024)
    return listener


def main() -> None:
    listener = listen(sys.argv[1])
    os.dup2(listener.fileno(), FIRST)
    os.set_inheritable(FIRST, True)  # noqa: FBT003 - the os module's own form
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - a program of the lab


if __name__ == "__main__":
    main()
