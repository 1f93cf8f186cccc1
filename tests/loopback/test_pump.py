"""The frame path from a WebSocket client to the AudioSocket wire and back, without a PBX in between."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bridge.audio.audiosocket import MessageKind
from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.dialects.base import Message
from bridge.dialects.voipbin import Voipbin
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener
from bridge.media.picows_link import PicowsLink
from bridge.media.pump import Pump
from bridge.media.shared_leg import SharedLeg
from bridge.media.takeover import take_over
from bridge.streams.silence_fill import fill_silence
from tests.fakes.asterisk import FakeAsterisk

FRAME = 320


class Path:
    """One stream: what a client is connected to, and the Asterisk end of its leg."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.listener = Listener(self.counters)
        self.legs: list[MediaLeg] = []
        self.links: list[PicowsLink] = []
        self.keys: list[str] = []
        self.dialect = Voipbin("sln")
        self.pumps: list[Pump] = []
        self.legs_wanted = 1
        self.lead_ms = 0

    async def upgrade(self, request: web.Request) -> web.Response:
        link = PicowsLink(self.counters, max_unsent_ms=1000, ping_interval_s=20, max_message_bytes=1 << 24)
        self.links.append(link)
        pump = Pump(self.dialect, self.counters, on_dtmf=self.keys.append)
        pump.attach(link)
        self.pumps.append(pump)
        for _ in range(self.legs_wanted):
            leg = MediaLeg(slin(8000), Playout(slin(8000), 600_000, self.lead_ms), self.counters)
            self.listener.expect(leg)
            pump.play_on(leg)
            self.legs.append(leg)
        pump.capture(self.legs[0], "both")
        take_over(request, link.protocol())
        return web.Response()


@pytest.fixture
async def path() -> AsyncIterator[Path]:
    made = Path()
    await made.listener.start("127.0.0.1", 0)
    application = web.Application()
    application.router.add_get("/", made.upgrade)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]  # type: ignore[attr-defined]
    yield made
    for link in made.links:
        link.abort(1001, "test over")
    await made.listener.stop()
    await runner.cleanup()


async def open_path(path: Path) -> tuple[ClientConnection, FakeAsterisk]:
    client = await connect(f"ws://127.0.0.1:{path.port}/", compression=None)  # type: ignore[attr-defined]
    peer = await FakeAsterisk.dial(path.listener.port, path.legs[0].uuid)
    return client, peer


async def test_what_the_call_says_arrives_in_order_and_whole(path: Path) -> None:
    client, peer = await open_path(path)
    for n in range(50):
        peer.send(MessageKind.SLIN, bytes([n]) * FRAME)
    assert [await client.recv() for _ in range(50)] == [bytes([n]) * FRAME for n in range(50)]
    await client.close()
    await peer.hang_up()


async def test_a_file_in_one_message_leaves_one_frame_each_20_ms(path: Path) -> None:
    client, peer = await open_path(path)
    await client.send(b"".join(bytes([n + 1]) * FRAME for n in range(100)))
    frames = [(payload, at) for _, payload, at in await peer.read_for(2.3) if any(payload)]
    assert [payload[0] for payload, _ in frames] == list(range(1, 101))
    took = frames[-1][1] - frames[0][1]
    assert abs(took - 99 * 0.02) < 0.03
    await client.close()
    await peer.hang_up()


async def test_blocks_of_any_size_at_the_right_pace_play_without_a_gap(path: Path) -> None:
    path.lead_ms = 40
    client, peer = await open_path(path)
    audio = bytes(n % 255 + 1 for n in range(160 * 2 * 50))  # one second

    async def talk() -> None:
        sent = 0
        for size in itertools.cycle((111, 640, 3, 500, 86)):  # in bytes, odd ones too
            await client.send(audio[sent : sent + size])
            sent += size
            if sent >= len(audio):
                return
            await asyncio.sleep(size / 16000 * 0.9)

    _, messages = await asyncio.gather(talk(), peer.read_for(1.6))
    frames = [payload for _, payload, _ in messages]
    first = next(i for i, payload in enumerate(frames) if any(payload))
    assert b"".join(frames[first : first + 50]) == audio
    await client.close()
    await peer.hang_up()


async def test_clear_stops_the_wire_within_60_ms_and_answers_the_marks(path: Path) -> None:
    client, peer = await open_path(path)
    await client.send(b"\x01" * FRAME * 500)
    await client.send(json.dumps({"event": "mark", "mark": {"name": "never"}}))
    await peer.read_for(0.5)
    cleared = asyncio.get_running_loop().time()
    await client.send('{"event": "clear"}')
    messages = await peer.read_for(0.5)
    sounding = [at - cleared for _, payload, at in messages if any(payload)]
    assert max(sounding, default=0) < 0.06
    assert json.loads(await client.recv()) == {"event": "mark", "mark": {"name": "never"}}
    await client.send(b"\x02" * FRAME)  # and the next words are heard
    assert [payload[0] for _, payload, _ in await peer.read_for(0.2) if any(payload)] == [2]
    await client.close()
    await peer.hang_up()


async def test_two_legs_play_the_same_and_marks_come_once(path: Path) -> None:
    path.legs_wanted = 2
    client, peer = await open_path(path)
    second = await FakeAsterisk.dial(path.listener.port, path.legs[1].uuid)
    await client.send(b"\x01" * FRAME * 5)
    await client.send('{"event": "mark", "mark": {"name": "a"}}')
    heard = await asyncio.gather(peer.read_for(0.3), second.read_for(0.3))
    assert [sum(any(payload) for _, payload, _ in messages) for messages in heard] == [5, 5]
    assert json.loads(await client.recv())["mark"]["name"] == "a"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.recv(), 0.1)
    await client.close()
    await peer.hang_up()
    await second.hang_up()


