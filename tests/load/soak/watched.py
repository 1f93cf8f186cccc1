"""``asterisk-bridge`` with a probe, which reports figures of the inside of the process at a Unix socket.

``SOAK_PROBE`` is the path of the socket. Each connection receives one line of JSON. ``SOAK_FAULTS`` has the process
misbehave, to prove that the soak notices: ``leak=KB`` keeps this many KB more each second, and ``lose=N`` loses every
N-th frame that Asterisk sends on a media leg.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from bridge.__main__ import main
from bridge.media.leg import MediaLeg
from bridge.media.loop import FrameLoop

PROBE, FAULTS = "SOAK_PROBE", "SOAK_FAULTS"
ANSWER_S = 10.0
_loops: list[FrameLoop] = []


class _KnownLoop(FrameLoop):
    def __init__(self, coalesce_ms: float = 0.0) -> None:
        super().__init__(coalesce_ms)
        _loops.append(self)


def measure() -> dict[str, Any]:
    """Return the figures; on the loop's thread."""
    tasks = asyncio.all_tasks()
    return {
        "tasks": len(tasks),
        "names": sorted(task.get_name() for task in tasks),
        "timers": len(getattr(asyncio.get_running_loop(), "_scheduled", ())),
        "blocks": sys.getallocatedblocks(),
        "collections": [each["collections"] for each in gc.get_stats()],
    }


def serve_probe(path: str) -> None:
    """Answer connections indefinitely; in a thread of its own, asleep in between."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        while True:
            with server.accept()[0] as client:
                client.sendall(json.dumps(_on_loop(measure)).encode() + b"\n")


def _on_loop(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    done, found = threading.Event(), {}

    def run() -> None:
        found.update(work())
        done.set()

    if _loops:
        _loops[-1].call_soon_threadsafe(run)
        done.wait(ANSWER_S)
    return found


def leak(kb: int) -> None:
    """Keep memory, forever."""
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1024)) * kb)
        time.sleep(1)


def lose(every: int) -> None:
    """Lose frames from Asterisk: behind each leg's ``on_audio``."""
    original: Any = vars(MediaLeg)["on_audio"]

    def losing(callback: Callable[[bytes], None]) -> Callable[[bytes], None]:
        count = 0

        def take(pcm: bytes) -> None:
            nonlocal count
            count += 1
            if count % every:
                callback(pcm)

        return take

    def aim(leg: MediaLeg, callback: Callable[[bytes], None]) -> None:
        original.fset(leg, losing(callback))

    MediaLeg.on_audio = original.setter(aim)  # type: ignore[method-assign]


def misbehave(faults: str) -> None:
    """Begin with the faults of ``SOAK_FAULTS``."""
    for fault in filter(None, faults.split(",")):
        name, _, value = fault.partition("=")
        if name == "leak":
            threading.Thread(target=leak, args=(int(value),), daemon=True).start()
        elif name == "lose":
            lose(int(value))
        else:
            raise SystemExit(f"{FAULTS}: unknown fault {name!r}; known: leak=KB, lose=N")


if __name__ == "__main__":
    import bridge.cli.serve

    bridge.cli.serve.FrameLoop = _KnownLoop  # type: ignore[attr-defined]
    if path := os.environ.get(PROBE):
        threading.Thread(target=serve_probe, args=(path,), name="probe", daemon=True).start()
    misbehave(os.environ.get(FAULTS, ""))
    sys.exit(main())
