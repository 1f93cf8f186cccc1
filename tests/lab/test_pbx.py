"""The lab by itself, without the bridge: phones, dialplan and audio are what the other tests take them for."""

from __future__ import annotations

import asyncio
import random
import re
import string

import numpy as np
import pytest

from bridge.testing import judge, modem
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import RATE, Phone, Samples
from tests.lab.conftest import Phones
from tests.lab.waiting import sends
from tools.lab.docker_engine import DockerLab

MILLIWATT_HZ = 1004
OWN_HZ = {"1001": 1000, "1002": 440, "1003": 600, "trunk": 700}
LOUD, SILENT = 7000, 100


def voice(phone: Phone) -> Samples:
    """Return the tone that identifies a phone."""
    return judge.tone(OWN_HZ[phone.name], 60, RATE)


def heard(phone: Phone) -> dict[str, float]:
    """Return the level of each phone's tone in the last second of a phone's recording."""
    last = phone.recording()[-RATE:]
    return {name: judge.level_of(last, freq, RATE) for name, freq in OWN_HZ.items()}


def assert_hears(phone: Phone, *others: str) -> None:
    for name, level in heard(phone).items():
        assert level > LOUD if name in others else level < SILENT, (phone.name, name, level)


async def test_two_extensions_hear_each_other_and_not_themselves(phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(voice(bob))
    await alice.call("1002", voice(alice))
    await alice.answered()
    await bob.answered()
    await sends(alice, 2)
    await alice.hangup()
    await bob.ended()
    assert_hears(alice, "1002")
    assert_hears(bob, "1001")


async def test_text_goes_both_ways_for_thirty_seconds_without_one_wrong_character(phones: Phones) -> None:
    texts = ["".join(random.Random(seed).choices(string.ascii_letters, k=900)) for seed in (1, 2)]
    alice, bob = await phones("1001", "1002")
    bob.play_next(modem.modulate(texts[1], RATE, lead_s=0.5))
    await alice.call("1002", modem.modulate(texts[0], RATE, lead_s=0.5))
    await alice.answered()
    await sends(alice, modem.seconds(texts[0], 0.5) + 0.3)
    await alice.hangup()
    await bob.ended()
    assert modem.demodulate(bob.recording(), RATE) == texts[0]
    assert modem.demodulate(alice.recording(), RATE) == texts[1]


async def test_echo_comes_back_exactly_and_soon(phones: Phones) -> None:
    (alice,) = await phones("1001")
    text = "".join(random.Random(3).choices(string.printable, k=60))
    await alice.call("600", modem.modulate(text, RATE, lead_s=0.5))
    await alice.answered()
    await sends(alice, modem.seconds(text, 0.5) + 0.3)
    await alice.hangup()
    assert modem.demodulate(alice.recording(), RATE) == text
    sent, back = alice.sent(), alice.recording()
    found = judge.delay(sent, back, RATE)
    assert found.likeness > 0.99
    assert found.seconds + (len(sent) - len(back)) / RATE < 0.1


async def test_the_milliwatt_is_steady(phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call("601")
    await alice.answered()
    await sends(alice, 2)
    await alice.hangup()
    tone = alice.recording()
    assert len(tone) > 1.8 * RATE
    assert judge.level_of(tone, MILLIWATT_HZ, RATE) > LOUD
    assert judge.dropouts(tone, RATE, MILLIWATT_HZ) == []


async def test_ivr_speaks_and_a_key_leads_on(phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(voice(bob))
    await alice.call("710", voice(alice))
    await alice.answered()
    await sends(alice, 1.5)
    await alice.dtmf("2")
    await bob.answered()
    await sends(alice, 2)
    await alice.hangup()
    await bob.ended()
    assert judge.rms(alice.recording()[: 3 * RATE // 2]) > 500  # the prompt
    assert_hears(bob, "1001")
    assert_hears(alice, "1002")


@pytest.mark.parametrize(("did", "agent"), [("5551001", "1001"), ("5551003", "1002")])
async def test_a_caller_from_the_trunk_reaches_extension_and_queue(phones: Phones, did: str, agent: str) -> None:
    trunk, agent_phone = await phones("trunk", agent)
    agent_phone.play_next(voice(agent_phone))
    await trunk.call(did, voice(trunk))
    await trunk.answered()
    event = await agent_phone.answered()
    assert "5550100" in event.peer
    await sends(trunk, 2)
    await trunk.hangup()
    await agent_phone.ended()
    assert_hears(trunk, agent)
    assert_hears(agent_phone, "trunk")


async def test_an_extension_calls_out_by_the_trunk(phones: Phones) -> None:
    alice, trunk = await phones("1001", "trunk")
    trunk.play_next(voice(trunk))
    await alice.call("95559999", voice(alice))
    await alice.answered()
    await trunk.answered()
    await sends(alice, 2)
    await alice.hangup()
    await trunk.ended()
    assert_hears(alice, "trunk")
    assert_hears(trunk, "1001")


async def test_three_in_a_conference_hear_the_others(phones: Phones) -> None:
    members = await phones("1001", "1002", "1003")
    for member in members:
        await member.call("720", voice(member))
    for member in members:
        await member.answered()
    await sends(member, 2.5)
    for member in members:
        await member.hangup()
    names = {member.name for member in members}
    for member in members:
        assert_hears(member, *(names - {member.name}))


async def test_hold_silences_and_resume_brings_back(phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await alice.call("1002", voice(alice))
    await alice.answered()
    await sends(alice, 1)
    await alice.hold()
    await asyncio.sleep(1.5)  # of silence: a phone that holds sends nothing that could be waited for
    await alice.resume()
    await sends(alice, 1.5)
    await alice.hangup()
    await bob.ended()
    levels = judge.block_levels(bob.recording(), RATE, OWN_HZ["1001"], 0.1)
    quiet = np.flatnonzero(levels < SILENT * 5)
    assert 10 <= len(quiet) <= 20
    assert levels[:8].min() > LOUD
    assert levels[-10:].min() > LOUD


async def test_the_bridge_being_away_is_said_and_ends_the_call(phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call("750")
    await alice.answered()
    await alice.ended(timeout_s=15)
    assert len(alice.recording()) > 2 * RATE
    assert judge.rms(alice.recording()) > 500


async def test_asterisk_restarts_and_the_phones_find_it(lab: Lab, phones: Phones) -> None:
    await phones("1001")
    await lab.restart_asterisk()
    assert "No such command" not in await lab.cli("core show uptime")
    (alice,) = await phones("1001")
    await alice.call("600", voice(alice))
    await alice.answered()
    await sends(alice, 1)
    await alice.hangup()


async def test_asterisk_boots_without_a_complaint(lab: Lab) -> None:
    if isinstance(lab, DockerLab):
        await lab.save_logs()
    log = (lab.logs / "asterisk.log").read_text()
    boots = re.findall(r"modules will be loaded.*?Asterisk Ready", log, re.DOTALL)
    assert boots
    for boot in boots:
        assert not re.search(r"WARNING|ERROR", boot), boot
