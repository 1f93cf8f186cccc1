"""A phone calls the Stasis extension; an application gets its audio and answers, in each encapsulation, exactly."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from bridge.testing import judge, modem, peer
from tests.lab.conftest import Phones
from tests.lab.encapsulations import from_messages, text_of, to_messages
from tests.lab.target import Target
from tests.lab.waiting import sends

RATE = 8000
LEAD_S = 2.0
"""Carrier before the first character: the stream has to be open by then."""

SECONDS = 30.0
"""How long data is sent, each way."""
AHEAD = 10
"""Messages sent ahead of real time, as applications do that know that their own clock is not the phone's."""


@pytest.mark.core
async def test_data_over_audio_both_ways_at_once_in_every_encapsulation(target: Target, phones: Phones) -> None:
    """Three calls at a time, data in both directions of each, not one wrong character."""
    names = {"rtp": "1001", "sln": "1002", "audiosocket": "1003"}
    started = dict(zip(names, await phones(*names.values()), strict=True))

    async def converse(encapsulation: str, seed: int) -> None:
        phone = started[encapsulation]
        from_phone, from_application = text_of(SECONDS, seed), text_of(SECONDS, seed + 100)
        await phone.call("750", play=modem.modulate(from_phone, RATE, lead_s=LEAD_S))
        await phone.answered()
        call = await target.call_from(phone.name)
        async with target.stream(call["id"], encapsulation=encapsulation) as application:
            said = to_messages(encapsulation, modem.modulate(from_application, RATE, lead_s=LEAD_S))
            await application.play(said[:AHEAD], every_s=0)
            await application.play(said[AHEAD:])
            await sends(phone, 1.5)
            heard = from_messages(encapsulation, application.binary)
        await phone.hangup()
        assert modem.demodulate(heard, RATE) == from_phone
        assert modem.demodulate(phone.recording(), RATE) == from_application

    await asyncio.gather(*(converse(encapsulation, seed) for seed, encapsulation in enumerate(names)))


@pytest.mark.quick
@pytest.mark.core
async def test_the_first_audio_comes_at_once_and_the_round_trip_is_short(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call("750", play=np.concatenate([judge.silence(1.5, RATE), judge.sweep(2.0, RATE)]))
    await alice.answered()
    call = await target.call_from("1001")
    began = time.monotonic()
    async with target.stream(call["id"], encapsulation="sln") as application:
        first = (await application.heard(1))[0]
        assert first.at - began < 0.5
        sent = 0
        until = time.monotonic() + 5
        while time.monotonic() < until:  # an echo
            await application.heard(sent + 1)
            await application.send(application.messages[sent].data)
            sent += 1
        await alice.hangup()
    said, heard = alice.sent(), alice.recording()
    # Both recordings end with the call, but what was heard begins only with the first packet.
    aligned = np.concatenate([judge.silence((len(said) - len(heard)) / RATE, RATE), heard])
    round_trip = judge.delay(said, aligned, RATE)
    print(f"round trip phone -> application -> phone: {round_trip.seconds * 1000:.0f} ms")
    assert round_trip.likeness > 0.5
    assert 0 < round_trip.seconds < 0.4


async def test_wider_audio_and_other_codecs(target: Target, phones: Phones) -> None:
    """The options ``rate`` and ``codec``: several streams with different ones on the same call."""
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.tone(1000, 8, RATE))
    await alice.answered()
    call = (await target.call_from("1001"))["id"]
    async with (
        target.stream(call, encapsulation="sln", rate=16000) as wide,
        target.stream(call, encapsulation="audiosocket", rate=24000) as wider,
        target.stream(call, encapsulation="rtp", codec="slin") as linear_rtp,
        target.stream(call, encapsulation="rtp", codec="alaw") as alaw,
        target.stream(call, encapsulation="sln", codec="ulaw") as ulaw,
    ):
        streams = [wide, wider, linear_rtp, alaw, ulaw]
        await asyncio.gather(*(stream.heard(100) for stream in streams))
        assert {len(m) for m in wide.binary} == {640}
        assert judge.level_of(peer.samples_of(b"".join(wide.binary[-50:])), 1000, 16000) > 7000
        assert {(m[0], len(m)) for m in wider.binary} == {(0x13, 963)}
        assert judge.level_of(peer.samples_of(peer.audiosocket_audio(wider.binary[-50:])[1]), 1000, 24000) > 7000
        types, payload = peer.rtp_payloads(linear_rtp.binary[-50:])
        assert set(types) == {96}
        assert judge.level_of(peer.samples_of(payload), 1000, RATE) > 7000
        assert {(m[1] & 0x7F, len(m)) for m in alaw.binary} == {(8, 172)}
        assert {len(m) for m in ulaw.binary} == {160}
        assert judge.level_of(peer.ulaw_samples(b"".join(ulaw.binary[-50:])), 1000, RATE) > 7000
        # Speaking wide is heard too, by the phone and by the other streams, but not by the speaker itself.
        await wide.send(judge.tone(700, 2.0, 16000).astype("<i2").tobytes())
        await sends(alice, 1.5)
        assert judge.level_of(peer.ulaw_samples(b"".join(ulaw.binary[-25:])), 700, RATE) > 6000
        assert judge.level_of(peer.samples_of(b"".join(wide.binary[-25:])), 700, 16000) < 100
        await sends(alice, 1)
    await alice.hangup()
    assert judge.block_levels(alice.recording(), RATE, 700).max() > 6000


async def test_what_applications_in_the_wild_send(target: Target, phones: Phones) -> None:
    """Headerless audio as RTP, bare PCM under audiosocket, odd lengths, silence as RTP: all heard, nothing harmed."""
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.tone(1000, 20, RATE))
    await alice.answered()
    call = (await target.call_from("1001"))["id"]

    def tone(hz: float) -> peer.Samples:
        return judge.tone(hz, 1.0, RATE)

    async with (
        target.stream(call, encapsulation="rtp") as headerless,
        target.stream(call, encapsulation="audiosocket") as bare,
        target.stream(call, encapsulation="sln") as odd,
        target.stream(call, encapsulation="rtp") as zeros,
    ):
        for message in peer.frames(peer.ulaw_bytes(tone(500)), 160):
            await headerless.send(message)
        await sends(alice, 1.5)
        for message in peer.frames(tone(700).astype("<i2").tobytes(), 320):
            await bare.send(message)
        await sends(alice, 1.5)
        for message in peer.frames(tone(900).astype("<i2").tobytes(), 333):
            await odd.send(message)
        await sends(alice, 1.5)
        await zeros.send(bytes(172))
        await zeros.send("text that means nothing")
        await sends(alice, 0.2)
        for stream in (headerless, bare, odd, zeros):
            assert stream.close_code is None
    await alice.hangup()
    heard = alice.recording()
    for hz in (500, 700, 900):
        levels = judge.block_levels(heard, RATE, hz, block_s=0.1)
        assert 9 <= np.count_nonzero(levels > 5000) <= 11, hz


@pytest.mark.quick
async def test_keys_pressed_by_the_application_reach_the_phone(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.silence(1, RATE))
    await alice.answered()
    call = (await target.call_from("1001"))["id"]
    async with target.stream(call, encapsulation="sln") as application:
        await application.heard(10)
        await application.send('{"event": "dtmf", "dtmf": {"digits": "12#"}}')
        await sends(alice, 2)
    await alice.hangup()
    keys = [event.param for event in alice.events if "DTMF" in event.type and event.param not in ("", "\x00")]
    assert "".join(keys) == "12#" or judge.dtmf(alice.recording(), RATE) == "12#"
