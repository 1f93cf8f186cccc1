"""What an application queues: whole files in one burst, clear, marks."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from bridge.control.voice_rate import VoiceRates
from bridge.testing import judge, modem, peer
from tests.lab.conftest import Phones
from tests.lab.encapsulations import text_of
from tests.lab.target import Target
from tests.lab.waiting import sends

RATE = 8000
FILE_BYTES = 5 << 20


@pytest.mark.core
async def test_a_5_mib_file_in_one_message_plays_in_full_at_the_right_speed(target: Target, phones: Phones) -> None:
    """At 48 kHz 5 MiB last 54.6 s; the phone decodes every character of the data in it."""
    rate = 48000
    seconds = FILE_BYTES / 2 / rate
    text = text_of(seconds - 2, 5)
    audio = modem.modulate(text, rate, lead_s=1.0)
    pcm = audio.astype("<i2").tobytes().ljust(FILE_BYTES, b"\0")
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.silence(1, RATE))
    await alice.answered()
    call = (await target.call_from("1001"))["id"]
    async with target.stream(call, encapsulation="sln", rate=rate) as application:
        await application.heard(10)
        began = time.monotonic()
        await application.send(pcm)
        await application.send('{"event": "mark", "mark": {"name": "end"}}')
        async with asyncio.timeout(seconds + 5):
            while not (marks := [m for m in application.messages if isinstance(m.data, str)]):
                await asyncio.sleep(0.05)
        await sends(alice, 0.5)
    await alice.hangup()
    assert abs(marks[0].at - began - seconds) < 0.5
    decoded = modem.decode(alice.recording(), RATE)
    assert decoded.text == text
    assert abs((decoded.ends_s - decoded.begins_s) - len(text) * modem.BITS_PER_CHARACTER / modem.BAUD) < 0.05


@pytest.mark.quick
@pytest.mark.core
async def test_marks_come_in_order_and_clear_stops_at_once(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.silence(1, RATE))
    await alice.answered()
    call = (await target.call_from("1001"))["id"]
    second = judge.tone(700, 1.0, RATE).astype("<i2").tobytes()
    async with (
        target.stream(call, encapsulation="sln") as application,
        target.stream(call, encapsulation="sln") as witness,
    ):
        await witness.heard(25)
        for name in ("one", "two", "three", "never played", "nor this"):
            await application.send(second)
            await application.send(json.dumps({"event": "mark", "mark": {"name": name}}))
        await sends(alice, 2.6)
        await application.send('{"event": "clear"}')
        cleared = time.monotonic()
        await sends(alice, 0.7)
        marks = [(json.loads(m.data)["mark"]["name"], m.at) for m in application.messages if isinstance(m.data, str)]
        tone_ends = max(
            (m.at for m in witness.messages if isinstance(m.data, bytes) and loud(m.data)), default=float("inf")
        )
    await alice.hangup()
    assert [name for name, _ in marks] == ["one", "two", "three", "never played", "nor this"]
    assert 0.9 < marks[1][1] - marks[0][1] < 1.1
    assert all(abs(at - cleared) < 0.1 for _, at in marks[2:])
    # The witness hears it by way of Asterisk's mixer; at our own wire it is within 60 ms (tests/loopback).
    assert tone_ends - cleared < 0.15
    played = judge.block_levels(alice.recording(), RATE, 700, block_s=0.1)
    assert 24 <= int((played > 3000).sum()) <= 29


def loud(pcm: bytes) -> bool:
    """Return whether a frame has sound."""
    return judge.rms(peer.samples_of(pcm)) > 500


async def test_a_voice_has_the_rate_of_the_codec_that_asterisk_reports(target: Target, phones: Phones) -> None:
    """A phone with G.711, and the channel of a stream at 16 kHz."""
    assert target.bridge is not None
    rates = VoiceRates(target.bridge.client)
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.silence(60, RATE))
    await alice.answered()
    call = (await target.call_from("1001"))["id"]
    async with target.stream(call, encapsulation="sln", rate=16000) as application:
        await application.heard(2)
        channels = {
            channel["name"].partition("/")[0]: channel["id"] for channel in await target.ari("GET", "/channels")
        }
        assert {name: await rates.of(channel) for name, channel in channels.items()} == {
            "PJSIP": 8000,
            "AudioSocket": 16000,
        }
    await alice.hangup()
