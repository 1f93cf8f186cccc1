"""What ./lab remembers, what it refuses, and which files its phones can play."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import stat
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

from bridge.testing import judge, lab, phone
from bridge.testing.lab_engine import LabError, LabSettings
from tools.lab import phone_command
from tools.lab import state as states
from tools.lab.__main__ import make_parser, run_env
from tools.lab.state import State


def test_the_state_is_kept_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    assert states.load() is None
    with pytest.raises(LabError, match=r"\./lab up"):
        states.loaded()
    state = State("embedded", LabSettings(sip_port=25060), bridge_port=8081, echo_delay_ms=200)
    states.save(state)
    assert states.loaded() == state
    assert stat.S_IMODE((tmp_path / ".lab" / "state.json").stat().st_mode) == 0o600
    assert state.token not in repr(state)


def test_programs_that_a_shell_starts_get_what_it_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setattr(lab, "variables", lambda _: {"LAB_ARI_PASSWORD": "it's; $HOME"})
    state = State("embedded", LabSettings(), bridge_port=8081)
    states.save(state)
    assert asyncio.run(run_env(argparse.Namespace())) == 0
    printed = capsys.readouterr().out
    child = 'printf "%s|%s|%s" "$BRIDGE_TOKEN" "$LAB_ARI_PASSWORD" "$BRIDGE_WS_URL"'
    line = ["sh", "-c", f"eval {shlex.quote(printed)}; exec sh -c {shlex.quote(child)}"]
    got = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert got == f"{state.token}|it's; $HOME|ws://127.0.0.1:8081"


def test_the_phone_command_of_the_issue_is_understood() -> None:
    line = "phone 1001 call 1002 --play in.wav --record out.wav --dtmf 12# --seconds 30"
    options = make_parser().parse_args(line.split())
    assert (options.name, options.verb, options.number) == ("1001", "call", "1002")
    assert (options.play, options.record) == (Path("in.wav"), Path("out.wav"))
    assert (options.dtmf, options.seconds) == ("12#", 30)


def test_the_phone_command_speaks_several_sentences_or_plays_a_file() -> None:
    parser = make_parser()
    line = ["phone", "1001", "call", "753", "--say", "what is your address", "--say", "goodbye"]
    assert parser.parse_args(line).say == ["what is your address", "goodbye"]
    assert parser.parse_args(line[:4]).say == []
    with pytest.raises(SystemExit):
        parser.parse_args([*line, "--play", "in.wav"])


def test_arguments_of_pytest_pass_through() -> None:
    options, rest = make_parser().parse_known_args(["test", "--engine", "docker", "-x", "-k", "modem", "tests/unit"])
    assert options.engine == "docker"
    assert rest == ["-x", "-k", "modem", "tests/unit"]


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_16_bit_wav_can_be_played(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "in.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(np.repeat(judge.tone(1000, 1, rate), channels).tobytes())
    samples = phone_command.any_wav(path)
    assert len(samples) == pytest.approx(phone.RATE, abs=200)
    assert judge.level_of(samples[1000:-1000], 1000, phone.RATE) == pytest.approx(8000, rel=0.02)


def test_what_is_no_wav_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    with pytest.raises(LabError, match=r"in\.wav"):
        phone_command.any_wav(path)
    path.write_bytes(b"ID3 not a wav at all")
    with pytest.raises(LabError, match=r"in\.wav"):
        phone_command.any_wav(path)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(bytes(100))
    with pytest.raises(LabError, match="8-bit"):
        phone_command.any_wav(path)


def test_wav_files_keep_their_samples(tmp_path: Path) -> None:
    samples = judge.sweep(0.3, phone.RATE)
    phone.write_wav(tmp_path / "a.wav", samples, silence_after_s=0.5)
    back = phone.read_wav(tmp_path / "a.wav")
    assert (back[: len(samples)] == samples).all()
    assert len(back) == len(samples) + phone.RATE // 2
    assert not back[len(samples) :].any()
