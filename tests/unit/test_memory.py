"""malloc's bounds: asked for in a process of its own, because they last."""

from __future__ import annotations

import subprocess
import sys

USE = """
from ramfw import memory
memory.bound()
def resident():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS"))
first = bytearray(16 << 20)
del first
blocks = [bytearray(1 << 20) for _ in range(32)]
last = bytearray(1 << 20)
before = resident()
del blocks
print((before - resident()) // 1024)
"""


def test_large_blocks_go_back_to_the_kernel_whatever_was_freed_before() -> None:
    done = subprocess.run(
        [sys.executable, "-c", USE], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) >= 31
    kept = USE.replace("memory.bound()", "")
    done = subprocess.run(
        [sys.executable, "-c", kept], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) < 31, "the twin: by itself the C library keeps them"
