"""Background programs are found by their pid file and never mistaken for others."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.testing.processes import BackgroundProgram

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)",
]


@pytest.fixture
def program(tmp_path: Path) -> BackgroundProgram:
    return BackgroundProgram("p", tmp_path, tmp_path / "p.log")


def gone(pid: int) -> bool:
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


async def test_start_find_again_and_stop(program: BackgroundProgram, tmp_path: Path) -> None:
    assert program.pid is None
    program.start(SLEEPER, outlive_us=False)
    pid = program.pid
    assert pid is not None
    found_again = BackgroundProgram("p", tmp_path, tmp_path / "p.log")
    assert found_again.pid == pid
    await found_again.stop()
    assert gone(pid)
    assert program.pid is None
    assert not (tmp_path / "p.pid").exists()
    await program.stop()


async def test_one_that_does_not_listen_is_killed(program: BackgroundProgram) -> None:
    program.start(STUBBORN, outlive_us=False)
    pid = program.pid
    assert pid is not None
    for _ in range(500):
        if program.last_lines() == "ready":
            break
        await asyncio.sleep(0.01)
    await program.stop(patience_s=0.1)
    assert gone(pid)


def test_a_pid_of_another_program_is_not_ours(program: BackgroundProgram, tmp_path: Path) -> None:
    (tmp_path / "p.pid").write_text(f"{os.getpid()} 1\n")
    assert program.pid is None
    (tmp_path / "p.pid").write_text("rubbish")
    assert program.pid is None


@pytest.mark.parametrize("outlive_us", [False, True])
def test_what_is_killed_with_its_starter(tmp_path: Path, outlive_us: bool) -> None:
    code = f"""
import os, signal
from pathlib import Path
from bridge.testing.processes import BackgroundProgram
program = BackgroundProgram("p", Path({str(tmp_path)!r}), Path({str(tmp_path / "p.log")!r}))
program.start({SLEEPER!r}, outlive_us={outlive_us})
print(program.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    starter = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert starter.returncode == -signal.SIGKILL, starter.stderr
    pid = int(starter.stdout)
    if outlive_us:
        program = BackgroundProgram("p", tmp_path, tmp_path / "p.log")
        assert program.pid == pid
        os.kill(pid, signal.SIGKILL)
    assert gone(pid)
