"""What only streams on conferences have: their options, and a track that continues by the clock."""

from __future__ import annotations

import pytest

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.streams import silence_fill
from bridge.streams.media_stream_endpoint import MediaStreamOptions
from bridge.streams.silence_fill import fill_silence


def test_options() -> None:
    options = MediaStreamOptions.for_conference({"encapsulation": "sln", "rate": "16000"})
    assert options == MediaStreamOptions("voipbin", {"encapsulation": "sln", "rate": 16000})
    assert options.dialect().rate == 16000


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            {"encapsulation": "sln", "direction_listen": "in"},
            "direction_listen: a stream on a conference",
        ),
        ({"encapsulation": "sln", "direction_speak": "out"}, "direction_speak: "),
        ({"encapsulation": "sln", "direction_speak": "none", "direction_listen": "none"}, "both are none"),
        ({"encapsulation": "sln", "codecs": "ulaw"}, "'codecs' is not an option .* encapsulation, codec, rate, "),
        ({}, "encapsulation must be one of"),
        ({"encapsulation": "rtp", "rate": "16000"}, "8000 Hz only"),
    ],
)
def test_options_that_cannot_be(query: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MediaStreamOptions.for_conference(query)


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_a_track_that_goes_on_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(silence_fill, "time", clock)
    fmt = slin(8000)
    leg = MediaLeg(fmt, Playout(fmt, 1000, 60), Counters())
    heard: list[bytes] = []
    leg.on_audio = heard.append
    fill_silence(leg)
    speech = b"\x01\x02" * 160

    def ticks(seconds: float, pcm: bytes = b"") -> None:
        for _ in range(round(seconds / 0.02)):
            clock.now += 0.02
            if pcm:
                leg.on_audio(pcm)
            assert leg.on_tick is not None
            leg.on_tick()

    ticks(5.0)  # nobody is in it
    assert 4.7 < len(heard) * 0.02 <= 5.0
    assert {len(chunk) for chunk in heard} == {320}
    assert not any(any(chunk) for chunk in heard)
    ticks(5.0, speech)
    assert 9.9 < len(heard) * 0.02 <= 10.1, "what was made up is not heard twice"
    assert sum(chunk == speech for chunk in heard) >= 240
    ticks(5.0)
    assert 14.7 < len(heard) * 0.02 <= 15.1
