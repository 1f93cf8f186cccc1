"""Decode sound files outside the process that carries calls.

WAV files of plain samples are read here, by slicing bytes. libsndfile parses everything else in C, in a child process
with limits on memory and processor time, and no access to files.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from bridge.audio.decode import MAX_PCM_BYTES, RATE, REFUSED
from bridge.audio.sound import Sound
from bridge.audio.wav import read_sound
from bridge.speech.program import ProgramLimits, TooMuchOutput, run_program

MAX_DECODERS: Final = 2
"""Concurrent child processes; further files wait."""
TIMEOUT_S: Final = 30.0
"""Time limit for one file, without the wait for a child process."""
LIMITS: Final = ProgramLimits(memory_bytes=1 << 30, cpu_s=15)

# -I and an explicit path: the child ignores the user's environment and folders, and imports what this process imports.
_COMMAND = (
    *(sys.executable, "-I", "-c"),
    "import sys; sys.path[:] = sys.argv[1:]; from bridge.audio.decode import main; sys.exit(main())",
)


class SoundDecoder:
    """Decodes the files of one source of sounds."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(MAX_DECODERS)

    async def decode(self, data: bytes) -> Sound:
        """Decode a WAV, FLAC, Ogg or MP3 file; several channels are mixed into one.

        Args:
            data: the whole file.

        Returns:
            The sound, at the rate of the file; empty if the file holds no audio.

        Raises:
            ValueError: the file cannot be decoded within the limits; the message is the reason.
        """
        sound = read_sound(data)
        if sound is not None:
            return sound
        async with self._turns:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    outcome = await run_program(
                        (*_COMMAND, *sys.path), data, limits=LIMITS, max_output_bytes=MAX_PCM_BYTES + RATE.size + 2
                    )
            except TimeoutError:
                raise ValueError(f"cannot be decoded within {TIMEOUT_S:g} s") from None
            except TooMuchOutput:
                raise ValueError(f"holds more than {MAX_PCM_BYTES} bytes of samples") from None
            except OSError as problem:
                raise ValueError(f"cannot be decoded: no decoder process: {problem.strerror}") from None
        if outcome.status == REFUSED:
            raise ValueError(outcome.complaint)
        if outcome.status or len(outcome.output) < RATE.size:
            raise ValueError("cannot be decoded: the decoder crashed, or exceeded its memory or processor time")
        (rate,) = RATE.unpack_from(outcome.output)
        return Sound(outcome.output[RATE.size :], rate)
