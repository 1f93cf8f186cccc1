"""Runs one program: bytes in, bytes out, and nothing of it is left afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.config import ENVIRONMENT_PREFIX

MAX_COMPLAINT_BYTES = 4096
_READ_BYTES = 1 << 16
_REAP_S = 2.0


class TooMuchOutput(Exception):
    """A program wrote more than it may."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended.

    Args:
        status: its exit status; negative: the signal that ended it.
        output: what it wrote to standard output.
        complaint: the first line that it wrote to standard error.
    """

    status: int
    output: bytes
    complaint: str


async def run_program(command: Sequence[str], data: bytes, *, max_output_bytes: int) -> Outcome:
    """Runs a program with ``data`` on its standard input; when this is cancelled, it and its children are killed.

    It is given our environment but for our own settings, which hold passwords.

    Raises:
        OSError: it cannot be started.
        TooMuchOutput: it wrote more than ``max_output_bytes``; it was killed.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ,
        start_new_session=True,  # a group of its own: what it starts itself is killed with it
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output = asyncio.create_task(_read(process.stdout, max_output_bytes), name="read a program")
    complaint = asyncio.create_task(_read_beginning(process.stderr), name="read a program's complaints")
    feeding = asyncio.create_task(_write(process.stdin, data), name="write to a program")
    tasks = [output, complaint, feeding]
    try:
        await asyncio.gather(*tasks)
        status = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _REAP_S)
        raise
    return Outcome(status, output.result(), _first_line(complaint.result()))


async def _read(stream: asyncio.StreamReader, max_bytes: int) -> bytes:
    output = bytearray()
    while block := await stream.read(_READ_BYTES):
        output += block
        if len(output) > max_bytes:
            raise TooMuchOutput(f"wrote more than {max_bytes} bytes")
    return bytes(output)


async def _read_beginning(stream: asyncio.StreamReader) -> bytes:
    """The beginning; the rest is read too, as a full pipe would hold the program up."""
    beginning = bytearray()
    while block := await stream.read(_READ_BYTES):
        beginning += block[: MAX_COMPLAINT_BYTES - len(beginning)]
    return bytes(beginning)


async def _write(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read to the end
        stream.write(data)
        await stream.drain()
    stream.close()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await stream.wait_closed()


def _first_line(complaint: bytes) -> str:
    lines = (line.strip() for line in complaint.decode(errors="replace").splitlines())
    return next((line for line in lines if line), "")[:200]
