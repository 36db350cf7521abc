"""Which entry ids the ct marks of live flows hold, read from the kernel's conntrack table.

An id that a flow still carries must not be given to another entry: the flow would pass as that
entry's. So the ids are read before ids are given. Needs CAP_NET_ADMIN in the network namespace.
"""

from __future__ import annotations

import errno
import os
import socket

from ramfw.errors import ObserveError
from ramfw.wire import nfnetlink

_NETLINK_NETFILTER = 12
_BUFFER = 1 << 16
_TIMEOUT = 5.0
_TRIES = 5


class _IncompleteDumpError(Exception):
    """The table changed under the dump, or messages were lost: what was read is not all."""


def held_ids(mask: int) -> frozenset[int]:
    """All nonzero ids, now, in the ct marks of this network namespace's flows.

    An id is `mark & mask`, shifted down by the mask's lowest bit. Blocks: under half a second for
    100,000 flows. Raises ObserveError where the table cannot be read.
    """
    if not 0 < mask < 1 << 32:
        raise ValueError(f"a ct mark's mask has 1 to 32 bits, not {mask:#x}")
    shift = (mask & -mask).bit_length() - 1
    for _try in range(_TRIES):
        try:
            return frozenset((mark & mask) >> shift for mark in _marks() if mark & mask)
        except _IncompleteDumpError:
            continue
        except ValueError as error:
            raise _unreadable(f"the kernel's answer is malformed ({error})") from error
        except TimeoutError as error:
            raise _unreadable(f"the kernel did not answer in {_TIMEOUT:.0f} s") from error
        except OSError as error:
            raise _unreadable(_explain(error)) from error
    raise _unreadable(f"it changed under each of {_TRIES} readings; run `ramfw reload`")


def _marks() -> set[int]:
    """The distinct ct marks of one dump."""
    marks: set[int] = set()
    buffer = bytearray(_BUFFER)
    interrupted = False
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
        sock.settimeout(_TIMEOUT)
        sock.bind((0, 0))
        sock.send(nfnetlink.conntrack_dump_request(sequence=1))
        while True:
            try:
                size, _, flags, _ = sock.recvmsg_into([buffer])
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise _IncompleteDumpError from error
                raise
            if flags & socket.MSG_TRUNC:
                raise ValueError(f"a datagram of more than {_BUFFER} bytes")
            datagram = bytes(memoryview(buffer)[:size])
            for message in nfnetlink.messages(datagram):
                interrupted |= bool(message.flags & nfnetlink.NLM_F_DUMP_INTR)
                if nfnetlink.is_flow(message):
                    marks.add(nfnetlink.flow_mark(datagram, message))
                elif message.kind in {nfnetlink.NLMSG_DONE, nfnetlink.NLMSG_ERROR}:
                    number = nfnetlink.error_number(datagram, message)
                    if number:
                        raise OSError(number, os.strerror(number))
                    if interrupted:
                        raise _IncompleteDumpError
                    return marks


def _explain(error: OSError) -> str:
    """What the errno means here, and what mends it."""
    if error.errno in {errno.EPERM, errno.EACCES}:
        return "not permitted: run as root or with CAP_NET_ADMIN"
    if error.errno in {errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT}:
        return "the kernel has no conntrack netlink: run `modprobe nf_conntrack_netlink`"
    return error.strerror or str(error)


def _unreadable(reason: str) -> ObserveError:
    return ObserveError(
        f"cannot read the conntrack table: {reason}. Until it can be read, "
        "it is not known which entry ids live flows hold."
    )
