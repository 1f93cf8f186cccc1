"""A track that continues by the clock, whatever Asterisk sends."""

from __future__ import annotations

import time

from bridge.audio.format import FRAME_MS
from bridge.audio.steady import SteadyTrack, Tally
from bridge.media.leg import MediaLeg


def fill_silence(leg: MediaLeg, tally: Tally | None = None) -> None:
    """Let a leg that is heard continue in silence, by the clock, while Asterisk sends nothing on it.

    What an application receives of a bridge in which nobody else is, or the only other one sends no audio, stops (seen
    on 22.10); in a conference that is an ordinary moment, and whoever records or recognizes speech counts samples.

    Args:
        tally: what is added and left out is counted here.
    """
    hear = leg.on_audio
    track: SteadyTrack | None = None

    def push(pcm: bytes) -> None:
        nonlocal track
        now = time.monotonic()
        if track is None:
            track = SteadyTrack(leg.fmt, FRAME_MS, now, tally=tally)
        for chunk in track.push(pcm, now):
            hear(chunk)

    leg.on_audio = push
    leg.on_tick = lambda: push(b"")
