"""The AudioSocket server over real loopback connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from bridge.audio.audiosocket import HANGUP_MESSAGE, MessageKind, encode
from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener
from tests.fakes.asterisk import FakeAsterisk

SILENCE_8K = bytes(320)


def new_leg(listener: Listener, rate: int = 8000) -> MediaLeg:
    leg = MediaLeg(slin(rate), Playout(slin(rate), 60_000), listener.counters)
    listener.expect(leg)
    return leg


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    server = Listener(Counters(), handshake_timeout_s=0.2)
    await server.start("127.0.0.1", 0)
    yield server
    await server.stop()
    assert not server.connections
    assert not len(server.wheel)


async def test_silence_flows_from_the_uuid_on_without_being_asked(listener: Listener) -> None:
    leg = new_leg(listener)
    peer = await FakeAsterisk.dial(listener.port, leg.uuid)
    messages = await peer.read_for(1.0)
    assert {(kind, payload) for kind, payload, _ in messages} == {(MessageKind.SLIN, SILENCE_8K)}
    assert 46 <= len(messages) <= 53
    await peer.hang_up()


@pytest.mark.parametrize("rate", [8000, 12000, 16000, 24000, 32000, 44100, 48000, 96000, 192000])
async def test_audio_goes_both_ways_whole_at_every_rate(listener: Listener, rate: int) -> None:
    leg = new_leg(listener, rate)
    heard: list[bytes] = []
    leg.on_audio = heard.append
    frame = leg.fmt.frame_bytes
    out = bytes(i * 7 % 251 for i in range(frame * 5))
    leg.playout.play(out)
    peer = await FakeAsterisk.dial(listener.port, leg.uuid)
    kind = {8000: 0x10, 12000: 0x11, 16000: 0x12, 24000: 0x13, 32000: 0x14, 44100: 0x15, 48000: 0x16}.get(rate)
    frames = [payload for _, payload, _ in await peer.read_for(0.2)]
    assert b"".join(frames[:5]) == out
    said = [bytes([n]) * frame for n in range(3)]
    for payload in said:
        peer.send(kind or {96000: 0x17, 192000: 0x18}[rate], payload)
    await peer.read()
    await peer.read()
    assert heard == said
    await peer.hang_up()


async def test_messages_may_come_in_single_bytes(listener: Listener) -> None:
    leg = new_leg(listener)
    heard: list[bytes] = []
    keys: list[str] = []
    leg.on_audio, leg.on_dtmf = heard.append, keys.append
    peer = await FakeAsterisk.dial(listener.port)
    wire = (
        encode(MessageKind.UUID, leg.uuid.bytes)
        + encode(MessageKind.SLIN, b"ab" * 160)
        + encode(MessageKind.DTMF, b"#")
    )
    for i in range(len(wire)):
        peer.writer.write(wire[i : i + 1])
        if i % 10 == 0:
            await asyncio.sleep(0.001)
    while not keys:
        await peer.read()
    assert heard == [b"ab" * 160]
    assert keys == ["#"]
    await peer.hang_up()


@pytest.mark.parametrize("together", [True, False])
async def test_nothing_is_heard_after_our_hang_up(listener: Listener, together: bool) -> None:
    """Whether the leg hangs up while its first messages are taken apart, or at a frame that comes alone."""
    leg = new_leg(listener)
    heard: list[bytes] = []

    def hear(pcm: bytes) -> None:
        heard.append(pcm)
        leg.close()

    leg.on_audio = hear
    peer = await FakeAsterisk.dial(listener.port)
    uuid, frame = encode(MessageKind.UUID, leg.uuid.bytes), encode(MessageKind.SLIN, b"ab" * 160)
    for part in [uuid + frame] if together else [uuid, frame]:
        peer.writer.write(part)
        await asyncio.sleep(0.05)
    assert heard == [b"ab" * 160]
    peer.writer.write(frame)
    await asyncio.sleep(0.05)
    assert len(heard) == 1
    await peer.hang_up()


async def test_a_uuid_nobody_asked_for_is_refused(listener: Listener) -> None:
    peer = await FakeAsterisk.dial(listener.port, uuid4())
    assert await peer.reader.readexactly(3) == HANGUP_MESSAGE
    assert await peer.ended()
    assert listener.counters.legs_refused == 1


async def test_a_uuid_works_once(listener: Listener) -> None:
    leg = new_leg(listener)
    first = await FakeAsterisk.dial(listener.port, leg.uuid)
    await first.read()
    second = await FakeAsterisk.dial(listener.port, leg.uuid)
    assert await second.reader.readexactly(3) == HANGUP_MESSAGE
    assert len(await first.read_for(0.2)) > 5
    await second.hang_up()
    await first.hang_up()


async def test_a_connection_that_never_says_its_uuid_is_ended(listener: Listener) -> None:
    peer = await FakeAsterisk.dial(listener.port)
    peer.writer.write(encode(MessageKind.UUID, uuid4().bytes)[:10])
    assert await peer.ended(1.0)
    assert listener.counters.legs_refused == 1


@pytest.mark.parametrize(
    "wire",
    [
        b"\x77\x00\x01x",
        b"\x10\x00\x00",
        encode(MessageKind.SLIN, SILENCE_8K),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\x02xx",
    ],
)
async def test_nonsense_ends_the_connection_and_nothing_else(listener: Listener, wire: bytes) -> None:
    leg = new_leg(listener)
    good = await FakeAsterisk.dial(listener.port, leg.uuid)
    await good.read()
    bad = await FakeAsterisk.dial(listener.port)
    bad.writer.write(wire)
    assert await bad.ended()
    assert listener.counters.protocol_errors == 1
    assert len(await good.read_for(0.2)) > 5
    await good.hang_up()


@pytest.mark.parametrize(
    "small", [encode(MessageKind.SLIN, b"ab"), encode(MessageKind.DTMF, b"5")], ids=["audio", "dtmf"]
)
async def test_a_flood_of_small_messages_ends_the_leg_and_nothing_else(listener: Listener, small: bytes) -> None:
    good, bad = new_leg(listener), new_leg(listener)
    patient = await FakeAsterisk.dial(listener.port, good.uuid)
    patient.writer.write(small * 1000)  # a last slice is short, and there may be many of those
    assert len(await patient.read_for(0.2)) > 5
    hasty = await FakeAsterisk.dial(listener.port, bad.uuid)
    hasty.writer.write(small * 2000)
    assert await hasty.ended()
    assert listener.counters.protocol_errors == 1
    assert len(await patient.read_for(0.2)) > 5
    await patient.hang_up()


async def test_the_owner_hears_of_the_end_whoever_ends(listener: Listener) -> None:
    for ours in (True, False):
        leg = new_leg(listener)
        ended = asyncio.Event()
        leg.on_closed = ended.set
        peer = await FakeAsterisk.dial(listener.port, leg.uuid)
        await peer.read()
        if ours:
            leg.close()
            leg.close()
            assert (await peer.read_for(0.5))[-1][:2] == (MessageKind.HANGUP, b"")
        await peer.hang_up()
        await asyncio.wait_for(ended.wait(), 60)
        assert leg.closed


async def test_an_asterisk_that_does_not_close_after_our_hang_up_is_cut_off(listener: Listener) -> None:
    leg = new_leg(listener)
    ended = asyncio.Event()
    leg.on_closed = ended.set
    peer = await FakeAsterisk.dial(listener.port, leg.uuid)
    await peer.read()
    leg.close()
    await asyncio.wait_for(ended.wait(), 60)
    await peer.hang_up()


async def test_an_asterisk_that_does_not_read_costs_frames_not_memory(listener: Listener) -> None:
    leg = new_leg(listener, 192000)
    peer = await FakeAsterisk.dial(listener.port, leg.uuid)
    await peer.read()
    peer.pause_reading()
    async with asyncio.timeout(30):
        while not leg.blocked:
            leg.tick(50)  # what a clock would do in a second
            await asyncio.sleep(0)
    before = listener.counters.frames_blocked
    leg.tick(10)
    assert listener.counters.frames_blocked == before + 10
    peer.writer.transport.abort()


async def test_a_connection_that_is_handed_over_while_asterisk_does_not_read_stays_blocked(listener: Listener) -> None:
    leg, other = new_leg(listener, 192000), MediaLeg(slin(192000), Playout(slin(192000), 1000), listener.counters)
    peer = await FakeAsterisk.dial(listener.port, leg.uuid)
    await peer.read()
    peer.pause_reading()
    async with asyncio.timeout(30):
        while not leg.blocked:
            leg.tick(50)
            await asyncio.sleep(0)
    before = listener.counters.frames_blocked
    leg.hand_over(other)
    other.tick(9)
    assert listener.counters.frames_blocked == before + 10, "the first one when it gets the connection"
    peer.writer.transport.abort()


async def test_our_side_holds_little_for_an_asterisk_that_does_not_read(listener: Listener) -> None:
    leg = new_leg(listener, 16000)
    peer = await FakeAsterisk.dial(listener.port, leg.uuid)
    await peer.read()
    peer.pause_reading()
    async with asyncio.timeout(60):
        while not leg.blocked:
            leg.tick(1)
            await asyncio.sleep(0.001)
    # A send buffer of the kernel's own choice takes minutes. What the other side's kernel takes is up to it: about 5 s
    # here; at 8 kHz and the real pace it is minutes (docs/howto/index.md), and nothing on our side can change that.
    assert listener.counters.frames_to_asterisk * 0.02 < 40
    peer.writer.transport.abort()


async def test_a_leg_whose_tick_fails_is_hung_up_and_its_owner_told(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = new_leg(listener), new_leg(listener)
    ended = asyncio.Event()
    bad.on_closed = ended.set
    peer = await FakeAsterisk.dial(listener.port, bad.uuid)
    other = await FakeAsterisk.dial(listener.port, good.uuid)
    await peer.read()
    await other.read()

    def fail(name: str) -> None:
        raise RuntimeError(name)

    bad.on_mark = fail
    bad.playout.mark("x")
    assert (await peer.read_for(0.5))[-1][:2] == (MessageKind.HANGUP, b"")
    await peer.hang_up()
    await asyncio.wait_for(ended.wait(), 60)
    assert bad.closed
    assert "tick of a leg failed" in caplog.text
    assert len(await other.read_for(0.2)) > 5
    await other.hang_up()


async def test_marks_come_as_their_audio_is_handed_over(listener: Listener) -> None:
    leg = new_leg(listener)
    marks: list[tuple[str, int]] = []
    leg.on_mark = lambda name: marks.append((name, listener.counters.frames_to_asterisk))
    leg.playout.play(SILENCE_8K * 2)
    leg.playout.mark("two")
    leg.playout.play(SILENCE_8K * 3)
    leg.playout.mark("five")
    peer = await FakeAsterisk.dial(listener.port, leg.uuid)
    await peer.read_for(0.3)
    assert marks == [("two", 2), ("five", 5)]
    await peer.hang_up()


async def test_hanging_up_what_asterisk_has_just_closed_is_no_error(listener: Listener) -> None:
    """Its kernel answers our last message with a reset, and then there is nothing to shut down any more."""
    leg = new_leg(listener)
    peer = await FakeAsterisk.dial(listener.port, leg.uuid)
    await peer.read()
    peer.writer.transport.abort()
    await asyncio.sleep(0)  # one turn: it is closed, and our side has not been notified yet
    leg.close()
    async with asyncio.timeout(1):
        while not leg.closed:
            await asyncio.sleep(0.001)


async def test_a_listener_that_stops_hangs_up_its_legs() -> None:
    """An old Asterisk keeps a channel, with a busy thread, whose connection ends without a hang-up."""
    listener = Listener(Counters())
    await listener.start("127.0.0.1", 0)
    leg = new_leg(listener)
    asterisk = await FakeAsterisk.dial(listener.port, leg.uuid)
    await leg.connected.wait()
    reading = asyncio.create_task(asterisk.read_for(60))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(listener.stop())
    messages = await reading
    await asterisk.hang_up()
    await stopping
    assert (messages[-1][0], leg.closed, listener.connections) == (MessageKind.HANGUP, True, set())
