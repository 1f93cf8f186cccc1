"""A real call through the bridge, and what came of it in words and figures."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge.testing import judge, modem
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import RATE, Samples, read_wav
from tools.lab.docker_engine import DockerLab
from tools.lab.state import State
from tools.lab.up import ECHO_NUMBER, echo_folder

CALLER = "1001"
QUIET_S = 1.0  # the application finds the call and opens its stream in this time
TONE_HZ = 1000
TONE_S = 0.5
REPORT_TIMEOUT_S = 5.0
MIN_LIKENESS = 0.5


@dataclass(frozen=True)
class CallReport:
    """The result of a call.

    Args:
        text: the sent text, as data over audio.
        answered_s: from dialling to the answer.
        lasted_s: from the answer to the hang-up.
        application: the echo application's own report; empty if there is none.
        application_text: what is in its recording; None where that is not available.
        heard_text: what the phone received back.
        tone_level: level at which the phone received the tone that it had sent at `judge.tone`'s level.
        round_trip_s: from the phone's microphone to its speaker; None if what it received is not what it sent.
        recording, sent: the phone's recordings.
    """

    text: str
    answered_s: float
    lasted_s: float
    application: dict[str, Any]
    application_text: str | None
    heard_text: str
    tone_level: float
    round_trip_s: float | None
    recording: Path
    sent: Path

    @property
    def good(self) -> bool:
        """Whether every character came through, both ways."""
        return self.heard_text == self.text and self.application_text in (self.text, None) and bool(self.application)


async def place_call(lab: Lab, state: State) -> CallReport:
    """Have phone 1001 call asterisk-bridge's extension, send data and receive it back.

    Raises:
        PhoneError: the call was not answered, or ended early.
    """
    text = f"call {secrets.token_hex(4)}: The quick brown fox jumps over the lazy dog."
    speech = modem.modulate(text, RATE)
    source = np.concatenate([judge.silence(QUIET_S, RATE), speech, judge.tone(TONE_HZ, TONE_S, RATE)])
    delay_s = state.echo_delay_ms / 1000
    phone = lab.phone(CALLER)
    await phone.start()
    await phone.hangup()
    known = len(await _application_reports(lab))
    dialed = time.monotonic()
    await phone.call(ECHO_NUMBER, source)
    await phone.answered()
    answered = time.monotonic()
    await asyncio.sleep(len(source) / RATE + delay_s + 0.5)
    await phone.hangup()
    ended = time.monotonic()
    application = await _next_application_report(lab, known)
    sent, heard = phone.sent(), phone.recording()
    return CallReport(
        text=text,
        answered_s=answered - dialed,
        lasted_s=ended - answered,
        application=application,
        application_text=_application_text(application),
        heard_text=modem.demodulate(_speech(heard), RATE),
        tone_level=float(judge.block_levels(heard, RATE, TONE_HZ, 0.1).max(initial=0)),
        round_trip_s=_round_trip_s(sent, heard),
        recording=phone.recording_path(),
        sent=phone.recording_path("enc"),
    )


def in_words(report: CallReport, state: State) -> str:
    """Return the report for people."""
    said = report.application
    exact = {True: "exactly", False: "NOT exactly"}
    lines = [
        f"  {CALLER} called {ECHO_NUMBER}, was answered after {report.answered_s:.2f} s "
        f'and sent, as data over audio: "{report.text}"',
    ]
    if said:
        lines.append(
            f"  the application got the caller {said['caller']} and received {said['audio_s']:.2f} s of audio "
            f"in {said['messages']} messages"
            + ("" if report.application_text is None else f": the text {exact[report.application_text == report.text]}")
        )
    else:
        lines.append("  the application REPORTED NOTHING of this call; see ./lab logs echo")
    lines += [
        f"  the phone heard the text back {exact[report.heard_text == report.text]}"
        + ("" if report.heard_text == report.text else f': "{report.heard_text}"')
        + f", and the tone at {20 * np.log10(max(report.tone_level, 1) / 8000):+.1f} dB",
        f"  round trip {_in_ms(report.round_trip_s)}, of which the application waited {state.echo_delay_ms} ms; "
        f"the call lasted {report.lasted_s:.1f} s",
        "  recordings:",
        f"    the phone sent      {report.sent}",
        f"    the phone received  {report.recording}",
    ]
    if report.application_text is not None:
        lines.append(f"    the application     {_application_recording(said)}")
    return "\n".join(lines)


async def _application_reports(lab: Lab) -> list[str]:
    """Return the echo application's accounts of all calls so far, each a JSON object."""
    if isinstance(lab, DockerLab):
        await lab.save_logs()
    log = lab.logs / "echo.log"
    return [line for line in log.read_text().splitlines() if line.startswith("{")] if log.exists() else []


async def _next_application_report(lab: Lab, known: int) -> dict[str, Any]:
    """Wait for an account beyond the known ones; return nothing in it if none comes."""
    deadline = time.monotonic() + REPORT_TIMEOUT_S
    while time.monotonic() < deadline:
        reports = await _application_reports(lab)
        if len(reports) > known:
            report: dict[str, Any] = json.loads(reports[-1])
            return report
        await asyncio.sleep(0.1)
    return {}


def _round_trip_s(sent: Samples, heard: Samples) -> float | None:
    """Return how much later the phone received what it had sent."""
    found = judge.delay(sent, heard, RATE)
    # Both recordings end with the call, but begin with their own first frame: so they are compared from their ends.
    return found.seconds + (len(sent) - len(heard)) / RATE if found.likeness > MIN_LIKENESS else None


def _in_ms(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds * 1000:.0f} ms"


def _application_text(application: dict[str, Any]) -> str | None:
    path = _application_recording(application)
    return modem.demodulate(_speech(read_wav(path)), RATE) if path is not None else None


def _application_recording(application: dict[str, Any]) -> Path | None:
    # The path is the application's own: in a container its folder has another name.
    name = Path(application.get("recording", "")).name
    path = echo_folder() / name
    return path if name and path.exists() else None


def _speech(samples: Samples) -> Samples:
    """Cut off the tone that follows the text: a modem would read it as its own."""
    levels = judge.block_levels(samples, RATE, TONE_HZ, 0.1)
    steady = np.flatnonzero(levels > 0.6 * max(levels.max(initial=0), 1))
    return samples[: int(steady[0]) * RATE // 10] if len(steady) else samples
