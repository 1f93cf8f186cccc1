"""Text to speech by a program that reads text on standard input and writes a sound file to standard output.

The default is espeak-ng; the decision for a program, and for this one: ``docs/decisions/speech.md``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import signal
from math import ceil
from pathlib import Path

from msgspec import Struct

from bridge.audio.sound import Sound
from bridge.config.speech import SpeechConfig
from bridge.errors import BridgeError
from bridge.speech.cache import SoundCache
from bridge.speech.decoder import SoundDecoder
from bridge.speech.program import Outcome, ProgramLimits, TooMuchOutput, run_program

log = logging.getLogger(__name__)

MAX_RUNS = 4
"""Concurrent programs; further texts wait."""
MAX_UNKNOWN = 1000
"""Limit of cached names without a voice: flows may contain any names."""
MAX_OUTPUT_BYTES = 32 << 20
"""Limit of a program's output: over six minutes at 44.1 kHz."""
MAX_FILE_BYTES = 128 << 20
"""Largest file that a program may write. Scripts may use temporary files, and Debian's espeak-ng is linked to
PulseAudio, which allocates 64 MiB of shared memory even if nothing is played; to Linux that is a file.
"""

# Fits the voice names of cloud services ("en-US-Chirp3-HD-Charon", "de-DE-Standard-A"). Other first characters could
# make a name an option of the program, or a path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,99}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ESPEAK_NAMES = frozenset({"espeak", "espeak-ng"})
_UNKNOWN_VOICE = "voice does not exist"  # espeak-ng 1.52; its exit status is 1 for every failure


def _name_of(number: int) -> str:
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"


class SpeechFailed(BridgeError):
    """Text could not be spoken; the message is the reason, without the text."""


class Utterance(Struct, frozen=True):
    """Text to speak.

    Args:
        text: plain text.
        language: from the flow, for example ``en-US``; empty: the configured one.
        voice: from the flow; empty: the configured one.
    """

    text: str
    language: str = ""
    voice: str = ""


class Speech:
    """Speaks text with the configured program, and caches the sounds.

    The text is written to the program's standard input, never put into its command line, which every user of the
    machine can read and where text could be taken for an option.
    """

    def __init__(self, config: SpeechConfig) -> None:
        self._config = config
        self._cache = SoundCache(config.cache_bytes)
        self._decoder = SoundDecoder()
        self._limits = ProgramLimits(
            memory_bytes=config.max_memory_mb << 20,
            cpu_s=ceil(config.timeout_s) * (os.cpu_count() or 1),
            file_bytes=MAX_FILE_BYTES,
            processes=True,  # scripts start other programs
        )
        self._turns = asyncio.Semaphore(MAX_RUNS)
        self._is_espeak = any(Path(part).name in _ESPEAK_NAMES for part in config.command)
        self._unknown: set[str] = set()

    @property
    def trouble(self) -> str | None:
        """Why text-to-speech is unavailable; None if the program exists."""
        if not self._config.command:
            return "speech.command is empty: text-to-speech is not configured"
        program = self._config.command[0]
        if shutil.which(program):
            return None
        hint = " (on Debian: apt-get install espeak-ng)" if self._is_espeak else ""
        return f"speech.command: program {program!r} not found{hint}"

    async def say(self, utterance: Utterance) -> Sound:
        """Return the sound of an utterance, at the program's own rate.

        Cached text is not spoken again, and concurrent requests for the same text share one run.

        Args:
            utterance: text, language and voice.

        Raises:
            SpeechFailed: the program is missing, failed, wrote no sound or took too long; or the text is too long.
        """
        text = _CONTROL.sub(" ", utterance.text)
        if len(text) > self._config.max_text_characters:
            limit = self._config.max_text_characters
            raise SpeechFailed(f"the text has {len(text)} characters; speech.max_text_characters allows {limit}")
        for what, name in (("language", utterance.language), ("voice", utterance.voice)):
            if name and not _NAME.fullmatch(name):
                raise SpeechFailed(f"{name[:100]!r} is not a valid {what} name")
        if not text.strip():
            return Sound(b"", 8000)
        key = (text, utterance.language, utterance.voice)
        return await self._cache.get(key, lambda: self._speak(text, utterance.language, utterance.voice))

    async def _speak(self, text: str, language: str, voice: str) -> Sound:
        if self._is_espeak:
            text = text.replace("[[", "[ [")  # espeak-ng reads text between such brackets as phonemes
        data = text.encode(errors="replace")
        if not self._config.command:
            raise SpeechFailed(self.trouble or "")
        try:
            async with asyncio.timeout(self._config.timeout_s), self._turns:
                outcome = await self._run(data, language, voice)
                if outcome.status:
                    raise SpeechFailed(self._failure(outcome))
                return await self._decoder.decode(outcome.output)
        except TimeoutError:
            raise SpeechFailed(f"{self._program} produced no sound within {self._config.timeout_s:g} s") from None
        except TooMuchOutput as problem:
            raise SpeechFailed(f"{self._program} {problem}") from None
        except ValueError as problem:
            raise SpeechFailed(f"the output of {self._program} {problem}") from None
        except OSError as problem:
            reason = self.trouble or f"{self._program} cannot be started: {problem.strerror or problem}"
            raise SpeechFailed(reason) from None

    async def _run(self, data: bytes, language: str, voice: str) -> Outcome:
        language = language or self._config.default_language
        *others, last = self._voices(language, voice)
        for name in others:
            if name in self._unknown:
                continue
            outcome = await self._run_as(data, language, name)
            if not outcome.status:
                return outcome
            # espeak-ng may also crash over an unknown name ("alloy", 1.52). The text could have caused that, so such a
            # name is tried again.
            log.warning("voice failed, using the next one voice=%s error=%s", name, self._failure(outcome))
            if _UNKNOWN_VOICE in outcome.complaint and len(self._unknown) < MAX_UNKNOWN:
                self._unknown.add(name)
        return await self._run_as(data, language, last)

    async def _run_as(self, data: bytes, language: str, voice: str) -> Outcome:
        command = [part.replace("{language}", language).replace("{voice}", voice) for part in self._config.command]
        return await run_program(
            command,
            data,
            limits=self._limits,
            max_output_bytes=MAX_OUTPUT_BYTES,
            inherit=self._config.environment,
        )

    def _voices(self, language: str, voice: str) -> list[str]:
        """Return the candidates for ``{voice}``, best first.

        Only espeak-ng reports an unknown voice, so other programs get one candidate. espeak-ng accepts languages as
        voices, and finds the nearest itself: ``en-US-Wavenet-F`` becomes ``en-us``.
        """
        config = self._config
        table = {name.lower(): value for name, value in config.voices.items()}
        wanted = [voice, language, language.partition("-")[0]]
        names = [table[name.lower()] for name in wanted if name.lower() in table]
        if table:
            names.append(config.default_voice)  # a configured table replaces names of cloud voices
        if language == config.default_language:
            wanted.insert(1, config.default_voice)
        names += [*wanted, config.default_voice, config.default_language]
        names = list(dict.fromkeys(filter(None, names))) or [""]
        return names if self._is_espeak else names[:1]

    @property
    def _program(self) -> str:
        """The program's name, for messages; espeak-ng's also where a loader runs it."""
        names = [Path(part).name for part in self._config.command] or [""]
        return next((name for name in names if name in _ESPEAK_NAMES), names[0])

    def _failure(self, outcome: Outcome) -> str:
        ended = f"status {outcome.status}" if outcome.status > 0 else _name_of(-outcome.status)
        return f"{self._program} failed ({ended}): {outcome.complaint or 'no error message'}"
