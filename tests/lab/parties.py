"""Parties that send tones, and what applications receive of them."""

from __future__ import annotations

from bridge.testing import judge, peer
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones
from tests.lab.target import Target

RATE = 8000
CALLER_HZ = 1000
CALLEE_HZ = 440
PROMPT_HZ = 700
LOUD, FAINT = 6000, 200
"""Tones are sent at 8000; what must not be heard stays below 2 % of that."""
TONES = {"1001": 500, "1002": 700, "1003": 900}


def heard(application: peer.Peer, hz: float, seconds: float = 1.0) -> float:
    """Return the level of a tone in the audio that an application received last."""
    return judge.level_of(peer.samples_of(b"".join(application.binary[-int(seconds * 50) :])), hz, RATE)


async def talk(target: Target, phones: Phones, seconds: float = 30) -> tuple[Phone, Phone, dict[str, str]]:
    """Have 1001 call 1002, each with its tone; return the call's id, and the channel ids by extension."""
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.tone(CALLEE_HZ, seconds, RATE))
    await alice.call("1002", play=judge.tone(CALLER_HZ, seconds, RATE))
    await alice.answered()
    call = await target.call_from("1001")
    return alice, bob, {"call": call["id"]} | {party["endpoint"]: party["id"] for party in call["parties"]}


async def into_the_bridge(target: Target, phone: Phone, seconds: float = 60) -> str:
    """Have a phone call the Stasis extension with its tone, and return the call's id."""
    await phone.call("750", play=judge.tone(TONES[phone.name], seconds, RATE))
    await phone.answered()
    call_id: str = (await target.call_from(phone.name))["id"]
    return call_id


async def hears_on(application: peer.Peer, hz: float) -> None:
    """Check that an application receives the tone from now on.

    Two lost frames in a second are Asterisk's mixer on a busy machine.
    """
    begin = len(application.messages)
    await application.heard(begin + 60)
    samples = peer.samples_of(b"".join(application.binary[-50:]))
    assert judge.level_of(samples, hz, RATE) > 6000
    assert sum(hole.seconds for hole in judge.dropouts(samples, RATE, hz)) <= 0.04
