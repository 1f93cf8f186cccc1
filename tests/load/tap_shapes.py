"""The rows of the table that tap_cost.py makes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """One row of the table.

    Args:
        taps: how streams reach the audio: ``entry``, ``media`` (external media), ``websocket`` (chan_websocket), or
            not at all.
        listeners: streams per tracked party.
        parties: how many of the call's two parties are tracked.
        speaks: each stream also sends audio to the party (a tap of its own, therefore).
        stasis: the call is in the application.
    """

    name: str
    text: str
    taps: str = ""
    listeners: int = 0
    parties: int = 2
    speaks: bool = False
    stasis: bool = False


SHAPES = (
    Shape("none", "observed call, nobody listens"),
    Shape("media", "two tracks: snoop + external media + bridge", "media", 1),
    Shape("websocket", "two tracks: snoop + chan_websocket + bridge", "websocket", 1),
    Shape("entry", "two tracks: snoop into AudioSocket()", "entry", 1),
    Shape("media-3", "two tracks, three listeners, external media, shared", "media", 3),
    Shape("entry-3", "two tracks, three listeners, AudioSocket(), shared", "entry", 3),
    Shape("entry-3-alone", "the same, not shared: each of the three also speaks", "entry", 3, speaks=True),
    Shape("media-both", "one track both ways: snoop + external media + bridge", "media", 1, 1, True),
    Shape("websocket-both", "one track both ways: snoop + chan_websocket + bridge", "websocket", 1, 1, True),
    Shape("entry-both", "one track both ways: snoop into AudioSocket()", "entry", 1, 1, True),
    Shape("held", "call in the application, nobody listens", "", 0, 1, stasis=True),
    Shape("held-media", "the same, one track both ways: external media", "media", 1, 1, True, stasis=True),
    Shape("held-websocket", "the same, one track both ways: chan_websocket", "websocket", 1, 1, True, stasis=True),
)
