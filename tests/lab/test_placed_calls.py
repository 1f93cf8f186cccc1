"""Calls that the bridge places to real phones: how they go, what is heard, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from bridge.calls.acts import NotOurs
from bridge.calls.addresses import Address
from bridge.calls.legs import Leg, LegGone
from bridge.calls.placing import NotAnswered
from bridge.config.calling import CallingConfig
from bridge.errors import AriError, Overloaded
from bridge.testing import judge
from bridge.testing.engine import Lab
from bridge.testing.phone import Phone, PhoneError, Samples
from tests.lab.calling import CALLING, Calling, calling_on
from tests.lab.conftest import Phones

RATE = 8000


@pytest.fixture
async def calling(lab: Lab) -> AsyncIterator[Calling]:
    async with calling_on(lab) as parts:
        yield parts


@contextlib.asynccontextmanager
async def by_hand(phone: Phone, mode: str = "manual") -> AsyncIterator[Phone]:
    """The phone does not answer by itself meanwhile."""
    await phone.command("answermode", mode)
    try:
        yield phone
    finally:
        await phone.command("answermode", "auto")


async def incoming(phone: Phone, timeout_s: float = 15.0) -> None:
    """Waits until the phone is called."""
    await phone._wait(("CALL_INCOMING",), timeout_s)


async def end_of(leg: Leg, phone: Phone) -> Samples:
    """Hangs a leg up; returns what its phone heard in the whole call."""
    await leg.hang_up()
    await phone.ended()
    return phone.recording()


def pcm(hz: float, seconds: float, rate: int = 16000) -> tuple[bytes, int]:
    return judge.tone(hz, seconds, rate).astype("<i2").tobytes(), rate


def seconds_of(heard: Samples, hz: float, level: float = 4000) -> float:
    """For how long a tone is heard."""
    return float(np.count_nonzero(judge.block_levels(heard, RATE, hz, block_s=0.1) > level)) / 10


# How a call goes


async def test_answered_and_hung_up_by_us(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    ringing = await calling.ring("1001", source=Address("tel", "+4930123", "Somebody"))
    leg = await ringing.answered()
    assert leg.answered
    assert leg.id == ringing.id
    async with asyncio.timeout(15):
        while not any("+4930123" in event.peer for event in alice.events):  # the phone's news may be late
            await asyncio.sleep(0.02)
    found = calling.tracker.find(ringing.id)
    assert found is not None
    assert found[0].id == ringing.id
    await leg.hang_up()
    record = calling.record(ringing.id)
    assert (record.hangup_reason, record.hangup_by, record.direction) == ("normal", "local", "outgoing")
    assert calling.told(ringing.id) == ["dialing", "ringing", "progressing", "terminating", "hangup"]
    times = [moment or 0.0 for moment in (record.tm_create, record.tm_ringing, record.tm_progressing, record.tm_hangup)]
    assert None not in times
    assert times == sorted(times)
    with pytest.raises(LegGone):
        await leg.send_digits("1")


async def test_answered_and_hung_up_by_the_phone(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    await asyncio.sleep(0.3)
    await alice.hangup()
    await asyncio.wait_for(leg.ended.wait(), 15)
    record = calling.record(leg.id)
    assert (record.hangup_reason, record.hangup_by, leg.cause) == ("normal", "remote", 16)


async def test_busy(calling: Calling, phones: Phones) -> None:
    (bob,) = await phones("1002")
    async with by_hand(bob):
        ringing = await calling.ring("1002")
        await incoming(bob)
        assert not ringing.leg.answered
        with pytest.raises(NotOurs, match="answered"):
            await calling.acts.transfer(ringing.id, Address("extension", "1001"))
        await bob.command("hangup")  # 486
        with pytest.raises(NotAnswered) as refused:
            await asyncio.wait_for(ringing.answered(), 15)
    assert (refused.value.reason, refused.value.cause) == ("busy", 17)
    record = calling.record(ringing.id)
    assert (record.status, record.hangup_reason, record.hangup_by) == ("hangup", "busy", "remote")
    assert calling.told(ringing.id) == ["dialing", "ringing", "hangup"]


async def test_nobody_answers_in_time(calling: Calling, phones: Phones) -> None:
    (bob,) = await phones("1002")
    async with by_hand(bob):
        ringing = await calling.ring("1002", timeout_s=2)
        with pytest.raises(NotAnswered) as refused:
            await asyncio.wait_for(ringing.answered(), 6)
        await bob.ended()
    assert (refused.value.reason, refused.value.cause) == ("noanswer", 19)
    assert calling.record(ringing.id).hangup_by == "local"


async def test_given_up_while_it_rings(calling: Calling, phones: Phones) -> None:
    (bob,) = await phones("1002")
    async with by_hand(bob):
        ringing = await calling.ring("1002")
        await incoming(bob)
        waiting = asyncio.ensure_future(ringing.answered())
        await asyncio.sleep(0)
        await ringing.cancel()
        with pytest.raises(NotAnswered) as refused:
            await waiting
        await bob.ended()
    assert refused.value.reason == "cancel"
    assert calling.record(ringing.id).hangup_by == "local"
    assert calling.told(ringing.id) == ["dialing", "ringing", "canceling", "hangup"]
    await ringing.cancel()  # twice is fine


async def test_given_up_before_its_channel_is_there(calling: Calling, phones: Phones) -> None:
    (bob,) = await phones("1002")
    create = calling.client.channels.create

    async def slowly(**how: Any) -> Any:
        await asyncio.sleep(0.5)
        return await create(**how)

    calling.client.channels.create = slowly  # type: ignore[method-assign]
    async with by_hand(bob):
        placing = asyncio.ensure_future(calling.ring("1002"))
        await asyncio.sleep(0.2)
        (record,) = calling.records.live()
        async with asyncio.timeout(15):
            await calling.acts.hangup(record.id)
            ringing = await placing
            with pytest.raises(NotAnswered, match="cancel"):
                await ringing.answered()
        with pytest.raises(PhoneError):
            await incoming(bob, 1)
    assert calling.told(record.id) == ["dialing", "canceling", "hangup"]


async def test_not_registered_not_there_and_a_trunk_that_is_silent(calling: Calling) -> None:
    for extension in ("1004", "1999"):
        ringing = await calling.ring(extension)
        with pytest.raises(NotAnswered) as refused:
            await asyncio.wait_for(ringing.answered(), 15)
        assert refused.value.reason == "failed"
        assert calling.told(ringing.id) == ["dialing", "hangup"]
    # Nobody listens where the trunk's far end would be.
    await calling.lab.phone("trunk").stop()
    ringing = await calling.placer.place(Address("tel", "555 9999"), timeout_s=2)
    with pytest.raises(NotAnswered) as refused:
        await asyncio.wait_for(ringing.answered(), 6)
    assert refused.value.reason == "dialout"


async def test_out_by_the_trunk(calling: Calling, phones: Phones) -> None:
    (far,) = await phones("trunk")
    for to in (Address("tel", "+49 (30) 555-99"), Address("sip", f"sip:alice@{far._place.domain}")):
        far.forget()
        ringing = await calling.placer.place(to, anonymous=True)
        if to.type == "sip":
            # The lab's own address: that this comes back to it and is refused shows where it went.
            with pytest.raises(NotAnswered):
                await asyncio.wait_for(ringing.answered(), 10)
            continue
        leg = await asyncio.wait_for(ringing.answered(), 10)
        assert any("anonymous" in event.peer for event in far.events)
        assert calling.record(leg.id).destination == to
        await leg.hang_up()


async def test_what_cannot_be_dialled(calling: Calling) -> None:
    for to, word in (
        (Address("tel", "12&PJSIP/1001"), "digits"),
        (Address("extension", "1001,30"), "extension"),
        (Address("sip", "sip:a/b@c"), "user@host"),
        (Address("", "1001"), "type"),
    ):
        with pytest.raises(ValueError, match=word):
            await calling.placer.place(to)
    assert calling.records.live() == []
    calling.placer._config = CallingConfig(max_calls=0)
    with pytest.raises(ValueError, match="tel_endpoint"):
        await calling.placer.place(Address("tel", "123"))
    with pytest.raises(Overloaded):
        await calling.placer.place(Address("extension", "1001"))


async def test_the_longest_call(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with calling_on(lab, CALLING.model_copy(update={"max_call_s": 1.5})) as calling:
        leg = await calling.call("1001")
        await asyncio.wait_for(leg.ended.wait(), 15)
        record = calling.record(leg.id)
        assert (record.hangup_reason, record.hangup_by) == ("timeout", "local")
        await alice.ended()


async def test_what_comes_before_the_answer_is_heard(calling: Calling, phones: Phones) -> None:
    _, bob = await phones("1001", "1002")
    leg = await calling.call("1001")
    bridge_id = await leg.hold_in_bridge()
    async with by_hand(bob, "early"):
        ringing = await calling.ring("1002", early_media_bridge=bridge_id, originator=leg.id)
        await incoming(bob)
        await asyncio.sleep(0.5)
        assert ringing.leg.bridge_id == bridge_id
        assert not ringing.leg.answered
        assert calling.stasis.bridge_of(ringing.id) == bridge_id
        assert calling.record(ringing.id).master_call_id == leg.id
        found = calling.tracker.find(ringing.id)
        assert found is not None
        assert found[0].id == leg.id
        await bob.command("accept")
        assert (await asyncio.wait_for(ringing.answered(), 15)).bridge_id == bridge_id
    await leg.hang_up()
    await ringing.cancel()


async def test_what_an_earlier_life_left_is_swept(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    earlier = Calling(lab)
    try:
        await earlier.start()
        await earlier.call("1001")
        await earlier.client.stop()  # it dies here, as far as Asterisk can tell
        async with calling_on(lab):
            await alice.ended()
    finally:
        await earlier.stop()


async def test_when_the_bridge_stops_placed_calls_end_and_claimed_ones_go_on(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    calling = Calling(lab)
    claimed: list[Leg] = []
    calling.legs.claim = lambda _, args: list(args) == ["750"]
    calling.legs.on_claimed = lambda leg, _: claimed.append(leg)
    try:
        await calling.start()
        await calling.call("1002")
        await alice.call("750")
        while not claimed:
            await asyncio.sleep(0.02)
        assert not claimed[0].answered
        await claimed[0].hold_in_bridge()
        await alice.answered()
    finally:
        await calling.stop()
    await bob.ended()
    await alice.ended()  # the dialplan's next line hangs up


async def test_asterisk_dies_and_comes_back(lab: Lab, phones: Phones) -> None:
    await phones("1001", "1002")
    async with calling_on(lab) as calling:
        leg = await calling.call("1001")
        bob = lab.phone("1002")
        async with by_hand(bob):
            ringing = await calling.ring("1002")
            await incoming(bob)
            waiting = asyncio.ensure_future(ringing.answered())
            back = asyncio.Event()
            calling.client.on_connected(back.set)
            await lab.restart_asterisk()
            await asyncio.wait_for(back.wait(), 15)
            await calling.tracker.resync()
            await calling.stasis.adopt()
            with pytest.raises(NotAnswered):
                await asyncio.wait_for(waiting, 1)
        assert leg.ended.is_set()
        assert calling.records.live() == []
        # Asterisk has forgotten where the phones are, and a phone that nobody calls does not notice.
        for phone in (lab.phone("1001"), bob):
            phone.forget()
            await phone.stop()


# What is heard


async def test_a_voice_is_heard_whole_and_play_returns_in_time(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    voice = calling.voices.of(leg)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await voice.play(*pcm(700, 5))
    assert 4.7 < loop.time() - began < 5.8
    await voice.play(*pcm(1000, 1, rate=22050))
    await voice.play(b"", 16000)
    await voice.close()
    await voice.close()
    heard = await end_of(leg, alice)
    assert 4.8 <= seconds_of(heard, 700) <= 5.1
    assert 0.8 <= seconds_of(heard, 1000) <= 1.1


async def test_a_voice_that_is_stopped_or_cancelled(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    voice = calling.voices.of(leg)
    playing = [asyncio.ensure_future(voice.play(*pcm(hz, 30))) for hz in (700, 900)]
    await asyncio.sleep(1.2)
    voice.stop()
    await asyncio.wait_for(asyncio.gather(*playing), 0.5)
    cancelled = asyncio.ensure_future(voice.play(*pcm(1100, 30)))
    await asyncio.sleep(1)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    await voice.play(*pcm(1300, 0.5))
    await voice.close()
    heard = await end_of(leg, alice)
    assert 0.7 < seconds_of(heard, 700) < 1.4
    assert seconds_of(heard, 900) == 0
    assert 0.7 < seconds_of(heard, 1100) < 1.2
    assert 0.3 < seconds_of(heard, 1300) < 0.7


async def test_a_voice_whose_party_hangs_up_moves_or_whose_audio_breaks(calling: Calling, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    for phone in (alice, bob):
        phone.play_next(judge.silence(1, RATE))
    leg, other = await asyncio.gather(calling.call("1001"), calling.call("1002"))
    voice = calling.voices.of(leg)
    playing = asyncio.ensure_future(voice.play(*pcm(700, 6)))
    await asyncio.sleep(1.5)
    await leg.move_to(await other.hold_in_bridge())
    await asyncio.sleep(1.5)
    assert voice._tap is not None
    await calling.client.channels.hangup(voice._tap.media_id)
    await playing
    endless = asyncio.ensure_future(voice.play(*pcm(900, 30)))
    await asyncio.sleep(0.5)
    await alice.hangup()
    with pytest.raises(LegGone):
        await asyncio.wait_for(endless, 2)
    await voice.close()
    assert seconds_of(alice.recording(), 700) > 5.0
    heard = await end_of(other, bob)
    assert 3 < seconds_of(heard, 700) < 5  # after the move, both hear it


async def test_keys_come_once_and_in_order(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    await leg.hold_in_bridge()
    watched: list[str] = []
    leg.keys.watch(watched.append)
    await asyncio.sleep(0.3)
    await alice.dtmf("1234567890*#")
    got = []
    while (key := await leg.keys.get(2.0)) is not None:
        got.append(key)
    assert "".join(got) == "1234567890*#" == "".join(watched)
    assert len(leg.keys) == 0
    await leg.send_digits("47")
    await leg.hang_up()
    keys = [event.param for event in alice.events if "DTMF" in event.type and event.param not in ("", "\x00")]
    assert "".join(keys) == "47" or judge.dtmf(await alice.heard(), RATE) == "47"


MUTES = {
    # What is done to Alice: seconds of three in which she hears Bob, and in which Bob hears her.
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
    await asyncio.sleep(1)
    acts = calling.acts
    match act.split():
        case ["mute", direction]:
            await acts.mute(leg.id, direction)  # type: ignore[arg-type]
            assert calling.record(leg.id).mute_direction == direction
        case ["hold"]:
            await acts.hold(leg.id)
            assert calling.record(leg.id).on_hold
        case ["silence"]:
            await acts.silence(leg.id, True)
        case ["moh"]:
            await acts.moh(leg.id, True)
    await asyncio.sleep(1)
    await acts.unmute(leg.id)
    await acts.unhold(leg.id)
    await acts.silence(leg.id, False)
    await acts.moh(leg.id, False)
    assert (calling.record(leg.id).mute_direction, calling.record(leg.id).on_hold) == ("", False)
    await asyncio.sleep(1)
    await asyncio.gather(leg.hang_up(), other.hang_up())
    await asyncio.gather(alice.ended(), bob.ended())
    heard = [seconds_of(alice.recording(), 700), seconds_of(bob.recording(), 1000)]
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
    waiting = asyncio.ensure_future(partners.parted())
    await asyncio.sleep(3)
    await alice.dtmf("5")
    assert await leg.keys.get(2) == "5"
    assert len(other.keys) == 0
    assert not waiting.done()
    await bob.hangup()
    assert await asyncio.wait_for(waiting, 2) is other
    assert leg.bridge_id is not None
    assert not leg.gone.is_set()
    heard = await end_of(leg, alice)
    assert seconds_of(heard, 700) > 2.5
    assert seconds_of(bob.recording(), 1000) > 2.5


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
    recording = await calling.acts.recording_start(call_id, beep=where == "placed")
    assert calling.record(call_id).recording_ids == [recording.id]
    assert calling.record(call_id).recording_id == recording.id
    await asyncio.sleep(3)
    stopped = await calling.acts.recording_stop(call_id)
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
        await calling.acts.recording_stop(call_id)
    await calling.recordings.delete(recording.id)
    with pytest.raises(KeyError):
        calling.recordings.get(recording.id)
    await calling.acts.hangup(call_id)
    if where == "placed":
        await other.hang_up()
    await alice.ended()


async def test_what_ends_a_recording(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    alice.play_next(judge.silence(1, RATE))
    leg = await calling.call("1001")
    await leg.hold_in_bridge()
    by_key = await calling.recordings.start(leg.id, terminate_on="#")
    await asyncio.sleep(0.3)
    await alice.dtmf("1")
    await asyncio.sleep(0.5)
    assert by_key.status == "recording"
    await alice.dtmf("#")
    await asyncio.wait_for(by_key.finished(), 2)
    assert [await leg.keys.get(1), await leg.keys.get(1)] == ["1", "#"]  # whoever waits for keys has them all
    by_length = await calling.recordings.start(leg.id, max_duration_s=1)
    await asyncio.wait_for(by_length.finished(), 3)
    by_silence = await calling.recordings.start(leg.id, max_silence_s=1)
    await asyncio.wait_for(by_silence.finished(), 4)
    by_end = await calling.recordings.start(leg.id)
    await asyncio.sleep(1)
    await alice.hangup()
    await asyncio.wait_for(by_end.finished(), 3)
    assert {each.status for each in (by_key, by_length, by_silence, by_end)} == {"ended"}
    data = b"".join([block async for block in calling.recordings.read(by_end.id)])
    assert len(data) > 8000
    with pytest.raises(ValueError, match="mp3"):
        await calling.recordings.start(leg.id, format="mp3")
    with pytest.raises(AriError):
        await calling.recordings.start(leg.id)
    for recording in calling.recordings.list():
        await calling.recordings.delete(recording.id)


# What can be done with any call


async def test_acts_on_an_ordinary_call(calling: Calling, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.silence(1, RATE))
    await alice.call("1002", play=judge.silence(1, RATE))
    await alice.answered()
    await asyncio.sleep(0.3)
    call_id = next(iter(calling.tracker.calls))
    record = calling.record(call_id)
    assert (record.source.target, record.destination.target, record.status) == ("1001", "1002", "progressing")
    for act in (calling.acts.hold, calling.acts.mute, calling.acts.unmute):
        with pytest.raises(NotOurs, match="controls"):
            await act(call_id)
    await calling.acts.play(call_id, *pcm(700, 1.5))
    await calling.acts.play(call_id, *pcm(1100, 1.5), direction="both")
    await calling.acts.hangup(call_id)
    await asyncio.gather(alice.ended(), bob.ended())
    assert 1.2 < seconds_of(alice.recording(), 700) < 1.8
    assert seconds_of(bob.recording(), 700) == 0
    assert 1.2 < seconds_of(alice.recording(), 1100) < 1.8
    assert 1.2 < seconds_of(bob.recording(), 1100) < 1.8
    record = calling.record(call_id)
    assert (record.direction, record.status, record.hangup_reason) == ("incoming", "hangup", "normal")
    assert record.hangup_by == "local"
    with pytest.raises(KeyError):
        await calling.acts.hangup(call_id)


async def test_acts_on_a_call_that_is_held(calling: Calling, phones: Phones) -> None:
    """A call in our application that no flow has claimed is taken when something is to be done with it."""
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.silence(1, RATE))
    await alice.answered()
    await asyncio.sleep(0.5)
    call_id = next(iter(calling.tracker.calls))
    held_in = calling.stasis.bridge_of(call_id)
    await calling.acts.play(call_id, *pcm(700, 1))
    assert held_in is not None
    assert calling.stasis.bridge_of(call_id) == held_in
    await calling.acts.send_digits(call_id, "9")
    await alice.hangup()
    assert 0.8 < seconds_of(alice.recording(), 700) < 1.3
    await calling.nothing_left()
    assert calling.record(call_id).hangup_by == "remote"


async def test_transfer(calling: Calling, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    alice.play_next(judge.tone(1000, 20, RATE))
    bob.play_next(judge.tone(700, 20, RATE))
    leg = await calling.call("1001")
    stopped: list[str] = []

    async def stop_flow(channel_id: str) -> None:
        stopped.append(channel_id)

    calling.acts.before_transfer = stop_flow
    async with by_hand(bob):
        other_id = await calling.acts.transfer(leg.id, Address("extension", "1002"))
        assert stopped == [leg.id]
        await incoming(bob)
        await asyncio.sleep(2.5)
        await bob.command("accept")
    await asyncio.sleep(2.5)
    assert calling.record(other_id).status == "progressing"
    await bob.hangup()
    await alice.ended()
    heard = alice.recording()
    assert seconds_of(heard, 440, level=3000) > 1  # it rang
    assert seconds_of(heard, 700) > 1.5
    assert seconds_of(bob.recording(), 1000) > 1.5
    with pytest.raises(ValueError, match="digits"):
        await calling.acts.transfer((await calling.call("1001")).id, Address("tel", "x"))
    for live in calling.records.live():
        await calling.acts.hangup(live.id)


async def test_who_is_transferred_is_no_longer_connected_with_the_one_before(calling: Calling, phones: Phones) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    leg, partner = await calling.call("1001"), await calling.call("1002")
    await calling.legs.bridge_together(leg, partner)
    third = calling.legs.get(await calling.acts.transfer(partner.id, Address("extension", "1003")))
    assert third is not None
    async with asyncio.timeout(10):
        while partner.bridge_id is None or third.bridge_id != partner.bridge_id:
            await asyncio.sleep(0.05)
    assert leg.bridge_id not in (None, third.bridge_id)
    # Once more, to the first: who was rung or connected by the transfer before is let go.
    async with by_hand(alice):
        await leg.hang_up()
        await calling.acts.transfer(partner.id, Address("extension", "1001"))
        await incoming(alice)
        await carol.ended(15)
        assert not partner.gone.is_set()
        await calling.acts.transfer(partner.id, Address("extension", "1003"))
        await alice.ended(15)
    await asyncio.sleep(2)
    assert len(calling.records.live()) == 2
    await bob.hangup()
    await carol.ended(15)


async def test_who_is_in_the_dialplan_can_be_hung_up_and_spoken_to_and_no_more(
    calling: Calling, phones: Phones
) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    await leg.hold_in_bridge()
    gone = asyncio.ensure_future(leg.excursion("room-9"))
    await asyncio.sleep(1)
    for act in (calling.acts.transfer(leg.id, Address("extension", "1002")), calling.acts.hold(leg.id)):
        with pytest.raises(NotOurs, match="dialplan"):
            await act
    await asyncio.wait_for(calling.acts.play(leg.id, *pcm(700, 1)), 15)
    assert not leg.gone.is_set()
    await calling.acts.hangup(leg.id)
    with pytest.raises(LegGone):
        await gone
    await alice.ended()
    assert seconds_of(alice.recording(), 700, level=2000) > 0.7


async def test_calls_that_meet_go_on_each_for_itself(calling: Calling, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    legs: list[Leg] = []
    for phone in (alice, bob):
        await phone.call("750", play=judge.silence(1, RATE))
        await phone.answered()
        await asyncio.sleep(0.5)
        (call_id,) = set(calling.tracker.calls) - {leg.id for leg in legs}
        legs.append(calling.acts._leg(call_id, "test"))
    await calling.legs.bridge_together(*legs)
    async with asyncio.timeout(15):
        while len(calling.tracker.calls) > 1:
            await asyncio.sleep(0.05)
    assert [record.id for record in calling.records.live()] == [leg.id for leg in legs]
    assert calling.record(legs[1].id).status == "progressing"
    await bob.hangup()
    await asyncio.wait_for(legs[1].ended.wait(), 15)
    ended = calling.record(legs[1].id)
    assert (ended.status, ended.hangup_reason, ended.hangup_by) == ("hangup", "normal", "remote")
    assert calling.told(ended.id).count("hangup") == 1
    assert [record.id for record in calling.records.live()] == [legs[0].id]
    await alice.hangup()
    await asyncio.wait_for(legs[0].ended.wait(), 15)
    assert calling.records.live() == []


async def test_an_excursion_comes_back(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    await leg.hold_in_bridge()
    gone = asyncio.ensure_future(leg.excursion("room-9"))
    await asyncio.sleep(1)
    assert not gone.done()
    assert leg.bridge_id is None
    assert not leg.gone.is_set()
    await calling.lab.cli("confbridge kick 9 all")
    await asyncio.wait_for(gone, 15)
    await leg.hold_in_bridge()
    voice = calling.voices.of(leg)
    await voice.play(*pcm(700, 1))
    await voice.close()
    await asyncio.wait_for(leg.excursion("amd"), 15)
    assert await leg.get_variable("AMDSTATUS") in ("HUMAN", "MACHINE", "NOTSURE", "HANGUP")
    assert await leg.get_variable("NO_SUCH_VARIABLE") == ""
    gone = asyncio.ensure_future(leg.excursion("room-9"))
    await asyncio.sleep(0.5)
    await alice.hangup()
    with pytest.raises(LegGone):
        await asyncio.wait_for(gone, 15)
    assert 0.8 < seconds_of(alice.recording(), 700) < 1.3


async def test_a_sound_of_asterisks_own(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    await asyncio.wait_for(leg.play_media("sound:beep"), 15)
    endless = asyncio.ensure_future(leg.play_media("tone:440"))
    await asyncio.sleep(1)
    endless.cancel()
    await asyncio.gather(endless, return_exceptions=True)
    await asyncio.sleep(0.5)
    heard = await end_of(leg, alice)
    assert 0.6 < seconds_of(heard, 440, 1000) < 1.6
