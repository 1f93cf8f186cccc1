"""``asterisk-bridge try``: a scripted caller talks with an application, without a PBX."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge import dialects
from bridge.audio import decode, tones
from bridge.audio.sound import Sound
from bridge.config.speech import SpeechConfig
from bridge.dialects.base import CallInfo, Dialect, Setting
from bridge.media.destination import Destination
from bridge.speech.engine import Speech, SpeechFailed, Utterance
from bridge.texts import printable
from bridge.trial.checks import FAILED, Check
from bridge.trial.script import Plan
from bridge.trial.trial import Trial

SENTENCE = "Hello, can you hear me?"
MAX_SPEECH_S = 30.0
"""Limit of the caller's speech, in seconds."""
TONE_HZ, TONE_S = 440, 1.5
"""The caller's speech without a speech program."""


def run(options: argparse.Namespace) -> int:
    """Hold one conversation, and print the exchange and the verdict.

    Args:
        options: arguments of the command.

    Returns:
        The exit code: 0 if no check failed, 1 if any failed, 2 for invalid arguments.
    """
    logging.basicConfig(level=logging.WARNING, format="asterisk-bridge: %(message)s", stream=sys.stderr)
    try:
        dialect = _dialect(options.dialect, options.option)
        destination = Destination(
            dialect.url(options.url),
            _headers(options.header, options.token_file, dialect.subprotocol),
            ca_file=str(options.ca_file or ""),
            configured=True,
        )
        speech = _speech(options.play, options.say)
        tones.dtmf(options.digits)  # raises ValueError for others
    except (ValueError, LookupError) as problem:
        print(f"asterisk-bridge: {problem}", file=sys.stderr)
        return 2
    plan = Plan(speech, options.digits, options.answer_within, dialect.two_way)
    call = CallInfo("trial", "inbound", options.caller, options.callee)
    trial = Trial(dialect, destination, call, plan, out=None if options.quiet else sys.stdout)
    return report(asyncio.run(trial.run()), options.skip)


def report(checks: Sequence[Check], skipped: Sequence[str]) -> int:
    """Print the verdict; return the exit code.

    Args:
        checks: all judgements.
        skipped: names of checks that do not count.
    """
    print()
    for check in checks:
        outcome = "skipped" if check.name in skipped else check.outcome
        print(f"{check.name:12} {outcome:10}  {printable(check.text)}")
    failed = [check.name for check in checks if check.outcome == FAILED and check.name not in skipped]
    print(f"\n{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}" if failed else "\nno check failed")
    return 1 if failed else 0


def _dialect(name: str, given: Sequence[str]) -> Dialect:
    kind = dialects.find(name)
    options: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--option {text}: expected NAME=VALUE")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return kind.create(options, Setting(kind.default_layout, two_way=True))


def _headers(given: Sequence[str], token_file: Path | None, subprotocol: str) -> dict[str, str]:
    headers = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else {}
    if token_file is not None:
        headers["Authorization"] = f"Bearer {_read(token_file).decode(errors='replace').strip()}"
    for text in given:
        name, colon, value = text.partition(":")
        if not colon:
            raise ValueError(f"--header {name}: expected NAME: VALUE")
        headers[name.strip()] = value.strip()
    return headers


def _speech(file: Path | None, sentence: str | None) -> Sound:
    """Return the caller's speech: a file, a sentence if there is a speech program, else a tone."""
    if file is not None:
        content = _read(file)
        try:
            sound = decode.decode(content)
        except ValueError as problem:
            raise ValueError(f"{file}: {problem}") from None
    elif sentence is not None or shutil.which(SpeechConfig().command[0]):
        try:
            sound = asyncio.run(Speech(SpeechConfig()).say(Utterance(sentence or SENTENCE)))
        except SpeechFailed as problem:
            raise ValueError(f"--say: {problem}") from None
    else:
        sound = tones.tone(TONE_HZ, TONE_S)
    if not 0 < sound.seconds <= MAX_SPEECH_S:
        raise ValueError(f"the caller's speech is {sound.seconds:.1f} s long; expected at most {MAX_SPEECH_S:g} s")
    return sound


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise ValueError(f"{path}: {problem.strerror}") from None
