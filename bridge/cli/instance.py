"""One instance at a time uses a state file; another one can stand by, and takes its calls over when it has ended."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from bridge.config.streams import NOT_KEPT
from bridge.errors import BridgeError, ConfigError

log = logging.getLogger("bridge.cli")

STOPPING_S = 10.0
"""How long a start waits for the previous instance, which may still be stopping."""
LOOK_S = 0.05


class InstanceRunning(BridgeError):
    """Another process uses the state file."""


@contextlib.contextmanager
def only_instance(state_file: str, *, standby: bool) -> Iterator[int | None]:
    """Hold a lock that the kernel releases when the process has ended, however it ends.

    Args:
        state_file: ``streams.state_file``; the lock is a file beside it.
        standby: wait until the instance that holds the lock has ended, instead of for `STOPPING_S` only.

    Yields:
        The descriptor of the lock, for child processes that use the state file too; None: there is no lock.

    Raises:
        InstanceRunning: another instance keeps the lock.
        ConfigError: there is nothing to stand by for.
    """
    descriptor = _open(state_file, standby=standby)
    if descriptor is None:
        yield None
        return
    try:
        locked = _acquire(descriptor, state_file, standby=standby)
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the number in it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor if locked else None
    finally:
        os.close(descriptor)


def _open(state_file: str, *, standby: bool) -> int | None:
    if state_file in NOT_KEPT:
        if standby:
            raise ConfigError("streams.state_file", "--standby requires a file: it stores the calls to be taken over")
        return None
    path = Path(f"{state_file}.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        if standby:
            raise ConfigError("streams.state_file", f"{path} cannot be opened: {problem.strerror}") from None
        return None  # nothing can be kept there either, which the journal reports


def _acquire(descriptor: int, state_file: str, *, standby: bool) -> bool:
    """Lock the file, after the instance that holds it has ended; return False if its file system has no locks."""
    try:
        if not _try(descriptor):
            with _ended_by_sigterm():
                _wait(descriptor, state_file, standby=standby)
    except OSError as problem:
        if standby:
            raise ConfigError("streams.state_file", f"{state_file}.lock cannot be locked: {problem.strerror}") from None
        log.warning(
            "state file not locked, a second instance would not be rejected path=%s error=%s", state_file, problem
        )
        return False
    return True


def _wait(descriptor: int, state_file: str, *, standby: bool) -> None:
    pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
    if standby:
        log.info("standing by to take over calls when the active instance ends pid=%s path=%s", pid, state_file)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # there is nothing to reload yet
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        signal.signal(signal.SIGHUP, before)
        log.info("active instance has ended, taking over its calls pid=%s", pid)
        return
    log.warning("waiting for another instance with the same state file to end pid=%s path=%s", pid, state_file)
    deadline = time.monotonic() + STOPPING_S
    while time.monotonic() < deadline:
        if _try(descriptor):
            return
        time.sleep(LOOK_S)
    raise InstanceRunning(
        f"streams.state_file: {state_file} is in use by pid {pid}; stop that instance, set another file, or start with"
        " --standby to take its calls over when it ends"
    )


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """End the process at SIGTERM, which the kernel ignores for a container's first process without a handler."""

    def end(*_: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
