"""An echo for callers: a media leg in the caller's bridge that plays the audio that it receives."""

from __future__ import annotations

import asyncio

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.control.legs import Leg, LegEnded
from bridge.control.voice_rate import VoiceRates
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.taps.taps import Join, Taps

DELAY_MS = 100
"""Delay of the echo: large enough to absorb jitter, small enough to be perceived as an echo."""


class EchoService:
    """Opens the media legs of echoes.

    Args:
        taps: opens and closes media legs.
        counters: the process's counters.
        rates: sampling rates of playback to parties.
    """

    def __init__(self, taps: Taps, counters: Counters, rates: VoiceRates) -> None:
        self._taps = taps
        self._counters = counters
        self._rates = rates

    async def echo(self, leg: Leg, seconds: float) -> None:
        """Play the party's audio back to it; return after ``seconds``, or earlier when the audio ends.

        Raises:
            LegEnded: the call ended.
            AriError: Asterisk refused the media leg.
        """
        bridge_id = await leg.hold_in_bridge()
        fmt = slin(await self._rates.of(leg.id))
        media = MediaLeg(fmt, Playout(fmt, max_queued_ms=2000, lead_ms=DELAY_MS), self._counters)
        playout = media.playout

        def play(pcm: bytes) -> None:
            playout.play(pcm)

        media.on_audio = play
        closed = asyncio.Event()
        media.on_closed = closed.set
        tap = await self._taps.open(media, Join(bridge_id))
        try:
            async with asyncio.timeout(seconds):
                await closed.wait()
            if leg.gone.is_set():
                raise LegEnded("the call ended")
        except TimeoutError:
            pass
        finally:
            await self._taps.close(tap)
