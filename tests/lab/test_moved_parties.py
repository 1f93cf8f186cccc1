"""A party whose partner changes is heard on: what it receives is the new partner, on every track that listens there.

Asterisk's fault that these tests are about depends on random numbers (`bridge.taps.taps`): without the cure each move
silences the tracks about every second time, so each test moves more than once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import Samples, samples_of
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import by_hand
from tests.lab.sink import Sink, open_sink, tone_share
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends, until

RATE = 8000
TONES = {"trunk": 1100, "1001": 500, "1002": 700, "1003": 900}
RING_S = 0.8
"""Of each new partner: Asterisk makes the tone itself meanwhile."""

HOLE_S = 0.5
"""The longest hole in a track when its tap is opened again; on an idle machine 0.1 s."""

Track = Callable[[], Samples]


async def follows(track: Track, hz: float, what: str) -> float:
    """Wait until all tracks carry the partner."""
    began = time.monotonic()
    while tone_share(track()[-RATE // 2 :], RATE, hz) < 0.99:
        assert time.monotonic() - began < PATIENCE_S, f"{what}: no {hz} Hz; levels {levels(track())}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def levels(samples: Samples) -> dict[int, float]:
    """Return the level of each phone's tone in the last second."""
    return {hz: round(judge.level_of(samples[-RATE:], hz, RATE)) for hz in TONES.values()}


class Scene:
    """A call one of whose parties stays, while its partners change."""

    def __init__(self, target: Target, party: str, tracks: dict[str, Track]) -> None:
        self.target = target
        self.party = party
        self.tracks = tracks
        """What the party receives, by what they are."""
        self._open = contextlib.AsyncExitStack()

    async def listen(self, name: str, direction: str = "out") -> None:
        """Open a media stream on the party."""
        channels = await self.target.ari("GET", "/channels")
        (channel,) = [c["id"] for c in channels if c["name"].startswith(f"PJSIP/{self.party}-")]
        options = {"encapsulation": "sln", "direction_listen": direction, "direction_speak": "none"}
        stream = await self._open.enter_async_context(self.target.stream(channel, **options))
        await stream.heard(10)
        if direction == "out":
            self.tracks[name] = lambda: samples_of(b"".join(stream.binary))

    async def follows(self, partner: Phone) -> None:
        """Wait until all tracks carry the partner."""
        for name, track in self.tracks.items():
            await follows(track, TONES[partner.name], name)

    async def close(self) -> None:
        await self._open.aclose()


@contextlib.asynccontextmanager
async def scene(lab: Lab, sink: Sink, party: str, **subscription: Any) -> AsyncIterator[Scene]:
    """Run a bridge with one subscription."""
    async with pushing(lab, subscriptions=[{"id": "one", "url": sink.url} | subscription]) as target:
        made = Scene(target, party, {})
        try:
            yield made
        finally:
            await made.close()


async def tuned(phones: Phones, *names: str) -> list[Phone]:
    """Start phones, each of which sends its tone."""
    started = await phones(*names)
    for phone in started:
        phone.play_next(judge.tone(TONES[phone.name], 120, RATE))
    return started


def domain_of(phone: Phone) -> str:
    """Return the PBX's address for the phone."""
    return phone._place.domain  # noqa: SLF001 - phones need it for transfers only


async def answers(phone: Phone) -> None:
    """Let the phone ring briefly and answer."""
    await phone.called()
    await asyncio.sleep(RING_S)  # of ringing, in which nothing changes
    await phone.command("accept")
    await phone.answered()


