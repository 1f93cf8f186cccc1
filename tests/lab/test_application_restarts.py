"""An application that restarts, fails or vanishes gets the rest of each call, and nobody is hung up."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest

from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.sink import Received, Sink, open_sink, tone_share
from tests.lab.waiting import PATIENCE_S, sends, until

RATE = 8000


async def restarts(sink: Sink) -> None:
    """End as a server of the websockets library does on SIGTERM (close code 1001), and start again."""
    await sink.stop()
    assert [each.close_code for each in sink.connections] == [1001]
    await sink.start()


async def fails(sink: Sink) -> None:
    """Close as a server does whose handler raised an exception."""
    await sink.connections[0].socket.close(1011, "internal error")


async def vanishes(sink: Sink) -> None:
    """Close the TCP connection without a Close frame."""
    sink.connections[0].socket.transport.close()


@pytest.mark.parametrize("ends", [restarts, fails, vanishes])
async def test_an_application_whose_connection_ends_gets_the_rest_of_the_call(
    lab: Lab, phones: Phones, ends: Callable[[Sink], Awaitable[None]]
) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    async with open_sink() as agent, open_sink() as listener:
        route = {"id": "agent", "match": "750", "url": agent.url, "dialect": "twilio", "then": "hangup"}
        subscription = {"id": "all", "url": listener.url, "dialect": "twilio", "extensions": ["1002"]}
        async with pushing(lab, dialplan=[route], subscriptions=[subscription]):
            await alice.call("750", play=judge.tone(500, 60, RATE))
            await bob.call("1003", play=judge.tone(700, 60, RATE))
            await asyncio.gather(alice.answered(), bob.answered(), carol.answered())
            await asyncio.gather(agent.connected(1), listener.connected(1))
            await sends(alice, 1)
            await ends(agent)
            await ends(listener)
            (_, again), (_, rest) = await asyncio.gather(agent.connected(2), listener.connected(2))
            await asyncio.gather(sends(alice, 2), sends(bob, 2))
            assert tone_share(again.twilio(), RATE, 500) > 0.7
            assert tone_share(rest.twilio(), RATE, 700) > 0.7
            await says(again, 900, seconds=1)
            await sends(alice, 2)
            assert alice.in_call
            assert bob.in_call
            await again.socket.close(1000)
            await alice.ended(PATIENCE_S)  # then = hangup: this time the application has ended the stream
            await bob.hangup()
    assert 0.8 < (judge.block_levels(alice.recording(), RATE, 900) > 3000).sum() * judge.BLOCK_S < 1.2


async def test_a_caller_whose_application_does_not_come_back_is_sent_on(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as agent:
        route = {"id": "agent", "match": "750", "url": agent.url, "dialect": "twilio", "then": "hangup", "give_up_s": 3}
        async with pushing(lab, dialplan=[route]):
            await alice.call("750", play=judge.tone(500, 60, RATE))
            await alice.answered()
            await agent.connected(1)
            await sends(alice, 1)
            await agent.stop()  # 1001, and nobody listens from now on
            assert alice.in_call
            await alice.ended(PATIENCE_S)


async def says(received: Received, hz: float, *, seconds: float) -> None:
    """Let an application speak a tone."""
    payload = base64.b64encode(peer.ulaw_bytes(judge.tone(hz, seconds, RATE))).decode()
    await received.send(event="media", media={"payload": payload})
    await received.send(event="mark", mark={"name": "said"})
    await until(lambda: received.of(event="mark"))
