"""Writes the lines of the audit log in a thread of its own: no call waits for a disk.

Nothing is lost silently. Lines that cannot be written are kept and tried again; lines that do not fit into the queue
meanwhile are counted, and once writing works again a line reports how many are missing.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from bridge.errors import ConfigError

log = logging.getLogger(__name__)

MAX_QUEUED_LINES = 10_000
"""About 3 MB."""
RETRY_S = 1.0
SAY_AGAIN_S = 60.0
"""Interval between two log lines about the same problem."""
STOP_S = 2.0
"""How long writing queued lines may take at a stop."""
MODE = 0o600


class Sink(Protocol):
    """A destination of lines. Used by one thread at a time."""

    def open(self) -> None:
        """Open the output.

        Raises:
            ConfigError: it cannot be used.
        """

    def write(self, lines: Iterator[bytes]) -> None:
        """Write lines.

        Raises:
            OSError: a line could not be written; the next iterator begins with it again.
        """

    def reopen(self) -> None:
        """Close a file that was moved away, and open a new one."""

    def close(self) -> None:
        """Close the output."""


class FileSink:
    """A file to which several processes append.

    Args:
        path: its path; it is created with the mode 0600.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._descriptor = -1

    def open(self) -> None:
        """See `Sink`."""
        try:
            self._descriptor = self._opened()
        except OSError as problem:
            raise ConfigError(
                "audit.output",
                f"{str(self._path)!r} cannot be written: {problem.strerror or problem}; expected a regular file in a"
                " directory that the bridge may write to",
            ) from None

    def write(self, lines: Iterator[bytes]) -> None:
        """See `Sink`."""
        if self._moved():
            self.reopen()
        # A full disk cuts a line in the middle. The lock makes it safe to remove the fragment, although other processes
        # append to the same file.
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            for line in lines:
                size = os.fstat(self._descriptor).st_size
                written = os.write(self._descriptor, line)
                if written != len(line):
                    os.ftruncate(self._descriptor, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def reopen(self) -> None:
        """Reopen the file, see `Sink`. While the new one cannot be opened, the moved one is written to."""
        try:
            fresh = self._opened()
        except OSError as problem:
            log.error("audit log not reopened, the moved file is still in use path=%s error=%s", self._path, problem)
            return
        self.close()
        self._descriptor = fresh

    def close(self) -> None:
        """See `Sink`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _moved(self) -> bool:
        """Return whether the file was moved or deleted, as logrotate does, also if no signal followed."""
        try:
            there, ours = os.stat(self._path), os.fstat(self._descriptor)
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _opened(self) -> int:
        # O_NONBLOCK: a named pipe without a reader must be an error, not a start that hangs.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, MODE)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                log.warning("audit log was readable by others, mode changed to 600 path=%s mode=%o", self._path, mode)
                os.fchmod(descriptor, MODE)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class StdoutSink:
    """Standard output, shared by all processes of the instance."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._written = 0
        """Bytes of the next line that are written already."""

    def open(self) -> None:
        """See `Sink`."""
        # If it was closed at the start, its descriptor belongs to the file that was opened next.
        if sys.stdout is None:
            raise ConfigError("audit.output", "standard output is closed; set a file, or disable the audit log")
        self._descriptor = os.dup(1)

    def write(self, lines: Iterator[bytes]) -> None:
        """See `Sink`."""
        for line in lines:
            while self._written < len(line):
                self._written += os.write(self._descriptor, line[self._written :])
            self._written = 0

    def reopen(self) -> None:
        """Do nothing: the reader of standard output rotates it."""

    def close(self) -> None:
        """See `Sink`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Writer:
    """A bounded queue of lines, and the thread that writes them.

    Args:
        sink: the destination.
        missing_line: returns the line that reports how many are missing since when (seconds since 1970).
    """

    def __init__(self, sink: Sink, missing_line: Callable[[int, float], bytes]) -> None:
        self.written = 0
        """Lines written since the start."""
        self.missing = 0
        """Lines that did not fit into the queue since the start."""
        self._sink = sink
        self._missing_line = missing_line
        self._queue: deque[bytes] = deque()
        self._next: bytes | None = None
        """The line that is being written."""
        self._lost = 0
        """Missing lines that no line has reported yet."""
        self._lost_since = 0.0
        self._stirred = threading.Condition()
        self._stopping = False
        self._reopen = False
        self._said_at = float("-inf")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start writing; earlier lines come first.

        Raises:
            ConfigError: the sink cannot be used.
        """
        self._sink.open()
        self._thread = threading.Thread(target=self._run, name="audit log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue a line; never blocks. If the queue is full, it is counted."""
        with self._stirred:
            # After a missing line, further ones wait until the line that reports it is in its place.
            if self._lost or len(self._queue) >= MAX_QUEUED_LINES:
                if not self._lost:
                    self._lost_since = time.time()
                    log.error("audit log queue full, dropping and counting further lines lines=%d", len(self._queue))
                self._lost += 1
                self.missing += 1
            else:
                self._queue.append(line)
                self._stirred.notify()

    def reopen(self) -> None:
        """Open the file again before the next line: it was moved away."""
        with self._stirred:
            self._reopen = True
            self._stirred.notify()

    def stop(self) -> None:
        """Write the queued lines, for at most `STOP_S`. Blocks."""
        with self._stirred:
            self._stopping = True
            self._stirred.notify()
        if self._thread is not None:
            self._thread.join(STOP_S)
        unwritten = len(self._queue) + self._lost + (self._next is not None)
        if unwritten:
            log.error("audit log incomplete, lines could not be written lines_missing=%d", unwritten)

    def _run(self) -> None:
        try:
            while True:
                with self._stirred:
                    self._stirred.wait_for(lambda: self._has_lines or self._stopping or self._reopen)
                    if self._stopping and not self._has_lines:
                        return
                    reopen, self._reopen = self._reopen, False
                try:
                    if reopen:
                        self._sink.reopen()
                    self._sink.write(self._lines())
                    self._said_at = float("-inf")
                except OSError as problem:
                    self._say(problem)
                    with self._stirred:
                        if self._stirred.wait_for(lambda: self._stopping or self._reopen, RETRY_S) and self._stopping:
                            return
        finally:
            self._sink.close()

    @property
    def _has_lines(self) -> bool:
        return self._next is not None or bool(self._queue) or self._lost > 0

    def _lines(self) -> Iterator[bytes]:
        """Yield the lines to write. A line stays the next one until another is requested: it has been written then."""
        while True:
            if self._next is None:
                self._next = self._take()
            if self._next is None:
                return
            yield self._next
            self._next = None
            self.written += 1

    def _take(self) -> bytes | None:
        with self._stirred:
            if self._queue:
                return self._queue.popleft()
            lost, self._lost = self._lost, 0
        if not lost:
            return None
        log.warning("audit log works again lines_missing=%d", lost)
        return self._missing_line(lost, self._lost_since)

    def _say(self, problem: OSError) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            log.error("writing the audit log failed, trying again error=%s queued=%d", problem, len(self._queue))
