"""An event loop whose clock jumps to its next timer instead of waiting for it.

All asynchronous tests of tests/unit run on it (tests/unit/conftest.py): seconds cost nothing, and a busy machine
changes no result. What needs a real clock, a process or a thread of its own belongs in tests/loopback.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SETTLED_S = 0.002
"""Real time that data on loopback sockets gets to arrive before the clock jumps."""
TURN_S = 0.0001
"""How far the clock moves in each turn of a loop that has sockets: polling them must not stop it."""
HANGS_S = 20.0
"""Real time after which a test that waits for something other than a timer counts as hanging."""

_real_monotonic, _real_time = time.monotonic, time.time


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now
        self.in_threads = 0
        """Calls that executors are working on: the clock stands still meanwhile."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        has_sockets = len(self.get_map()) > 1  # one is the loop's own
        if has_sockets:
            self.now += TURN_S
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if timeout is None or self.in_threads:
            ready = super().select(HANGS_S)
            if not ready:
                raise AssertionError("no timer is set, and nothing arrives: the test would hang")
            return ready
        ready = super().select(SETTLED_S if has_sockets else 0)
        if not ready:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Runs timers in order, each as soon as nothing else is left to do; ``time()`` is the time of the last one.

    Args:
        now: where its clock begins, in seconds; by default at the real clock's time.
    """

    def __init__(self, now: float | None = None) -> None:
        self._jumping = _JumpingSelector(_real_monotonic() if now is None else now)
        self._epoch = _real_time() - self._jumping.now
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def wall_time(self) -> float:
        """Return the virtual time as seconds since 1970."""
        return self._epoch + self._jumping.now

    def advance(self, seconds: float) -> None:
        """Let the clock jump while the loop runs nothing, as if a callback had blocked it."""
        self._jumping.now += seconds

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 (the parameter of asyncio)
        """Wait for the threads without a limit: one of virtual time would pass before they can end."""
        await super().shutdown_default_executor()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        def done(_: object) -> None:
            self._jumping.in_threads -= 1

        self._jumping.in_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(done)
        return future


def install() -> None:
    """Have ``time.monotonic`` and ``time.time`` follow the virtual clock in whatever runs on a virtual loop.

    Everything else, other threads included, keeps the real clocks. Call it before the code under test is imported:
    clocks that are default arguments are looked up then.
    """
    time.monotonic, time.time = _monotonic, _time


def _monotonic() -> float:
    loop = _virtual_loop()
    return loop.time() if loop is not None else _real_monotonic()


def _time() -> float:
    loop = _virtual_loop()
    return loop.wall_time() if loop is not None else _real_time()


def _virtual_loop() -> VirtualTimeLoop | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop if isinstance(loop, VirtualTimeLoop) else None


def run_virtually(act: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own whose clock begins at 0; no task may be left."""
    loop = VirtualTimeLoop(0.0)
    try:
        return loop.run_until_complete(act)
    finally:
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        loop.close()
        assert not left, left


def now() -> float:
    """Return the running loop's time, to the millisecond."""
    return round(asyncio.get_running_loop().time(), 3)


def wall_now() -> float:
    """Return the running loop's time as seconds since 1970."""
    return _time()


async def pass_time(seconds: float) -> None:
    """Advance virtual time, and run everything that is due meanwhile."""
    assert _virtual_loop() is not None, "real time would pass"
    await asyncio.sleep(seconds)


def block(seconds: float) -> None:
    """Advance virtual time as if the caller blocked the event loop."""
    loop = _virtual_loop()
    assert loop is not None, "real time would pass"
    loop.advance(seconds)


async def settle(turns: int = 60) -> None:
    """Let everything run that can run without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until a condition holds; virtual time passes, in steps of 1 ms."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await pass_time(0.001)