async def test_an_application_that_does_not_read_never_holds_up_asterisk(path: Path) -> None:
    client, peer = await open_path(path)
    client.transport.pause_reading()
    frame = bytes(FRAME)
    async with asyncio.timeout(60):
        while not path.counters.messages_dropped:
            for _ in range(200):
                peer.send(MessageKind.SLIN, frame)
            await asyncio.wait_for(peer.writer.drain(), 60)  # Asterisk's writes always get through
    before = path.counters.frames_from_asterisk
    peer.send(MessageKind.SLIN, frame)
    await peer.read_for(0.1)
    assert path.counters.frames_from_asterisk > before
    assert path.links[0].unsent_ms <= 1000
    client.transport.abort()
    await peer.hang_up()


class Broken(Voipbin):
    """A dialect with faults of its own."""

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:
        raise RuntimeError(f"mark {name} at {now}")

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        raise RuntimeError(f"{reason} at {now}: {error}")


async def test_a_dialect_that_fails_at_a_mark_costs_its_stream_and_no_leg(path: Path) -> None:
    path.dialect = Broken("sln")
    client, peer = await open_path(path)
    await client.send(b"\x01" * FRAME)
    await client.send('{"event": "mark", "mark": {"name": "a"}}')
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(client.recv(), 60)
    assert client.close_code == 1011
    assert len(await peer.read_for(0.2)) > 5
    assert not path.legs[0].closed
    await peer.hang_up()


async def test_a_dialect_that_fails_at_the_end_does_not_keep_the_stream_from_ending(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.dialect = Broken("sln")
    client, peer = await open_path(path)
    path.pumps[0].closed("call ended", "audio_lost")
    (failure,) = (record.exc_info[1] for record in caplog.records if record.exc_info)
    assert isinstance(failure, RuntimeError)  # not a TypeError of this test's own dialect
    assert "audio_lost" in str(failure)
    path.links[0].close(1000, "call ended")
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(client.recv(), 60)
    assert client.close_code == 1000
    await peer.hang_up()


async def test_a_message_with_too_much_in_it_costs_its_own_stream(path: Path) -> None:
    path.dialect = Voipbin("audiosocket")
    client, peer = await open_path(path)
    await client.send(b"\x10\x00\x02ab" * 3_000_000)
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(client.recv(), 60)
    assert client.close_code == 1008
    assert client.close_reason == "more than 60000 AudioSocket messages in one message"
    await peer.hang_up()


async def test_keys_and_nonsense(path: Path) -> None:
    client, peer = await open_path(path)
    await client.send('{"event": "dtmf", "dtmf": {"digits": "12#"}}')
    await client.send("no json")
    await client.send('{"event": "unheard of"}')
    peer.send(MessageKind.SLIN, bytes(FRAME))
    await client.recv()
    assert path.keys == ["12#"]
    assert client.close_code is None
    await client.close()
    await peer.hang_up()


async def test_a_silent_stream_receives_silence_of_the_same_length_and_no_digits(path: Path) -> None:
    client, peer = await open_path(path)
    (pump,) = path.pumps
    loud = b"\1\2" * (FRAME // 2)
    peer.send(MessageKind.SLIN, loud)
    assert await client.recv() == loud
    pump.silent = True
    peer.send(MessageKind.SLIN, loud)
    assert await client.recv() == bytes(FRAME)
    # A leg that takes the place of a broken one, and one that is added, are silent as well.
    other = MediaLeg(slin(8000), Playout(slin(8000), 1000, 0), path.counters)
    pump.capture(other, "both")
    fresh = MediaLeg(slin(8000), Playout(slin(8000), 1000, 0), path.counters)
    pump.replace(other, fresh)
    for leg in (other, fresh):
        leg.received_frame(loud)
        assert await client.recv() == bytes(FRAME)
    await client.send(loud)  # what the application sends is still played
    while (await peer.read())[1] != loud:
        pass
    pump.silent = False
    fresh.received_frame(loud)
    assert await client.recv() == loud
    peer.send(MessageKind.SLIN, loud)
    assert await client.recv() == loud
    pump.remove_leg(fresh)
    pump.silent = True
    assert not fresh.silent
    await client.close()
    await peer.hang_up()


async def test_silence_of_one_listener_is_not_that_of_others() -> None:
    """Streams that share a connection: each gets what it should, also after others have come and gone."""
    counters, fmt = Counters(), slin(8000)
    shared = SharedLeg(fmt, counters)
    heard: dict[str, bytes] = {}
    legs = {name: MediaLeg(fmt, Playout(fmt, 1000, 0), counters) for name in ("one", "two")}
    for name, leg in legs.items():
        leg.on_audio = partial(heard.__setitem__, name)
        shared.join(leg)
    loud = b"\1\2" * (FRAME // 2)
    legs["one"].silent = True
    shared.received_frame(loud)
    assert heard == {"one": bytes(FRAME), "two": loud}
    shared.leave(legs["two"])
    shared.received_frame(loud)
    assert heard["one"] == bytes(FRAME)
    legs["one"].silent = False
    shared.received_frame(loud)
    assert heard["one"] == loud


async def test_a_steady_track_is_silent_too() -> None:
    leg = MediaLeg(slin(8000), Playout(slin(8000), 1000, 0), Counters())
    heard: list[bytes] = []
    leg.silent = True
    leg.on_audio = heard.append
    fill_silence(leg)
    leg.received_frame(b"\1\2" * (FRAME // 2))
    leg.silent = False
    leg.received_frame(b"\1\2" * (FRAME // 2))
    assert b"".join(heard).startswith(bytes(FRAME))
    assert any(b"".join(heard))
