"""DTMF digits of a caller who is faster than the connection to the application: sent after its first messages."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from bridge.dialects.base import TrackInfo
from bridge.dialects.twilio import Twilio
from bridge.streams.tracks import MAX_EARLY_DIGITS
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import Join
from tests.fakes.log_output import log_output
from tests.fakes.virtual_time import until
from tests.fakes.wire import Wire
from tests.unit.streams.one_stream import OneStream

TRACK = WantedTrack(TrackInfo("inbound", "party"), Join("b"), plays=True)


def events(one: OneStream) -> list[str]:
    """Return what the application was sent, digits as digits."""
    messages = [json.loads(text) for text in one.wire.sent if isinstance(text, str) and text.startswith("{")]
    return [message["dtmf"]["digit"] if "dtmf" in message else message["event"] for message in messages]


def agent(*, reachable: bool = True) -> OneStream:
    return OneStream(Twilio(connect=True), "inbound", reachable=reachable)


async def test_digits_before_the_connection_come_after_start() -> None:
    one = agent(reachable=False)
    one.stream.set_tracks([TRACK])
    await until(lambda: one.taps.open_now and one.stream.trouble)
    one.stream.tracks.key_pressed("other", "9")
    for digit in "12#":
        one.stream.tracks.key_pressed("party", digit)
    one.reachable = True
    await until(lambda: one.stream.live)
    assert events(one) == ["connected", "start", "1", "2", "#"]
    one.stream.tracks.key_pressed("party", "3")
    assert events(one)[-1] == "3"
    await one.end()


async def test_digits_before_the_audio_flows_come_when_it_does() -> None:
    one = agent()
    one.taps.admit.clear()
    one.stream.set_tracks([TRACK])
    await until(lambda: one.stream.link is not None)
    one.stream.tracks.key_pressed("party", "1")
    assert events(one) == ["connected", "start"]
    one.taps.admit.set()
    await until(lambda: one.stream.live)
    assert events(one) == ["connected", "start", "1"]
    await one.end()


async def test_digits_while_a_connection_is_lost_go_to_the_next_one() -> None:
    one = agent()
    one.stream.set_tracks([TRACK])
    await until(lambda: one.stream.live)
    first, one.wire = one.wire, Wire()
    one.reachable = False
    first.abort(1006, "gone")
    await until(lambda: one.stream.trouble)
    one.stream.tracks.key_pressed("party", "7")
    one.reachable = True
    await until(lambda: one.stream.live)
    assert events(one) == ["connected", "start", "7"]
    await one.end()


async def test_digits_on_the_audio_connection_itself_wait_too() -> None:
    one = agent(reachable=False)
    await until(lambda: one.stream.trouble)
    leg = one.stream.adopt(TrackInfo("inbound", "party"), uuid4())
    leg.on_dtmf("5")
    one.reachable = True
    await until(lambda: one.stream.live)
    assert events(one) == ["connected", "start", "5"]
    await one.end()


@pytest.mark.parametrize("later", [True, False])
async def test_no_digit_of_a_sensitive_mode_is_kept(later: bool) -> None:
    one = agent(reachable=False)
    one.stream.set_tracks([TRACK])
    await until(lambda: one.taps.open_now and one.stream.trouble)
    one.sensitive = not later
    one.stream.review()
    one.stream.tracks.key_pressed("party", "1")
    one.sensitive = later
    one.stream.review()
    one.reachable = True
    await until(lambda: one.stream.live)
    assert events(one) == ["connected", "start"]
    await one.end()


async def test_digits_that_are_never_sent_are_logged_and_bounded() -> None:
    one = agent(reachable=False)
    one.stream.set_tracks([TRACK])
    await until(lambda: one.taps.open_now and one.stream.trouble)
    for _ in range(MAX_EARLY_DIGITS + 5):
        one.stream.tracks.key_pressed("party", "8")
    with log_output() as output:
        await one.end()
    assert f"track=inbound count={MAX_EARLY_DIGITS}" in output.getvalue()
    assert "888" not in output.getvalue()
