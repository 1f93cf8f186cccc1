"""Run one program on untrusted data: bytes in, bytes out, under resource limits, without processes left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Sequence

from msgspec import Struct

MAX_COMPLAINT_BYTES = 4096
NICE = 10
"""Added to the program's nice value: the audio of running calls has priority."""
INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""Environment variables that a program inherits; none of them holds a secret."""
_READ_BYTES = 1 << 16
_REAP_S = 2.0


class TooMuchOutput(Exception):
    """A program wrote more than its limit."""


class ProgramLimits(Struct, frozen=True):
    """Limits of a program (setrlimit(2)); core dumps are always disabled.

    Args:
        memory_bytes: address space of each of its processes.
        cpu_s: processor time of each of its processes, in seconds.
        file_bytes: largest file that it may write; 0: none.
        processes: the program may start processes and threads.
        open_files: file descriptors of each of its processes.
    """

    memory_bytes: int
    cpu_s: int
    file_bytes: int = 0
    processes: bool = False
    open_files: int = 64


class Outcome(Struct, frozen=True):
    """The result of a program.

    Args:
        status: exit status; negative: the number of the signal that ended it.
        output: standard output.
        complaint: first line of standard error.
    """

    status: int
    output: bytes
    complaint: str


async def run_program(
    command: Sequence[str], data: bytes, *, limits: ProgramLimits, max_output_bytes: int, inherit: Sequence[str] = ()
) -> Outcome:
    """Run a program with ``data`` on its standard input; when cancelled, kill it and its children.

    The program receives data only after its limits are in force.

    Args:
        command: program and arguments.
        data: written to standard input.
        limits: resource limits.
        max_output_bytes: limit of standard output.
        inherit: names of environment variables that it inherits besides `INHERITED`.

    Returns:
        Its exit status and output.

    Raises:
        OSError: the program cannot be started or limited (for example one that runs as another user).
        TooMuchOutput: the program wrote more than ``max_output_bytes`` and was killed.
    """
    environ = {name: os.environ[name] for name in (*INHERITED, *inherit) if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ,
        start_new_session=True,  # a process group of its own, to kill its children too
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        _restrict(process.pid, limits)
    except OSError:
        process.kill()
        await process.wait()
        raise
    output = asyncio.create_task(_read(process.stdout, max_output_bytes), name="read a program")
    complaint = asyncio.create_task(_read_beginning(process.stderr), name="read a program's complaints")
    feeding = asyncio.create_task(_write(process.stdin, data), name="write to a program")
    tasks = [output, complaint, feeding]
    try:
        await asyncio.gather(*tasks)
        status = await process.wait()
    except BaseException:
        _kill_group(process.pid)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _REAP_S)
        raise
    _kill_group(process.pid)  # children that it left running
    return Outcome(status, output.result(), _first_line(complaint.result()))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # no process left, or only another user's
        os.killpg(pid, signal.SIGKILL)


def _restrict(pid: int, limits: ProgramLimits) -> None:
    """Limit a process from outside: code between fork and exec could deadlock on a lock of another thread."""
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CORE: 0,
    }
    if not limits.processes:
        wanted[resource.RLIMIT_NPROC] = 0
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE))
        for kind, value in wanted.items():
            _, hard = resource.prlimit(pid, kind)
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(pid, kind, (most, most))


async def _read(stream: asyncio.StreamReader, max_bytes: int) -> bytes:
    output = bytearray()
    while block := await stream.read(_READ_BYTES):
        output += block
        if len(output) > max_bytes:
            raise TooMuchOutput(f"wrote more than {max_bytes} bytes")
    return bytes(output)


async def _read_beginning(stream: asyncio.StreamReader) -> bytes:
    """Return the beginning; read and discard the rest, as a full pipe would block the program."""
    beginning = bytearray()
    while block := await stream.read(_READ_BYTES):
        beginning += block[: MAX_COMPLAINT_BYTES - len(beginning)]
    return bytes(beginning)


async def _write(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the program need not read all input
        stream.write(data)
        await stream.drain()
    stream.close()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await stream.wait_closed()


def _first_line(complaint: bytes) -> str:
    lines = (line.strip() for line in complaint.decode(errors="replace").splitlines())
    return next((line for line in lines if line), "")[:200]
