"""An application that sends audio of another sampling rate than agreed is reported once, and its audio played."""

from __future__ import annotations

import pytest

from bridge.dialects.base import Setting, TrackInfo
from bridge.dialects.vonage import Vonage
from bridge.media.leg import MediaLeg
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import Join
from tests.fakes.log_output import log_output
from tests.fakes.taps import playing
from tests.fakes.virtual_time import pass_time
from tests.unit.streams.one_stream import OneStream

WARNING = "audio from the application arrives at the wrong rate"


async def speaking() -> tuple[OneStream, MediaLeg]:
    """Return a stream whose application may speak, and its leg."""
    one = OneStream(Vonage.create({"rate": 16000}, Setting(two_way=True)))
    one.stream.set_tracks([WantedTrack(TrackInfo("mix", "party"), Join("b"), plays=True)])
    await one.stream.settled(1)
    return one, one.taps.leg_at(Join("b"))


async def exchange(one: OneStream, leg: MediaLeg, message: bytes, seconds: float) -> list[bytes | None]:
    """Send a message every 20 ms; return what is played."""
    frames = []
    for _ in range(round(seconds / 0.02)):
        one.wire.on_message(message)
        frames.append(playing(leg))
        await pass_time(0.02)
    return frames


@pytest.mark.parametrize(
    ("samples", "seconds", "received"),
    [
        (160, 10, "0.50 times real time, as audio at 8000 Hz would"),
        (960, 25, "3.00 times real time, as audio at 48000 Hz would"),  # the queue is full after 5 s
    ],
)
async def test_audio_of_another_rate_is_reported_once_and_played_unchanged(
    samples: int, seconds: float, received: str
) -> None:
    one, leg = await speaking()
    with log_output() as output:
        frames = await exchange(one, leg, b"\1\0" * samples, 2 * seconds)
    (line,) = (line for line in output.getvalue().splitlines() if WARNING in line)
    assert f'received="{received}"' in line
    assert "expected=" in line
    assert "audio at 16000 Hz" in line
    assert one.stream.describe()["rate_mismatch"] == received
    assert one.counters.rate_mismatches == 1
    half_a_frame = b"\1\0" * 160 + bytes(320)  # where the audio ends
    assert {frame for frame in frames if frame is not None} <= {b"\1\0" * 320, half_a_frame}
    await one.end()


@pytest.mark.parametrize("samples", [320, 640])
async def test_audio_of_the_agreed_rate_is_not_reported(samples: int) -> None:
    """In real time, and twice as fast while it fits into the queue."""
    one, leg = await speaking()
    with log_output() as output:
        await exchange(one, leg, b"\1\0" * samples, 9)
    assert WARNING not in output.getvalue()
    assert one.stream.describe()["rate_mismatch"] is None
    assert one.counters.rate_mismatches == 0
    await one.end()
