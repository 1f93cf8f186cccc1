"""What is heard in calls with real phones: voices, keys, mute and hold, each other, and the same in recordings."""

from __future__ import annotations

import asyncio
import io
import wave

import numpy as np
import pytest

from bridge.access import CONFIGURATION
from bridge.control.legs import LegEnded
from bridge.errors import AriError
from bridge.testing import judge
from tests.lab.calling import Calling, end_of, pcm
from tests.lab.conftest import Phones
from tests.lab.driving import HALF, RATE, seconds_of
from tests.lab.waiting import PATIENCE_S, sends


@pytest.mark.quick
async def test_a_voice_is_heard_whole_and_play_returns_in_time(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    player = calling.players.of(leg)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await player.play(*pcm(700, 5))
    assert 4.7 < loop.time() - began < 5.8
    await player.play(*pcm(1000, 1, rate=22050))
    await player.play(b"", 16000)
    await player.close()
    await player.close()
    heard = await end_of(leg, alice)
    assert 4.8 <= seconds_of(heard, 700, HALF) <= 5.1
    assert 0.8 <= seconds_of(heard, 1000, HALF) <= 1.1


async def test_a_voice_that_is_stopped_or_cancelled(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    player = calling.players.of(leg)
    playing = [asyncio.ensure_future(player.play(*pcm(hz, 30))) for hz in (700, 900)]
    await sends(alice, 1.2)
    player.stop()
    await asyncio.wait_for(asyncio.gather(*playing), 10)  # not after 30 s of audio
    cancelled = asyncio.ensure_future(player.play(*pcm(1100, 30)))
    await sends(alice, 1)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    await player.play(*pcm(1300, 0.5))
    await player.close()
    heard = await end_of(leg, alice)
    assert 0.7 < seconds_of(heard, 700, HALF) < 1.4
    assert seconds_of(heard, 900, HALF) == 0
    assert 0.7 < seconds_of(heard, 1100, HALF) < 1.2
    assert 0.3 < seconds_of(heard, 1300, HALF) < 0.7


async def test_a_voice_whose_party_hangs_up_moves_or_whose_audio_breaks(calling: Calling, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    for phone in (alice, bob):
        phone.play_next(judge.silence(1, RATE))
    leg, other = await asyncio.gather(calling.call("1001"), calling.call("1002"))
    player = calling.players.of(leg)
    playing = asyncio.ensure_future(player.play(*pcm(700, 6)))
    await sends(alice, 1.5)
    await leg.move_to(await other.hold_in_bridge())
    await sends(alice, 1.5)
    assert player._tap is not None
    assert player._tap.media_id is not None
    await calling.client.channels.hangup(player._tap.media_id)
    await playing
    endless = asyncio.ensure_future(player.play(*pcm(900, 30)))
    await sends(alice, 0.5)
    await alice.hangup()
    with pytest.raises(LegEnded):
        await asyncio.wait_for(endless, 10)
    await player.close()
    assert seconds_of(alice.recording(), 700, HALF) > 5.0
    heard = await end_of(other, bob)
    assert 3 < seconds_of(heard, 700, HALF) < 5  # after the move, both hear it


async def test_keys_come_once_and_in_order(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    await leg.hold_in_bridge()
    watched: list[str] = []
    leg.digits.watch(watched.append)
    await sends(alice, 0.3)
    await alice.dtmf("1234567890*#")
    got = []
    while (key := await leg.digits.get(2.0)) is not None:
        got.append(key)
    assert "".join(got) == "1234567890*#" == "".join(watched)
    assert len(leg.digits) == 0
    await leg.send_digits("47")
    await leg.hang_up()
    keys = [event.param for event in alice.events if "DTMF" in event.type and event.param not in ("", "\x00")]
    assert "".join(keys) == "47" or judge.dtmf(await alice.heard(), RATE) == "47"


MUTES = {
    # Alice's mute: in how many of three seconds Alice hears Bob, and Bob hears Alice.
    "mute in": (3.0, 2.0),
    "mute out": (2.0, 3.0),
    "mute both": (2.0, 2.0),
    "hold": (2.0, 3.0),
    "silence": (2.0, 3.0),
    "moh": (2.0, 3.0),
}


@pytest.mark.parametrize("act", MUTES)
async def test_mute_hold_silence_and_music(calling: Calling, phones: Phones, act: str) -> None:
    alice, bob = await phones("1001", "1002")
    alice.play_next(judge.tone(1000, 20, RATE))
    bob.play_next(judge.tone(700, 20, RATE))
    leg, other = await asyncio.gather(calling.call("1001"), calling.call("1002"))
    await calling.legs.bridge_together(leg, other)
    await sends(alice, 1)
    call_control = calling.call_control
    match act.split():
        case ["mute", direction]:
            await call_control.mute(leg.id, direction)  # type: ignore[arg-type]
            assert calling.record(leg.id).mute_direction == direction
        case ["hold"]:
            await call_control.hold(leg.id)
            assert calling.record(leg.id).on_hold
        case ["silence"]:
            await call_control.silence(leg.id, True)
        case ["moh"]:
            await call_control.moh(leg.id, True)
    await sends(alice, 1)
    await call_control.unmute(leg.id)
    await call_control.unhold(leg.id)
    await call_control.silence(leg.id, False)
    await call_control.moh(leg.id, False)
    assert (calling.record(leg.id).mute_direction, calling.record(leg.id).on_hold) == ("", False)
    await sends(alice, 1)
    await asyncio.gather(leg.hang_up(), other.hang_up())
    await asyncio.gather(alice.ended(), bob.ended())
    heard = [seconds_of(alice.recording(), 700, HALF), seconds_of(bob.recording(), 1000, HALF)]
    assert heard == pytest.approx(list(MUTES[act]), abs=0.35)


async def test_two_phones_hear_each_other_until_one_leaves(calling: Calling, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    alice.play_next(judge.tone(1000, 20, RATE))
    bob.play_next(judge.tone(700, 20, RATE))
    leg, other = await asyncio.gather(calling.call("1001"), calling.call("1002"))
    moved: list[str] = []
    calling.legs.on_moved = moved.append
    partners = await calling.legs.bridge_together(leg, other)
    assert moved == [leg.id, other.id]
    waiting = asyncio.ensure_future(partners.peer_left())
    await sends(alice, 3)
    await alice.dtmf("5")
    assert await leg.digits.get(2) == "5"
    assert len(other.digits) == 0
    assert not waiting.done()
    await bob.hangup()
    assert await asyncio.wait_for(waiting, PATIENCE_S) is other
    assert leg.bridge_id is not None
    assert not leg.gone.is_set()
    heard = await end_of(leg, alice)
    assert seconds_of(heard, 700, HALF) > 2.5
    assert seconds_of(bob.recording(), 1000, HALF) > 2.5


@pytest.mark.parametrize("where", ["placed", "ordinary"])
async def test_a_recording_holds_both_sides(calling: Calling, phones: Phones, where: str) -> None:
    alice, bob = await phones("1001", "1002")
    alice.play_next(judge.tone(1000, 20, RATE))
    bob.play_next(judge.tone(700, 20, RATE))
    if where == "placed":
        leg, other = await asyncio.gather(calling.call("1001"), calling.call("1002"))
        await calling.legs.bridge_together(leg, other)
        call_id = leg.id
    else:
        await alice.call("1002")
        await alice.answered()
        call_id = next(iter(calling.tracker.calls))
    recording = await calling.call_control.recording_start(call_id, beep=where == "placed", principal=CONFIGURATION)
    assert calling.record(call_id).recording_ids == [recording.id]
    assert calling.record(call_id).recording_id == recording.id
    await sends(alice, 3)
    stopped = await calling.call_control.recording_stop(call_id)
    assert stopped is recording
    assert recording.status == "ended"
    assert calling.record(call_id).recording_id == ""
    assert 2 <= recording.duration_s <= 4
    data = b"".join([block async for block in calling.recordings.read(recording.id)])
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert 2.4 < len(samples) / 8000 < 3.6  # the beep is not in it
    middle = samples[len(samples) // 2 : len(samples) // 2 + 8000]
    assert judge.level_of(middle, 1000, 8000) > 3000
    assert judge.level_of(middle, 700, 8000) > 3000
    with pytest.raises(KeyError):
        await calling.call_control.recording_stop(call_id)
    await calling.recordings.delete(recording.id)
    with pytest.raises(KeyError):
        calling.recordings.get(recording.id)
    await calling.call_control.hangup(call_id)
    if where == "placed":
        await other.hang_up()
    await alice.ended()


async def test_what_ends_a_recording(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    alice.play_next(judge.silence(1, RATE))
    leg = await calling.call("1001")
    await leg.hold_in_bridge()
    by_key = await calling.recordings.start(leg.id, terminate_on="#", principal=CONFIGURATION)
    await sends(alice, 0.3)
    await alice.dtmf("1")
    await sends(alice, 0.5)
    assert by_key.status == "recording"
    await alice.dtmf("#")
    await asyncio.wait_for(by_key.finished(), PATIENCE_S)
    assert [await leg.digits.get(1), await leg.digits.get(1)] == ["1", "#"]  # a recording leaves the digits to others
    by_length = await calling.recordings.start(leg.id, max_duration_s=1, principal=CONFIGURATION)
    await asyncio.wait_for(by_length.finished(), PATIENCE_S)
    by_silence = await calling.recordings.start(leg.id, max_silence_s=1, principal=CONFIGURATION)
    await asyncio.wait_for(by_silence.finished(), PATIENCE_S)
    by_end = await calling.recordings.start(leg.id, principal=CONFIGURATION)
    await sends(alice, 1)
    await alice.hangup()
    await asyncio.wait_for(by_end.finished(), PATIENCE_S)
    assert {each.status for each in (by_key, by_length, by_silence, by_end)} == {"ended"}
    data = b"".join([block async for block in calling.recordings.read(by_end.id)])
    assert len(data) > 8000
    with pytest.raises(ValueError, match="mp3"):
        await calling.recordings.start(leg.id, format="mp3", principal=CONFIGURATION)
    with pytest.raises(AriError):
        await calling.recordings.start(leg.id, principal=CONFIGURATION)
    for recording in calling.recordings.list():
        await calling.recordings.delete(recording.id)
