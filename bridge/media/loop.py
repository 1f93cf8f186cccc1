"""The event loop: asyncio's own, with a shorter path for the sockets that carry frames.

For every readable socket asyncio creates a handle, queues it, and runs it in a context: 2 us each, as much as the whole
frame path. Sockets watched with the loop's public ``add_reader`` (aiofastnet's transports) are called directly from the
selector instead. Everything else works as usual.

Where calls' frames arrive one by one, waking up costs more than handling them. So after a wake-up the selector pauses
briefly before it polls again, and handles everything that arrived meanwhile together.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVarTuple, Unpack, cast

from bridge.outbound.gate import address_info
from bridge.outbound.resolver import NAMES

LoopCallback = Callable[[], object]
Args = TypeVarTuple("Args")


class HasFileno(Protocol):
    """An object with a file descriptor."""

    def fileno(self) -> int:
        """Return the file descriptor."""


Fd = int | HasFileno


MANY = 0.9
"""Average wake-ups per pause length above which coalescing begins: frames arrive one by one, as those of 20 calls."""
FEW = 0.5
"""Average wake-ups per pause length below which it ends: frames arrive together anyway, or hardly any arrive.

With coalescing, random arrivals that would cause N wake-ups per pause length cause 1 / (1 + exp(-N) / N): 0.69 for 0.9.
The limits are close: nearly every load has one outcome, whatever the load was before.
"""
JUDGED_S = 0.5
"""How long the load is measured before a decision, in seconds."""

AT_ONCE = 48
"""Sockets served before timers get their turn: half a millisecond; a longer burst would delay the tick."""

_READ = select.EPOLLIN
_WRITE = select.EPOLLOUT


class Coalescing:
    """Decides about pauses. Pure: the clock is an argument, in seconds.

    Where frames arrive together by themselves, a pause would only delay them, and wake the application for each. A
    process that is busy for longer than a pause never pauses.

    Args:
        moment_s: minimum time between wake-ups while pausing, in seconds; 0: never pause.
    """

    def __init__(self, moment_s: float) -> None:
        self.on = False
        self._moment_s = moment_s
        self._woke = 0.0
        self._judged = 0.0  # when the load was judged last
        self._wakes = 0  # since then

    def pause(self, now: float) -> float:
        """Return how long to pause before polling the sockets, in seconds; called when nothing else is due."""
        if not self._moment_s:
            return 0.0
        if now - self._judged >= JUDGED_S:
            self._judge(now)
        return max(self._woke + self._moment_s - now, 0.0) if self.on else 0.0

    def woke(self, now: float) -> None:
        """Count a wake-up by a socket or a timer."""
        self._wakes += 1
        self._woke = now

    def _judge(self, now: float) -> None:
        seconds = now - self._judged
        self.on = self._wakes * self._moment_s / seconds >= (FEW if self.on else MANY)
        self._judged = now
        self._wakes = 0


class _KeysByFile(Mapping[Any, selectors.SelectorKey]):
    """The keys, by an object or its descriptor; asyncio looks them up from Python 3.12 on."""

    def __init__(self, keys: dict[int, selectors.SelectorKey]) -> None:
        self._keys = keys

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[_fd_of(fileobj)]

    def __iter__(self) -> Iterator[Any]:
        return (key.fileobj for key in self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)


class FrameSelector(selectors.BaseSelector):
    """epoll with two kinds of members: those that asyncio registers, and those called directly.

    Args:
        coalescing: decides about pauses before polling.
    """

    def __init__(self, coalescing: Coalescing) -> None:
        self._coalescing = coalescing
        self._more = False
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._map = _KeysByFile(self._keys)
        self._readers: dict[int, LoopCallback] = {}
        self._writers: dict[int, LoopCallback] = {}
        self._held: set[int] = set()
        self.idle_s = 0.0
        """Idle time since the start, in seconds."""
        self.on_error: Callable[[BaseException], None] = lambda _: None
        """Called with an exception of a callback."""

    # Sockets that are called directly

    def watch(self, fd: int, *, reader: LoopCallback | None = None, writer: LoopCallback | None = None) -> None:
        """Call ``reader`` when ``fd`` is readable, ``writer`` when it is writable; None leaves a callback unchanged."""
        before = self._direct_events(fd)
        if reader is not None:
            self._readers[fd] = reader
        if writer is not None:
            self._writers[fd] = writer
        self._update(fd, before)

    def unwatch(self, fd: int, *, reader: bool = False, writer: bool = False) -> bool:
        """Remove one callback, or both; return False if there was none."""
        before = self._direct_events(fd)
        if reader:
            self._readers.pop(fd, None)
        if writer:
            self._writers.pop(fd, None)
        self._update(fd, before)
        return self._direct_events(fd) != before

    def watches(self, fd: int) -> bool:
        """Return whether ``fd`` is called directly."""
        return fd in self._readers or fd in self._writers

    def _direct_events(self, fd: int) -> int:
        return (_READ if fd in self._readers else 0) | (_WRITE if fd in self._writers else 0)

    def _update(self, fd: int, before: int) -> None:
        now = self._direct_events(fd)
        if now == before:
            return
        if not before:
            self._epoll.register(fd, now)
        elif now:
            self._epoll.modify(fd, now)
        else:
            with contextlib.suppress(OSError):  # closed already
                self._epoll.unregister(fd)

    def _poll(self, wait_s: float) -> list[tuple[int, int]]:
        try:
            return self._epoll.poll(wait_s, AT_ONCE)
        except InterruptedError:
            return []

    def _wait(self, timeout: float | None) -> list[tuple[int, int]]:
        if timeout is not None and timeout <= 0:
            return self._poll(0.0)
        before = time.monotonic()
        pause_s = self._coalescing.pause(before)
        if timeout is not None and timeout <= pause_s:
            time.sleep(timeout)
            events = self._poll(0.0)
        else:
            if pause_s:
                time.sleep(pause_s)
            events = self._poll(-1.0 if timeout is None else math.ceil(timeout * 1e3) * 1e-3)
        now = time.monotonic()
        self.idle_s += now - before
        self._coalescing.woke(now)
        return events

    def _run(self, callback: LoopCallback) -> None:
        try:
            callback()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.on_error(error)

    # Sockets on hold

    def hold(self, fd: int) -> None:
        """Report nothing of a registered socket until `release`; otherwise waiting data would be reported endlessly."""
        if fd in self._keys and fd not in self._held:
            self._held.add(fd)
            self._epoll.unregister(fd)

    def release(self, fd: int) -> bool:
        """Report events of a socket again; return False if it was not on hold, or has been closed."""
        if fd not in self._held:
            return False
        self._held.discard(fd)
        self._epoll.register(fd, _mask_of(self._keys[fd].events))
        return True

    # Methods that asyncio calls

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Call the callbacks of ready sockets that are called directly; return the other ready sockets."""
        events = self._poll(0.0) if self._more else []
        if not events:
            events = self._wait(timeout)
        self._more = len(events) == AT_ONCE
        ready: list[tuple[selectors.SelectorKey, int]] = []
        readers = self._readers
        keys = self._keys
        for fd, event in events:
            if event == _READ and (reader := readers.get(fd)) is not None:
                try:  # _run inlined: a call costs as much as a part of the frame path
                    reader()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self.on_error(error)
            elif (key := keys.get(fd)) is not None:
                readable = selectors.EVENT_READ if event & ~_WRITE else 0
                writable = selectors.EVENT_WRITE if event & ~_READ else 0
                ready.append((key, (readable | writable) & key.events))
            else:  # writable, or an error or a hang-up, of which both are notified
                for mask, callbacks in ((~_WRITE, readers), (~_READ, self._writers)):
                    if event & mask and (callback := callbacks.get(fd)) is not None:
                        self._run(callback)
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Register a file, as any selector."""
        fd = _fd_of(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} is registered already")
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        self._epoll.register(fd, _mask_of(events))
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Unregister a file, as any selector."""
        key = self._keys.pop(_fd_of(fileobj))
        self._held.discard(key.fd)
        with contextlib.suppress(OSError):  # closed already
            self._epoll.unregister(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Change the events of a file, as any selector."""
        fd = _fd_of(fileobj)
        before = self._keys[fd]
        key = self._keys[fd] = selectors.SelectorKey(before.fileobj, fd, events, data)
        if events != before.events and fd not in self._held:
            self._epoll.modify(fd, _mask_of(events))
        return key

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """Return the key of a file."""
        return self._keys[_fd_of(fileobj)]

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return the keys by file."""
        return self._map

    def close(self) -> None:
        """Close the selector."""
        self._epoll.close()
        self._keys.clear()
        self._readers.clear()
        self._writers.clear()


class FrameLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on a ``FrameSelector``. Readers and writers without arguments are called directly from it.

    Args:
        coalesce_ms: minimum time between wake-ups in milliseconds, where frames arrive one by one.
    """

    def __init__(self, coalesce_ms: float = 0.0) -> None:
        self._frames = FrameSelector(Coalescing(coalesce_ms / 1000))
        super().__init__(self._frames)
        self._frames.on_error = self._report

    @property
    def idle_s(self) -> float:
        """Idle time in seconds since the start."""
        return self._frames.idle_s

    def add_reader(self, fd: Fd, callback: Callable[[Unpack[Args]], Any], *args: *Args) -> None:
        """Watch a socket for reading; call callbacks without arguments directly."""
        if args or not isinstance(fd, int):
            super().add_reader(fd, callback, *args)
        else:
            self._frames.watch(fd, reader=cast(LoopCallback, callback))

    def remove_reader(self, fd: Fd) -> bool:
        """Stop watching a socket for reading."""
        if isinstance(fd, int) and self._frames.watches(fd):
            return self._frames.unwatch(fd, reader=True)
        return super().remove_reader(fd)

    def add_writer(self, fd: Fd, callback: Callable[[Unpack[Args]], Any], *args: *Args) -> None:
        """Watch a socket for writing; call callbacks without arguments directly."""
        if args or not isinstance(fd, int):
            super().add_writer(fd, callback, *args)
        else:
            self._frames.watch(fd, writer=cast(LoopCallback, callback))

    def remove_writer(self, fd: Fd) -> bool:
        """Stop watching a socket for writing."""
        if isinstance(fd, int) and self._frames.watches(fd):
            return self._frames.unwatch(fd, writer=True)
        return super().remove_writer(fd)

    def hold(self, fd: int) -> None:
        """Stop calling the reader of a server's or a TLS connection's socket, until `release`."""
        self._frames.hold(fd)

    def release(self, fd: int) -> bool:
        """Call the reader again; return False if the socket was not on hold, or has been closed."""
        return self._frames.release(fd)

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Resolve a name in the threads for that purpose, for libraries that connect by themselves."""
        ordinary = type in (0, socket.SOCK_STREAM) and not flags & ~socket.AI_ADDRCONFIG
        if not (ordinary and isinstance(host, str) and isinstance(port, int)):
            return await super().getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
        found = [address_info(address, port) for address in await NAMES.addresses(host)]
        return [info for info in found if family in (socket.AF_UNSPEC, info[0])]

    def _report(self, error: BaseException) -> None:
        self.call_exception_handler({"message": "callback of a socket failed", "exception": error})


def _mask_of(events: int) -> int:
    return (_READ if events & selectors.EVENT_READ else 0) | (_WRITE if events & selectors.EVENT_WRITE else 0)


def _fd_of(fileobj: Fd) -> int:
    return fileobj if isinstance(fileobj, int) else fileobj.fileno()
