"""Programs that run in the background, each known by a file with its pid: found again and ended by any process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)


class BackgroundProgram:
    """One background program.

    Args:
        name: names its files.
        run: folder of the file ``NAME.pid``.
        log: file that its output is appended to.
    """

    def __init__(self, name: str, run: Path, log: Path) -> None:
        self.name = name
        self.log = log
        self._pid_file = run / f"{name}.pid"
        self._child: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str],
        *,
        outlive_us: bool,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start the program.

        Args:
            command: the command line.
            outlive_us: whether it continues when this process ends; otherwise the kernel ends it too.
            environ: its environment; None: this process's.
            folder: its working directory; None: this process's.
        """
        libc = ctypes.CDLL(None)

        def die_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C at a terminal is for us; we end it in order
                preexec_fn=None if outlive_us else die_with_parent,  # noqa: PLW1509  # one system call, no lock
                env=None if environ is None else dict(environ),
                cwd=folder,
            )
        pid = self._child.pid
        self._pid_file.write_text(f"{pid} {_started_at(pid)}\n")

    @property
    def pid(self) -> int | None:
        """The process's id while it runs, else None; never that of another program that got the same id."""
        try:
            pid_text, started_at = self._pid_file.read_text().split()
        except (OSError, ValueError):
            return None
        pid = int(pid_text)
        if self._child is not None and self._child.pid == pid and self._child.poll() is not None:
            return None
        return pid if _started_at(pid) == started_at else None

    async def stop(self, *, at_once: bool = False, patience_s: float = 5.0) -> None:
        """End the program: SIGTERM, and SIGKILL after ``patience_s``; with ``at_once`` only SIGKILL."""
        signals = [signal.SIGKILL] if at_once else [signal.SIGTERM, signal.SIGKILL]
        for number in signals:
            pid = self.pid
            if pid is None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            for _ in range(int(patience_s / 0.02)):
                if self.pid is None:
                    break
                await asyncio.sleep(0.02)
        if self._child is not None:
            self._child.poll()  # it may have ended without having been waited for
        self._pid_file.unlink(missing_ok=True)

    def last_lines(self, count: int = 12) -> str:
        """Return the end of the log, for error messages."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except OSError:
            return ""


def _started_at(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if it is gone or a zombie (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
