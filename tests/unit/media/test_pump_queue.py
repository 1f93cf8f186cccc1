"""A full queue: each message from an application is played whole or not at all, and the application is notified."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.dialects.base import Dialect, Message
from bridge.dialects.twilio import Twilio
from bridge.dialects.voipbin import Voipbin
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump
from bridge.testing import peer

FMT = slin(8000)
SECOND = b"\1\0" * 8000


class FakeLink:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.closed_with: tuple[int, str] | None = None

    def send(self, message: Message, _: float) -> None:
        self.sent.append(message)

    def close(self, code: int, reason: str) -> None:
        self.closed_with = (code, reason)


class Way:
    """An application's way into a call: a pump, and legs whose queues refuse audio from 1 s on."""

    def __init__(self, dialect: Dialect, legs: int = 1) -> None:
        self.counters = Counters()
        self.refused: list[float] = []
        self.pump = Pump(dialect, self.counters, on_dtmf=print, on_refused=self.refused.append)
        self.legs = [MediaLeg(FMT, Playout(FMT, 1000), self.counters) for _ in range(legs)]
        for leg in self.legs:
            self.pump.play_on(leg)
        self.link = FakeLink()
        self.pump.attach(self.link)  # type: ignore[arg-type]

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.pump.from_application(message)

    def queued_ms(self) -> Sequence[float]:
        return [leg.playout.queued_ms for leg in self.legs]


def test_a_file_longer_than_the_queue_is_played_whole() -> None:
    way = Way(Voipbin("sln"))
    way.send(SECOND * 60)
    assert way.queued_ms() == [60_000]
    assert (way.refused, way.pump.dropped_ms) == ([], 0)


def test_music_that_is_sent_too_fast_stays_whole() -> None:
    """A file of 4 s each second: every message that is played is played to its end, and the others leave no trace."""
    way = Way(Voipbin("sln"))
    heard = b""
    sent = [bytes([n, 0]) * 32_000 for n in range(1, 21)]
    for message in sent:
        way.send(message)
        heard += b"".join(way.legs[0].playout.take() or b"" for _ in range(50))
    heard += b"".join(way.legs[0].playout.take() or b"" for _ in range(1000))
    played = [heard[at : at + 64_000] for at in range(0, len(heard), 64_000)]
    assert all(each in sent for each in played)
    assert len(played) == 5
    assert way.refused == [4000.0] * (20 - len(played))
    assert way.pump.dropped_ms == way.counters.dropped_from_application_ms == sum(way.refused)


def test_all_audio_of_one_message_is_one() -> None:
    """Two kinds of AudioSocket messages are two pieces of audio at two rates."""
    pieces = peer.audiosocket_messages(SECOND * 2), peer.audiosocket_messages(SECOND * 4, 640, 0x12)
    message = b"".join(pieces[0] + pieces[1])
    way = Way(Voipbin("audiosocket"))
    way.send(message, message)
    assert way.queued_ms() == [pytest.approx(4000, abs=0.2)]
    assert [round(each) for each in way.refused] == [4000]  # one report for each message


def test_what_one_leg_plays_all_play() -> None:
    way = Way(Voipbin("sln"), legs=2)
    way.send(SECOND[:-320])
    way.legs[1].playout.play(SECOND)  # a tick apart, they differ by a frame; here by more
    way.send(SECOND, SECOND)
    assert way.queued_ms() == [1980, 2980]
    assert way.refused == [1000]


def test_an_application_that_sets_marks_is_notified_in_text_and_no_other() -> None:
    way = Way(Voipbin("sln"))
    way.send(SECOND, SECOND, '{"event":"clear"}', SECOND, SECOND)
    assert way.refused == [1000, 1000]
    assert way.link.sent == []
    way.send('{"event":"mark","mark":{"name":"end"}}', SECOND * 3)
    assert [json.loads(each) for each in way.link.sent] == [{"event": "refused", "refused": {"duration_ms": 3000}}]


def test_twilio_has_no_word_for_it() -> None:
    way = Way(Twilio(connect=True))
    media = json.dumps({"event": "media", "media": {"payload": "//8A" * 4000}})
    way.send(media, media)
    assert way.refused == [1500]
    assert way.link.sent == []
    assert way.link.closed_with is None
