"""Commands that answer the application, and that hold its queue."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.dialects.base import Command, Dialect, Mark, Message, Pause, Play, Send
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump

FMT = slin(8000)
FRAME = b"\1\0" * FMT.frame_samples
SILENCE = FMT.silence(FMT.frame_bytes)


class Queueing(Dialect):
    """Reports the length of the queue at "?"; "=" pauses, ">" continues, and audio is followed by a mark."""

    name = "queueing"

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:  # noqa: ARG002
        return ()

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:  # noqa: ARG002
        return (name,)

    def receive(self, message: Message) -> Sequence[Command]:
        if isinstance(message, bytes):
            return (Play(message, 8000), Mark("played"))
        return (Send(f"{self.queued_ms():g}"),) if message == "?" else (Pause(message == "="),)


class Wire:
    """Keeps what Asterisk receives."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append

    def hang_up(self) -> None: ...

    def hand_over(self, leg: MediaLeg) -> None:
        leg.attach(self)


class Link:
    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message, _: float) -> None:
        self.sent.append(message)


class Stream:
    def __init__(self) -> None:
        self.pump = Pump(Queueing(), Counters(), on_dtmf=print)
        self.link, self.wire = Link(), Wire()
        self.pump.attach(self.link)  # type: ignore[arg-type]
        self.leg = self.new_leg()
        self.pump.play_on(self.leg)

    def new_leg(self) -> MediaLeg:
        leg = MediaLeg(FMT, Playout(FMT, 60_000), Counters())
        leg.attach(self.wire)
        return leg

    def heard(self, ticks: int) -> list[bytes]:
        """Return the audio of this many ticks."""
        self.wire.written.clear()
        self.leg.tick(ticks)
        return [each[3:] for each in self.wire.written]


@pytest.fixture
def stream() -> Stream:
    return Stream()


def test_a_dialect_answers_and_knows_the_length_of_its_queue(stream: Stream) -> None:
    for message in ("?", FRAME * 3, "?"):
        stream.pump.from_application(message)
    assert stream.link.sent == ["0", "60"]
    stream.heard(2)
    stream.pump.from_application("?")
    assert stream.link.sent == ["0", "60", "20"]


def test_a_paused_queue_keeps_its_audio_and_marks(stream: Stream) -> None:
    stream.pump.from_application(FRAME * 2)
    assert stream.heard(1) == [FRAME]
    stream.pump.from_application("=")
    assert stream.heard(2) == [SILENCE] * 2
    assert stream.link.sent == []
    stream.pump.from_application(">")
    assert stream.heard(2) == [FRAME, SILENCE]
    assert stream.link.sent == ["played"]


def test_the_pause_holds_for_the_leg_that_replaces_another_and_for_a_new_one(stream: Stream) -> None:
    stream.pump.from_application("=")
    old, stream.leg = stream.leg, stream.new_leg()
    stream.pump.replace(old, stream.leg)
    stream.pump.from_application(FRAME)
    assert stream.heard(1) == [SILENCE]
    stream.pump.remove_leg(stream.leg)
    stream.leg = stream.new_leg()
    stream.pump.play_on(stream.leg)
    stream.pump.from_application(FRAME)
    assert stream.heard(1) == [SILENCE]
    stream.pump.from_application(">")
    assert stream.heard(1) == [FRAME]


def test_a_new_connection_begins_without_a_pause(stream: Stream) -> None:
    stream.pump.from_application("=")
    stream.pump.detach()
    stream.pump.attach(stream.link)  # type: ignore[arg-type]
    stream.pump.from_application(FRAME)
    assert stream.heard(1) == [FRAME]
