"""A connection that a dialect replaces: what is queued for the call is played meanwhile."""

# ruff: noqa: ARG002 - the interfaces have them

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.dialects.base import Command, Dialect, Message, Play, Reconnect, Stop
from bridge.media.counters import Counters
from bridge.media.dial import clean
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump

FMT = slin(8000)


class Leaving(Dialect):
    """Plays binary messages; others end the connection."""

    name: ClassVar[str] = "leaving"
    two_way = True

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        return ()

    def receive(self, message: Message) -> Sequence[Command]:
        if isinstance(message, bytes):
            return (Play(message, 8000),)
        return (Reconnect("moving"),) if message == "leave" else (Stop("done"),)


class FakeLink:
    """Keeps how it was closed."""

    code = 0

    def close(self, code: int, reason: str) -> None:
        self.code = code


@pytest.mark.parametrize(("message", "queued_ms"), [("leave", 1000), ("stop", 0)])
def test_queued_audio_outlives_a_connection_that_is_replaced(message: str, queued_ms: float) -> None:
    pump = Pump(Leaving(), Counters(), on_dtmf=print)
    leg = MediaLeg(FMT, Playout(FMT, 5000), Counters())
    pump.play_on(leg)
    link = FakeLink()
    pump.attach(link)  # type: ignore[arg-type]
    pump.from_application(bytes(16_000))
    pump.from_application(message)
    pump.detach()
    assert leg.playout.queued_ms == queued_ms
    assert clean(link.code) == (message == "stop")
    # The next connection is an ordinary one: its loss discards what it has queued.
    pump.attach(link)  # type: ignore[arg-type]
    pump.detach()
    assert leg.playout.queued_ms == 0
