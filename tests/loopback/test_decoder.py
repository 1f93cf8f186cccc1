"""Sound files are decoded apart: what a file may cost, and that a crash of the decoder costs only that file."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge.audio.sound import Sound
from bridge.audio.wav import read_sound
from bridge.speech import decoder as module
from bridge.speech.decoder import SoundDecoder
from bridge.speech.program import ProgramLimits, run_program

ROOT = Path(__file__).parents[2]


def encoded(form: str, subtype: str | None = None, seconds: float = 0.5, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    samples = (np.sin(np.arange(int(rate * seconds)) / 7) * 0.4).astype("float32")
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("form", ["FLAC", "OGG", "MP3"])
async def test_a_compressed_file_is_decoded(form: str) -> None:
    sound = await SoundDecoder().decode(encoded(form))
    assert sound.rate == 16000
    assert sound.seconds == pytest.approx(0.5, abs=0.15)
    assert np.abs(np.frombuffer(sound.pcm, "<i2")).max() > 10_000


@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW", "ALAW"])
async def test_a_plain_wav_file_needs_no_child(subtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMAND", ("/nonexistent",))
    data = encoded("WAV", subtype)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    assert await SoundDecoder().decode(data) == Sound(expected.astype("<i2").tobytes(), 16000)


def test_a_wav_file_whose_header_promises_more_holds_what_there_is() -> None:
    data = encoded("WAV", "PCM_16")
    whole = read_sound(data)
    assert whole is not None
    assert read_sound(data[:-101]) == Sound(whole.pcm[:-102], 16000)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", encoded("WAV", "FLOAT"), encoded("FLAC")])
def test_another_file_is_left_to_the_decoder(data: bytes) -> None:
    assert read_sound(data) is None


@pytest.mark.parametrize("data", [b"", b"hello", b"fLaC" + bytes(2000), b"RIFF\0\0\0\0WAVE", encoded("OGG")[:200]])
async def test_a_damaged_file_says_why(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not a |cannot be decoded"):
        await SoundDecoder().decode(data)


async def test_a_crash_of_the_decoder_costs_only_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = (sys.executable, "-I", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with monkeypatch.context() as patched:
        patched.setattr(module, "_COMMAND", crash)
        with pytest.raises(ValueError, match="the decoder crashed"):
            await SoundDecoder().decode(encoded("FLAC"))
    assert (await SoundDecoder().decode(encoded("FLAC"))).rate == 16000


REPORT = """
import os, resource, sys
names = ("AS", "CPU", "FSIZE", "NOFILE", "CORE", "NPROC")
sys.stdin.buffer.read()
print({name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[1] for name in names})
print(os.getpriority(os.PRIO_PROCESS, 0), sorted(os.environ))
"""


async def test_a_program_runs_with_limits_low_priority_and_without_our_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASTERISK_BRIDGE_ARI__PASSWORD", "secret")
    monkeypatch.setenv("LD_PRELOAD_NOT", "x")
    limits = ProgramLimits(memory_bytes=1 << 30, cpu_s=7, file_bytes=4096, open_files=20)
    command = (sys.executable, "-I", "-c", REPORT)
    outcome = await run_program(command, b"", limits=limits, max_output_bytes=4096)
    lines = outcome.output.decode().splitlines()
    assert lines[0] == str({"AS": 1 << 30, "CPU": 7, "FSIZE": 4096, "NOFILE": 20, "CORE": 0, "NPROC": 0})
    nice, _, names = lines[1].partition(" ")
    assert int(nice) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    assert set(eval(names)) <= {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"}


@pytest.mark.parametrize(
    ("source", "limits", "status"),
    [
        ("bytearray(1 << 29)", ProgramLimits(memory_bytes=1 << 28, cpu_s=10), 1),
        ("while True: pass", ProgramLimits(memory_bytes=1 << 30, cpu_s=1), -signal.SIGKILL),
        ("open(sys.argv[1], 'wb', 0).write(bytes(8192))", ProgramLimits(1 << 30, 10, file_bytes=4096), 0),
    ],
)
async def test_a_limit_ends_what_exceeds_it(source: str, limits: ProgramLimits, status: int, tmp_path: Path) -> None:
    command = (sys.executable, "-I", "-c", f"import sys; sys.stdin.read()\n{source}", str(tmp_path / "file"))
    outcome = await run_program(command, b"", limits=limits, max_output_bytes=4096)
    if limits.file_bytes:
        assert (tmp_path / "file").stat().st_size == 4096
    else:
        assert outcome.status in (status, -signal.SIGXCPU)


def test_the_process_that_carries_calls_does_not_load_the_decoder() -> None:
    code = "import bridge.app.application, sys; sys.exit('soundfile' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_our_own_limits_are_untouched() -> None:
    assert resource.getrlimit(resource.RLIMIT_CPU)[1] == resource.RLIM_INFINITY
