"""An ordinary call between two extensions: whose audio arrives, and where the application's is played."""

from __future__ import annotations

import asyncio

import pytest

from bridge.testing import judge, modem
from tests.lab.conftest import Phones
from tests.lab.encapsulations import text_of
from tests.lab.parties import CALLEE_HZ, CALLER_HZ, FAINT, LOUD, PROMPT_HZ, RATE, heard, talk
from tests.lab.target import Target
from tests.lab.waiting import sends


@pytest.mark.core
async def test_each_direction_gives_the_right_party_and_never_the_other(target: Target, phones: Phones) -> None:
    alice, _, ids = await talk(target, phones)
    async with (
        target.stream(ids["call"], encapsulation="sln", direction_listen="in") as caller_says,
        target.stream(ids["call"], encapsulation="sln", direction_listen="out") as caller_hears,
        target.stream(ids["call"], encapsulation="sln", direction_listen="both") as mix,
        target.stream(ids["1002"], encapsulation="sln", direction_listen="in") as callee_says,
    ):
        everyone = (caller_says, caller_hears, mix, callee_says)
        await asyncio.gather(*(application.heard(150) for application in everyone))
        levels = {
            name: (heard(application, CALLER_HZ), heard(application, CALLEE_HZ))
            for name, application in zip(("in", "out", "both", "callee in"), everyone, strict=True)
        }
    await alice.hangup()
    assert levels["in"][0] > LOUD, levels
    assert levels["in"][1] < FAINT, levels
    assert levels["out"][0] < FAINT, levels
    assert levels["out"][1] > LOUD, levels
    assert min(levels["both"]) > LOUD, levels
    assert levels["callee in"][0] < FAINT, levels
    assert levels["callee in"][1] > LOUD, levels


@pytest.mark.core
@pytest.mark.parametrize(
    ("speak", "caller_hears", "callee_hears"), [("out", True, False), ("in", False, True), ("both", True, True)]
)
async def test_a_prompt_is_heard_by_whom_it_is_for(
    target: Target, phones: Phones, speak: str, caller_hears: bool, callee_hears: bool
) -> None:
    alice, bob, ids = await talk(target, phones, 15)
    async with target.stream(ids["call"], encapsulation="sln", direction_speak=speak) as application:
        await application.heard(25)
        await application.send(judge.tone(PROMPT_HZ, 3, RATE).astype("<i2").tobytes())
        await sends(alice, 3.5)
        assert heard(application, PROMPT_HZ, 3) < FAINT  # nobody hears himself
    await alice.hangup()
    await bob.ended()
    for phone, expected in ((alice, caller_hears), (bob, callee_hears)):
        levels = judge.block_levels(phone.recording(), RATE, PROMPT_HZ, block_s=0.1)
        loud = int((levels > LOUD / 2).sum())
        assert (28 <= loud <= 32) if expected else loud == 0, (phone.name, loud)
        assert not expected or not judge.dropouts(phone.recording(), RATE, PROMPT_HZ)


async def test_data_injected_into_an_ordinary_call_reaches_both_phones_exactly(target: Target, phones: Phones) -> None:
    """Asterisk mixes a whisper into frames that pass; one that comes late would leave a hole."""
    alice, bob = await phones("1001", "1002")
    text = text_of(10, 3)
    bob.play_next(judge.silence(1, RATE))
    await alice.call("1002", play=judge.silence(1, RATE))
    await alice.answered()
    call = await target.call_from("1001")
    async with target.stream(call["id"], encapsulation="sln") as application:
        await application.heard(25)
        await application.send(modem.modulate(text, RATE, lead_s=0.5).astype("<i2").tobytes())
        await sends(alice, 11.5)
    await alice.hangup()
    await bob.ended()
    assert [modem.demodulate(phone.recording(), RATE) for phone in (alice, bob)] == [text, text]


async def test_streams_come_and_go_on_one_call_and_the_call_goes_on(target: Target, phones: Phones) -> None:
    alice, bob, ids = await talk(target, phones)
    for _ in range(3):
        async with (
            target.stream(ids["call"], encapsulation="sln") as one,
            target.stream(ids["call"], encapsulation="rtp") as two,
        ):
            await asyncio.gather(one.heard(30), two.heard(30))
    await target.nothing_left()
    assert (await target.get(f"/v1.0/calls/{ids['call']}"))[0] == 200
    await alice.hangup()
    await bob.ended()
    for phone, hz in ((alice, CALLEE_HZ), (bob, CALLER_HZ)):
        assert judge.level_of(phone.recording()[-RATE:], hz, RATE) > LOUD


async def test_a_call_by_trunk_and_one_in_the_ivr_are_heard_too(target: Target, phones: Phones) -> None:
    far_end, carol = await phones("trunk", "1001")
    carol.play_next(judge.tone(CALLEE_HZ, 20, RATE))
    await far_end.call("5551001", play=judge.tone(CALLER_HZ, 20, RATE))
    await far_end.answered()
    call = await target.call_from("trunk-a")
    async with target.stream(call["id"], encapsulation="sln", direction_listen="in") as application:
        await application.heard(100)
        assert heard(application, CALLER_HZ) > LOUD
        assert heard(application, CALLEE_HZ) < FAINT
    await far_end.hangup()
    await far_end.call("5551002", play=judge.tone(CALLER_HZ, 20, RATE))
    await far_end.answered()
    call = await target.call_from("trunk-a")
    async with target.stream(call["id"], encapsulation="sln", direction_speak="out") as application:
        await application.heard(100)
        assert heard(application, CALLER_HZ) > LOUD
        await application.send(judge.tone(PROMPT_HZ, 2, RATE).astype("<i2").tobytes())
        await sends(far_end, 2.5)
    await far_end.hangup()
    assert judge.block_levels(far_end.recording(), RATE, PROMPT_HZ, block_s=0.1).max() > LOUD / 2
