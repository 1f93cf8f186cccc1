"""Measure what a frame in and a frame out cost on each event loop: the bridge's, asyncio's, uvloop if it is installed.

    python tests/load/loop_cost.py [--connections 100] [--seconds 3] [--rounds 3]

A child process echoes frames of 320 bytes on aiofastnet's transports, as media legs use them; this process sends 50 a
second on each connection: all together (aligned), or spread over the 20 ms. CPU time of the child is counted, so other
programs disturb little. The best round of each is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parents[2]))

import aiofastnet

from bridge.config import MediaConfig
from bridge.media.loop import FrameLoop

FRAME = bytes(320)
TICK_S = 0.02
SLICES = 20


def factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return what creates each loop, by name."""
    found: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "ours": lambda: FrameLoop(MediaConfig().coalesce_ms),
        "ours, no coalescing": FrameLoop,
        "asyncio": asyncio.SelectorEventLoop,
    }
    with contextlib.suppress(ImportError):
        import uvloop  # type: ignore[import-not-found,unused-ignore]

        found["uvloop"] = uvloop.new_event_loop
    return found


class Echo(asyncio.Protocol):
    """Sends what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self.write(data)


async def serve() -> None:
    """Print the port, and echo until standard input ends."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
    listening.setblocking(False)
    await aiofastnet.create_server(asyncio.get_running_loop(), Echo, sock=listening)
    print(listening.getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


def measure(name: str, *, spread: bool, connections: int, seconds: float) -> float:
    """Return the CPU time of one frame in and one out, in microseconds."""
    child = subprocess.Popen([sys.executable, __file__, "--serve", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    port = int(child.stdout.readline())
    open_sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    slices = [open_sockets[number::SLICES] for number in range(SLICES)] if spread else [open_sockets]
    pause_s = TICK_S / len(slices)

    def send(for_s: float) -> int:
        due, ends, sent = time.monotonic(), time.monotonic() + for_s, 0
        while due < ends:
            for group in slices:
                for each in group:
                    each.send(FRAME)
                    with contextlib.suppress(BlockingIOError):
                        each.recv(65536, socket.MSG_DONTWAIT)
                sent += len(group)
                due += pause_s
                time.sleep(max(0.0, due - time.monotonic()))
        return sent

    send(1.0)
    before = _cpu_s(child.pid)
    sent = send(seconds)
    used = _cpu_s(child.pid) - before
    for each in open_sockets:
        each.close()
    child.stdin.close()
    child.wait()
    return used / sent * 1e6


def _cpu_s(pid: int) -> float:
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def main() -> None:
    """Measure all loops in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        with asyncio.Runner(loop_factory=factories()[options.serve]) as runner:
            runner.run(serve())
        return
    best: dict[tuple[str, bool], float] = {}
    for _ in range(options.rounds):
        for name in factories():
            for spread in (False, True):
                cost = measure(name, spread=spread, connections=options.connections, seconds=options.seconds)
                best[name, spread] = min(cost, best.get((name, spread), cost))
    for name in factories():
        print(f"{name:20} aligned {best[name, False]:6.1f} us   spread {best[name, True]:6.1f} us")


if __name__ == "__main__":
    main()
