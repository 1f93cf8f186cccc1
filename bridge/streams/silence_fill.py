"""A track that advances with the clock, with or without audio from Asterisk."""

from __future__ import annotations

import time

from bridge.audio.clocked_track import ClockedTrack, FillCounters
from bridge.audio.format import FRAME_MS
from bridge.media.leg import MediaLeg


def fill_silence(leg: MediaLeg, tally: FillCounters | None = None) -> None:
    """Fill the audio of a leg with silence, by the clock, while Asterisk sends nothing.

    Asterisk sends nothing from a bridge without other members, or whose only other member is silent (seen on 22.10).
    That is ordinary in a conference, and applications that record or recognize speech count samples.

    Args:
        leg: the media leg.
        tally: receives the totals of inserted and dropped audio.
    """
    hear = leg.on_audio
    track: ClockedTrack | None = None

    def push(pcm: bytes) -> None:
        nonlocal track
        now = time.monotonic()
        if track is None:
            track = ClockedTrack(leg.fmt, FRAME_MS, now, tally=tally)
        for chunk in track.push(pcm, now):
            hear(chunk)

    leg.on_audio = push
    leg.on_tick = lambda: push(b"")
