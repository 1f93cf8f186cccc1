"""What a process keeps of the memory that large messages took."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

LARGE = 16 << 20
PROGRAM = f"""
import sys
from pathlib import Path
from bridge.media.memory import return_large_blocks

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "set":
    assert return_large_blocks()
before = resident()
for _ in range(3):
    message = b"x" * {LARGE}
    del message
print(resident() - before)
"""


def kept_bytes(what: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, what], check=True, capture_output=True, text=True, timeout=30)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_go_back_to_the_system() -> None:
    assert kept_bytes("not set") > LARGE // 2  # or there is nothing to set
    assert kept_bytes("set") < LARGE // 8
