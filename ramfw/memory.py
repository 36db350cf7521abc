"""Keeps the C library from holding on to memory that was freed.

A large block that is freed once makes glibc take the next ones, up to 32 MiB each, from its heap,
where they leave holes; and each thread has a heap of its own. With fixed bounds large blocks go
back to the kernel at once (mallopt(3)).
"""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
_LARGE = 1 << 17


def bound() -> None:
    """Fix malloc's bounds for this process; nothing where the C library has no mallopt."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_ARENA_MAX, 1)
