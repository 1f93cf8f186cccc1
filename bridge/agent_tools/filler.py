"""What the caller hears while a tool takes long.

The bridge feeds it into the stream's own playout, a few frames ahead, so it ends within a fraction of a second when the
answer arrives or the model speaks, and nothing else in the queue is touched. The model does not receive it.
"""

from __future__ import annotations

import asyncio
import logging

from bridge.agent_tools.tool import POLL_S, AgentCall
from bridge.audio.sound import Sound
from bridge.config.privacy import SOUND
from bridge.speech.engine import SpeechFailed
from bridge.speech.fetch import SoundUnavailable

log = logging.getLogger(__name__)

BLOCK_MS = 100
AHEAD_MS = 100
"""Filler that is queued ahead, in milliseconds, besides the block just added."""
PAUSE_S = 1.0
"""Silence between two repetitions of a short sound."""


async def fill(call: AgentCall, announcement: str, after_s: float) -> None:
    """Play a filler until canceled; a call has at most one at a time.

    Args:
        call: the call.
        announcement: ``"tone"``, ``"sound:FILE"`` or a sentence, which is not repeated.
        after_s: how long to wait before, in seconds.
    """
    await asyncio.sleep(after_s)
    try:
        sound = await call.services.announcements.sound(announcement)
    except (SpeechFailed, SoundUnavailable) as error:
        log.warning("filler not played stream=%s error=%s", call.voice.stream_id, error)
        return
    async with call.filling:
        await call.silence(POLL_S)
        again = bool(sound.pcm)
        while again:
            again = await _feed(call, sound) and announcement.startswith(SOUND)
            await asyncio.sleep(PAUSE_S if sound.seconds < PAUSE_S else 0)


async def _feed(call: AgentCall, sound: Sound) -> bool:
    """Play a sound once; return False if the model began to speak."""
    voice = call.voice
    rate = voice.playout_rate
    if not rate:
        return False
    from bridge.audio.resample import Resampler  # numpy is only for audio of another rate

    resampler = Resampler(sound.rate, rate) if sound.rate != rate else None
    block_bytes = sound.rate * BLOCK_MS // 1000 * 2
    for at in range(0, len(sound.pcm), block_bytes):
        while voice.queued_ms > AHEAD_MS:
            if voice.queued_ms > AHEAD_MS + 2 * BLOCK_MS:
                return False
            await asyncio.sleep(POLL_S)
        block = sound.pcm[at : at + block_bytes]
        voice.play(resampler.convert(block) if resampler else block)
    return True
