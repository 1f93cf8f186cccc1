"""The doctor's checks that run programs."""

from __future__ import annotations

import io
import sys

import pytest

from bridge.config import Config
from bridge.doctor import machine
from bridge.doctor.report import Report

WAV = """
import sys, wave
wav = wave.open(sys.stdout.buffer, "wb")
wav.setparams((1, 2, 16000, 160, "NONE", ""))
wav.writeframesraw(bytes(320))
"""


@pytest.mark.parametrize(
    ("command", "verdict", "words"),
    [
        ([sys.executable, "-c", WAV], "ok", "works, at 16000 Hz"),
        (["cat"], "warn", "the output of cat is not a WAV, FLAC, Ogg or MP3 file"),
        (["sh", "-c", "kill -KILL $$"], "warn", "sh failed (signal 9, SIGKILL)"),
        (["no-such-program"], "warn", "no-such-program"),
        ([], "ok", "speech.command is empty"),
    ],
)
async def test_the_program_that_speaks(command: list[str], verdict: str, words: str) -> None:
    report = Report(io.StringIO())
    await machine.check_speech(report, Config.model_validate({"speech": {"command": command}}))
    assert [finding.verdict for finding in report.findings] == [verdict]
    assert words in report.findings[0].text
