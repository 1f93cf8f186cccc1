"""Background tasks, and waiting for the first of several awaitables."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from bridge.errors import BridgeError
from bridge.logs import Fields

log = logging.getLogger(__name__)

T = TypeVar("T")


class BackgroundTasks:
    """Keeps tasks until they end, logs their failures, and cancels them together.

    Args:
        name: their purpose; a field of log lines.
        expected: exceptions that are not logged.
    """

    def __init__(self, name: str, expected: tuple[type[Exception], ...] = ()) -> None:
        self._name = Fields(task=name)
        self._expected = expected
        self._tasks: dict[asyncio.Task[Any], Fields | None] = {}
        """The fields of each for the log; None: the code that awaits it handles its failure."""

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T], about: Fields | None = None) -> asyncio.Task[T]:
        """Start a task.

        Args:
            work: the coroutine.
            about: fields of the log line of a failure, instead of the name of all.
        """
        return self._start(work, about or self._name)

    async def begin(self, work: Coroutine[Any, Any, object], about: Fields, within_s: float) -> None:
        """Start a task and wait briefly; an exception within this time is raised here instead of being logged."""
        task = self._start(work, None)
        try:
            await asyncio.wait({task}, timeout=within_s)
        finally:
            if not task.done():
                self._tasks[task] = about
        try:
            if task.done():
                task.result()
        finally:
            del task  # the traceback of what it raises refers to this frame

    async def stop(self, grace_s: float = 0.0) -> None:
        """Cancel all tasks and wait until they have ended.

        Args:
            grace_s: how long they, and tasks that they start, may continue before.
        """
        deadline = asyncio.get_running_loop().time() + grace_s
        while self._tasks and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(tuple(self._tasks), timeout=left_s)
        while tasks := tuple(self._tasks):
            for task in tasks:
                task.cancel()
            # Not gather: from Python 3.12 on it does not yield if all have ended, so `_ended` would never be called.
            await asyncio.wait(tasks)

    def _start(self, work: Coroutine[Any, Any, T], about: Fields | None) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks[task] = about
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        about = self._tasks.pop(task)
        error = None if task.cancelled() else task.exception()
        if about is None or error is None or isinstance(error, self._expected):
            return
        if isinstance(error, BridgeError):
            log.warning("background task failed %s error=%s", about, error)
        else:
            log.error("background task failed %s error=%s", about, error, exc_info=error)


class Changed:
    """Wakes up all waiters at the next change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake up all present waiters."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._event.wait()


async def shield_until_done(work: Awaitable[T]) -> T:
    """Await something that must not be canceled half-way: it completes even if its caller is canceled, repeatedly.

    The caller gets its CancelledError afterwards.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):  # repeatedly
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # retrieved: nothing else awaits it
        raise
    finally:
        del task  # the traceback of what it raises refers to this frame


async def first_of(*waits: Awaitable[object], timeout_s: float | None = None) -> int | None:
    """Wait until one of several awaitables is done, and cancel the others.

    Futures and tasks are not canceled: they belong to the caller.

    Returns:
        The index of the first that is done; None: none was within ``timeout_s``.

    Raises:
        Exception: raised by the first one.
    """
    futures = [asyncio.ensure_future(each) for each in waits]
    mine = [future for future, given in zip(futures, waits, strict=True) if future is not given]
    try:
        done, _ = await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in mine:
            future.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
    try:
        for index, future in enumerate(futures):
            if future in done:
                future.result()
                return index
        return None
    finally:
        del waits, futures, mine, done, future  # the traceback of what they raise refers to this frame
