"""Audio that is lost without a connection is counted as time: two tracks that miss 8 s have missed 8 s."""

from __future__ import annotations

import pytest

from bridge.audio.format import slin
from bridge.dialects.base import CallInfo, Dialect, TrackInfo
from bridge.dialects.twilio import Twilio
from bridge.dialects.yeastar import Yeastar
from bridge.media.counters import Counters
from bridge.media.pump import Pump

FRAME = bytes(slin(8000).frame_bytes)


@pytest.mark.parametrize("dialect", [Twilio("both_tracks"), Yeastar()], ids=["begins again", "replays"])
def test_two_tracks_miss_the_time_once(dialect: Dialect) -> None:
    now = [0.0]
    pump = Pump(dialect, Counters(), on_dtmf=print, clock=lambda: now[0])
    pump.opened(CallInfo("c"), ("inbound", "outbound"))
    for track in ("inbound", "outbound"):
        pump.track_started(TrackInfo(track))
    for _ in range(400):
        for track in ("inbound", "outbound"):
            pump.from_call(track, FRAME)
        now[0] += 0.02
    assert pump.missed_ms == pytest.approx(8000, abs=dialect.message_ms * 2)
