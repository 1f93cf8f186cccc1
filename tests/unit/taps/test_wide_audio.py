"""The channel that tests whether Asterisk carries AudioSocket audio above 8 kHz, while the connection changes."""

from __future__ import annotations

import asyncio

from bridge.calls.ids import OwnIds
from bridge.media.counters import Counters
from bridge.media.listener import Listener
from bridge.taps.taps import Taps
from bridge.taps.wide_audio import TEST_S
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.media_pbx import MediaPbx
from tests.fakes.virtual_time import pass_time, settle


async def test_the_sweep_spares_the_test_of_a_new_connection_while_that_of_the_last_one_ends() -> None:
    listener = Listener(Counters())
    pbx = MediaPbx(listener)
    pbx.version = "20.14.0"
    client = FakeAriClient(pbx)
    taps = Taps(client, listener, OwnIds("bridge"), lambda: "127.0.0.1:9092")
    pbx.gates["/silence$"] = reaches_the_first = asyncio.Event()
    client.connect()
    await settle()
    (first,) = taps.object_ids
    pbx.gates["/silence$"] = reaches_the_second = asyncio.Event()
    client.disconnect()
    client.connect()
    await settle()
    (second,) = taps.object_ids
    assert second != first
    reaches_the_first.set()
    await pass_time(TEST_S + 0.1)
    assert first not in pbx.channels
    assert set(taps.object_ids) == {second}
    reaches_the_second.set()
    await pass_time(TEST_S + 0.1)
    assert not taps.object_ids
    assert second not in pbx.channels
    await taps.stop()
