"""``asterisk-bridge try`` with a voice-agent framework as it comes from PyPI; see ``tests/agents``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from bridge.testing import modem
from bridge.testing.lab_engine import free_port
from bridge.testing.phone import RATE, write_wav
from tests.agents import environment


@pytest.mark.parametrize("dialect", ["twilio", "vonage"])
async def test_a_framework_is_judged_by_a_conversation(dialect: str, tmp_path: Path) -> None:
    """The agent repeats the caller's words and sends a tone from the digit 1 until #; only # interrupts it."""
    port, speech = free_port(), tmp_path / "speech.wav"
    write_wav(speech, modem.modulate("Can you hear every word of this sentence? " * 4, RATE))
    environ = {"BRIDGE_URL": "http://127.0.0.1:9", "TWILIO_ACCOUNT_SID": "AC" + "7" * 32, "TWILIO_AUTH_TOKEN": "unused"}
    async with environment.running("carriers", environ, port=port):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "try", f"ws://127.0.0.1:{port}/{dialect}", "--dialect", dialect),
            *("--option", 'parameters={"greeting": "Welcome"}', "--play", str(speech), "--digits", "1#"),
            stdout=asyncio.subprocess.PIPE,
        )
        out = (await asyncio.wait_for(process.communicate(), 120))[0].decode()
    outcomes = dict(line.split(maxsplit=2)[:2] for line in out.rpartition("\n\nconnect")[2].splitlines()[1:6])
    assert "greeting after" in out, out
    assert {name: outcomes[name] for name in ("answer", "dtmf", "messages")} == dict.fromkeys(
        ("answer", "dtmf", "messages"), "passed"
    ), out
    assert outcomes["interruption"] == "failed", out
