"""``./lab phone``: a softphone of the lab driven by hand."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge.audio.sound import Sound
from bridge.audio.wav import is_wav, parse_header
from bridge.testing import judge
from bridge.testing.lab_engine import Lab, LabError
from bridge.testing.phone import RATE, Phone, PhoneError, PhoneRefusal, Samples
from tools.lab import talking_agent

DEFAULT_S = 10.0
WAIT_S = 60.0  # for a call to answer: its command is typed in another terminal
BEFORE_KEYS_S = 1.0  # an IVR's prompt has begun by then
GREETING_S = 5.0  # the other side's first words, which the caller does not interrupt
ANSWER_S = 7.0  # the other side's words after each sentence of the caller
BY_OTHER_SIDE = "Connection reset by peer"  # how baresip names an ordinary BYE


async def drive(lab: Lab, options: argparse.Namespace) -> str:
    """Make or take a call and return what happened, in words. A call that the phone is still in ends first.

    Raises:
        LabError, PhoneError: a file is not a WAV file that can be played; the call is not answered.
    """
    phone = lab.phone(options.name)
    await phone.start()
    if options.say:
        source = await _spoken(lab, options.say)
    else:
        source = any_wav(options.play) if options.play else judge.silence(0, RATE)
    seconds = options.seconds or (len(source) / RATE + 1 if len(source) else DEFAULT_S)
    try:
        with contextlib.suppress(PhoneRefusal):  # it is not in a call
            await phone.command("hangup")
        if options.verb == "call":
            await phone.call(options.number, source)
            await phone.answered(timeout_s=30)
        else:
            phone.forget()
            phone.play_next(source)
            print(f"waiting {WAIT_S:.0f} s for a call to {options.name}", flush=True)
            await phone.answered(timeout_s=WAIT_S)
        ended = await _talk(phone, options.dtmf, seconds)
        await phone.hangup()
    finally:
        await phone.release()
    return "\n".join(_account(phone, options, ended))


async def _spoken(lab: Lab, sentences: Sequence[str]) -> Samples:
    """Return the sentences in the voice of the lab's espeak-ng, and the pauses in which the other side speaks."""
    pieces = [judge.silence(GREETING_S, RATE)]
    for sentence in sentences:
        process = await asyncio.create_subprocess_exec(
            *(*lab.speech_command, *talking_agent.VOICE),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        data, _ = await process.communicate(sentence.encode())
        header = parse_header(data) if is_wav(data) else None
        if process.returncode or header is None or header.format is None:
            raise LabError(f"espeak-ng cannot speak {sentence!r}: exit code {process.returncode}")
        pieces += [_at_8_khz(data[header.data_at :], header.format.rate), judge.silence(ANSWER_S, RATE)]
    return np.concatenate(pieces)


async def _talk(phone: Phone, keys: str, seconds: float) -> str:
    """Send the DTMF digits and let the call continue; return the reason if the other side ended it."""

    async def press() -> None:
        await asyncio.sleep(BEFORE_KEYS_S)
        await phone.dtmf(keys, gap_s=0.3)

    pressing = asyncio.create_task(press()) if keys else None
    try:
        return (await phone.ended(timeout_s=seconds)).param or "without a reason"
    except PhoneError:
        return ""  # it continues: the ordinary case
    finally:
        if pressing is not None:
            pressing.cancel()
            await asyncio.wait([pressing])


def _account(phone: Phone, options: argparse.Namespace, ended: str) -> list[str]:
    reason = "" if ended == BY_OTHER_SIDE else f": {ended}"
    lines = [f"the other side ended the call{reason}"] if ended else []
    try:
        heard = phone.recording()
    except PhoneError:
        return [*lines, f"{options.name} heard nothing"]
    lines.append(
        f"{options.name} heard {len(heard) / RATE:.2f} s of audio, level {judge.rms(heard):.0f} of 32767 (rms)"
    )
    if len(heard) > RATE // 2 and judge.rms(heard) > 50:
        lines.append(f"strongest frequency {judge.loudest(heard, RATE):.0f} Hz")
    if options.record:
        shutil.copyfile(phone.recording_path(), options.record)
        lines.append(f"recorded to {options.record}")
    return lines


def any_wav(path: Path) -> Samples:
    """Return a 16-bit WAV file of any rate and number of channels as a phone plays it: mono, 8 kHz.

    Raises:
        LabError: it cannot be read, or has other samples.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise LabError(f"{path} cannot be played: {error}") from None
    if width != 2:
        raise LabError(f"{path} has {8 * width}-bit samples; make it 16-bit, for example: sox {path} -b 16 out.wav")
    mono = np.frombuffer(data, "<i2").reshape(-1, channels).mean(axis=1).astype("<i2")
    return _at_8_khz(mono.tobytes(), rate)


def _at_8_khz(pcm: bytes, rate: int) -> Samples:
    samples: Samples = np.frombuffer(Sound(pcm, rate).at(RATE).pcm, "<i2").astype(np.int16)
    return samples
