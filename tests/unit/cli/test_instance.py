"""One instance at a time uses a state file; a standby waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bridge.cli import instance
from bridge.cli.instance import InstanceRunning, only_instance
from bridge.errors import ConfigError


def test_a_second_instance_is_rejected_and_a_standby_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "STOPPING_S", 0.1)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # a thread has none
    file, took_over = str(tmp_path / "state" / "state.sqlite3"), threading.Event()

    def stand_by() -> None:
        with only_instance(file, standby=True):
            took_over.set()

    waiting = threading.Thread(target=stand_by)
    with only_instance(file, standby=False):
        with (
            pytest.raises(InstanceRunning, match=rf"in use by pid {os.getpid()}; .* --standby"),
            only_instance(file, standby=False),
        ):
            pass
        waiting.start()
        assert not took_over.wait(0.2)
    assert took_over.wait(30)
    waiting.join()
    with only_instance(file, standby=False):
        pass


def test_a_start_waits_for_an_instance_that_is_stopping(tmp_path: Path) -> None:
    file = str(tmp_path / "state.sqlite3")
    first = only_instance(file, standby=False)
    first.__enter__()
    threading.Timer(0.2, lambda: first.__exit__(None, None, None)).start()
    with only_instance(file, standby=False):
        pass


def test_a_standby_needs_a_file_and_a_bridge_does_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for nowhere in (":memory:", str(tmp_path / "file" / "below")):
        with only_instance(nowhere, standby=False) as lock:
            assert lock is None
        with pytest.raises(ConfigError, match="state_file"), only_instance(nowhere, standby=True):
            pass


@pytest.mark.parametrize("standby", [False, True])
@pytest.mark.parametrize("call", ["flock", "pwrite"])
def test_a_disk_that_is_full_or_knows_no_locks_does_not_keep_a_bridge_from_starting(
    call: str, standby: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK if call == "flock" else errno.ENOSPC, "refused by the test")

    monkeypatch.setattr(fcntl if call == "flock" else os, call, fail)
    lock = only_instance(str(tmp_path / "state.sqlite3"), standby=standby)
    if call == "flock" and standby:
        with pytest.raises(ConfigError, match=r"state_file: .*cannot be locked: refused"), lock:
            pass
    else:
        with lock as descriptor:
            assert (descriptor is None) == (call == "flock")


@contextlib.asynccontextmanager
async def standby(tmp_path: Path, **http: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a standby, and wait until it stands by."""
    configure(tmp_path, **http)
    line = (sys.executable, "-m", "bridge", "serve", "--config", str(tmp_path / "bridge.toml"), "--standby")
    environ = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        *line, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environ
    )
    try:
        await logged(process, "standing by")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def configure(tmp_path: Path, **http: object) -> None:
    values = "".join(f"{name} = {value}\n" for name, value in http.items())
    (tmp_path / "bridge.toml").write_text(
        f'[ari]\nuser = "bridge"\npassword = "secret"\n[streams]\nstate_file = "{tmp_path}/state"\n'
        f"[audiosocket]\nbind_port = 0\n[http]\n{values}"
    )


async def logged(process: asyncio.subprocess.Process, text: str) -> None:
    """Wait until a process logs a string."""
    assert process.stderr is not None
    while text.encode() not in (line := await process.stderr.readline()):
        assert line, "it has ended"


async def test_a_standby_that_is_stopped_ends(tmp_path: Path) -> None:
    """Also as the first process of a container, for which the kernel ignores signals without a handler."""
    with only_instance(f"{tmp_path}/state", standby=False):
        async with standby(tmp_path) as process:
            assert is_caught(process.pid, signal.SIGTERM)
            process.terminate()
            assert process.stderr is not None
            rest = await process.stderr.read()
            assert (await process.wait(), rest) == (0, b"")


@pytest.mark.parametrize("valid", [True, False])
async def test_a_standby_serves_with_the_configuration_of_now(
    valid: bool, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    before, now = unused_tcp_port_factory(), unused_tcp_port_factory()
    lock = only_instance(f"{tmp_path}/state", standby=False)
    with contextlib.ExitStack() as active:
        active.enter_context(lock)
        async with standby(tmp_path, port=before) as process:
            configure(tmp_path, port=now if valid else '"none"')
            active.close()
            if not valid:
                await logged(process, "http.port")
            await logged(process, f"url=http://127.0.0.1:{now if valid else before}")


def is_caught(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)
