"""Audio of another sampling rate than agreed reaches the phone, and the record of the stream has the reason."""

from __future__ import annotations

import asyncio
from typing import Any

from bridge.access import CONFIGURATION
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import RATE
from tests.flow_requests import external_media
from tests.lab.conftest import Phones
from tests.lab.sink import open_sink
from tests.lab.streaming import APPLICATION_HZ, calling, flows
from tests.lab.waiting import until

SENT_RATE = 8000
AGREED_RATE = 16000


async def test_audio_at_half_the_agreed_rate_is_reported(lab: Lab, phones: Phones) -> None:
    """It is heard an octave too high, with holes."""
    (alice,) = await phones("1001")
    tone = judge.tone(APPLICATION_HZ, 60, SENT_RATE).astype("<i2").tobytes()
    step = SENT_RATE // 50 * 2
    async with open_sink() as sink, flows(lab) as flow:
        leg = await calling(flow, alice)
        request = external_media(
            url=sink.url, dialect="vonage", options={"rate": AGREED_RATE}, direction_listen="in", direction_speak="out"
        )
        await flow.streams.external_media_start(leg, request, CONFIGURATION)
        (received,) = await sink.connected(1)

        async def send() -> None:
            clock = asyncio.get_running_loop().time
            began = clock()
            for number, at in enumerate(range(0, len(tone), step)):
                await received.socket.send(tone[at : at + step])
                await asyncio.sleep(began + 0.02 * number - clock())  # one frame

        sending = asyncio.create_task(send())

        async def mismatch() -> Any:
            _, listed = await flow.target.get("/v1.0/streams")
            return listed["result"][0]["rate_mismatch"]

        found = await until(mismatch)
        assert found.endswith(" times real time, as audio at 8000 Hz would")
        assert abs(float(found.split()[0]) - SENT_RATE / AGREED_RATE) < 0.04
        sending.cancel()
        await flow.streams.external_media_stop(leg)
        await flow.target.streams_gone()
        await alice.hangup()
        metrics = await flow.target.text("/metrics")
    assert "asterisk_bridge_rate_mismatches_total 1" in metrics
    levels = judge.block_levels(alice.recording(), RATE, 2 * APPLICATION_HZ)
    assert (levels > 3000).sum() * judge.BLOCK_S > 2
    assert judge.dropouts(alice.recording(), RATE, 2 * APPLICATION_HZ)