async def test_blind_transfers_by_refer(lab: Lab, phones: Phones) -> None:
    far, alice, bob = await tuned(phones, "trunk", "1001", "1002")
    domain = domain_of(alice)
    async with open_sink() as sink, scene(lab, sink, "trunk-a", dialect="voxology", trunks=["trunk-a"]) as made:
        await far.call("5551001")
        await far.answered()
        (received,) = await sink.connected(1)
        made.tracks["voxology near"] = lambda: received.voxology("near")
        await made.listen("opened before")
        await made.follows(alice)
        async with by_hand(alice, bob):
            for number, (old, new) in enumerate(((alice, bob), (bob, alice), (alice, bob))):
                new.forget()
                await old.command("transfer", f"sip:{new.name}@{domain}")
                await old.ended()
                await answers(new)
                await made.follows(new)
                await made.listen(f"opened after move {number}")
                await made.follows(new)
        await far.hangup()
        # The party's audio has a hole where its taps were opened again.
        holes = judge.dropouts(received.voxology("far"), RATE, TONES["trunk"])
        assert len(holes) <= 3 + 1, holes
        assert max((hole.seconds for hole in holes), default=0) < HOLE_S, holes


async def test_a_transfer_while_only_what_the_party_says_is_heard(lab: Lab, phones: Phones) -> None:
    """A tap for what the party receives that is opened afterwards gets it, and what was open is not disturbed."""
    far, alice, bob = await tuned(phones, "trunk", "1001", "1002")
    domain = domain_of(alice)
    async with (
        open_sink() as sink,
        scene(lab, sink, "trunk-a", dialect="twilio", tracks="inbound_track", trunks=["trunk-a"]) as made,
    ):
        await far.call("5551001")
        await far.answered()
        await made.listen("says", "in")
        async with by_hand(alice, bob):
            for number, (old, new) in enumerate(((alice, bob), (bob, alice), (alice, bob))):
                new.forget()
                await old.command("transfer", f"sip:{new.name}@{domain}")
                await old.ended()
                await answers(new)
                await sends(new, 0.5)
                await made.listen(f"opened after move {number}")
                await made.follows(new)
                made.tracks.clear()
        await far.hangup()


@contextlib.asynccontextmanager
async def observed(lab: Lab, carol: Phone, alice: Phone) -> AsyncIterator[Scene]:
    """Connect two phones; stream what the first one receives."""
    async with (
        open_sink() as sink,
        scene(lab, sink, "1003", dialect="twilio", tracks="outbound_track", extensions=["1003"]) as made,
    ):
        await carol.call("81001")
        await carol.answered()
        (received,) = await sink.connected(1)
        made.tracks["twilio outbound"] = lambda: received.twilio("outbound")
        await made.listen("opened before")
        await made.follows(alice)
        yield made


@pytest.mark.parametrize("code", ["##", "*2"], ids=["blind", "attended"])
async def test_transfers_by_feature_code(lab: Lab, phones: Phones, code: str) -> None:
    carol, alice, bob = await tuned(phones, "1003", "1001", "1002")
    async with observed(lab, carol, alice) as made:
        async with by_hand(alice, bob):
            for old, new in ((alice, bob), (bob, alice), (alice, bob)):
                new.forget()
                await old.dtmf(code)
                await sends(old, 1.5)  # Asterisk plays "transfer" first
                await old.dtmf(f"8{new.name}#")
                await answers(new)
                if code == "*2":
                    await sends(old, 1)  # the two talk, while the party that stays has music
                    await old.hangup()
                await old.ended()
                await made.follows(new)
        await made.listen("opened after")
        await made.follows(bob)
        await carol.hangup()


async def test_parking_and_retrieval(lab: Lab, phones: Phones) -> None:
    carol, alice, bob = await tuned(phones, "1003", "1001", "1002")
    async with observed(lab, carol, alice) as made:
        for old, new in ((alice, bob), (bob, alice), (alice, bob)):
            await old.command("transfer", f"sip:800@{domain_of(old)}")
            await old.ended()
            await until(lambda: parked(made.target))
            await sends(carol, 1)
            await new.call("801")
            await new.answered()
            await made.follows(new)
        await made.listen("opened after")
        await made.follows(bob)
        await carol.hangup()


async def parked(target: Target) -> bool:
    return any(bridge["bridge_type"] == "holding" for bridge in await target.ari("GET", "/bridges"))
