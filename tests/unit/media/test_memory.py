"""What a process keeps of the memory that large messages and reads took."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

LARGE = 16 << 20
MESSAGES = f"""
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
READS = 10_000
READING = f"""
import random, socket
from asyncio.selector_events import _SelectorTransport
from pathlib import Path
from bridge.media.memory import return_large_blocks

def heap():
    line = next(line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[heap]"))
    begin, end = (int(address, 16) for address in line.split()[0].split("-"))
    return end - begin

assert return_large_blocks()
chance = random.Random(1)
ours, theirs = socket.socketpair()
kept = [b""] * 400
before = heap()
for _ in range({READS}):
    theirs.send(bytes(chance.choice((100, 700, 3000))))
    read = ours.recv(_SelectorTransport.max_size)
    kept[chance.randrange(400)] = bytes(chance.choice((600, 1500, 5000, 20000)))
    if chance.random() < 0.3:
        kept[chance.randrange(400)] = read
print(heap() - before)
"""
READING_KEEPS = 4 << 20
"""About half of it is in ``kept``; with the reads in the heap, there are 6 to 9 MB."""


def kept_bytes(program: str, what: str = "") -> int:
    done = subprocess.run([sys.executable, "-c", program, what], check=True, capture_output=True, text=True, timeout=30)
    return int(done.stdout)


pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def test_large_blocks_go_back_to_the_system() -> None:
    assert kept_bytes(MESSAGES, "not set") > LARGE // 2  # or there is nothing to set
    assert kept_bytes(MESSAGES, "set") < LARGE // 8


def test_what_remains_of_reads_does_not_split_the_heap() -> None:
    assert kept_bytes(READING) < READING_KEEPS
