"""Ordinary calls of each kind leave no warning in the log: a warning means that something is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import by_hand, client_of
from tests.lab.sink import Sink, open_sink
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends, until

RATE = 8000
MACHINE = ("bridge.media.loop_lag",)
"""Loggers that report a busy machine, on which tests run too."""


class Scene:
    """A bridge with every kind of stream that starts by itself."""

    def __init__(self, target: Target, listener: Sink, agent: Sink) -> None:
        self.target = target
        self.listener = listener
        self.agent = agent

    async def over(self) -> None:
        """Wait until nothing of the bridge is left, and every application has been notified."""
        await self.target.nothing_left()
        for sink in (self.listener, self.agent):
            for connection in sink.connections:
                await asyncio.wait_for(connection.ended.wait(), PATIENCE_S)


@pytest.fixture
async def scene(lab: Lab) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        listener, agent = [await stack.enter_async_context(open_sink()) for _ in range(2)]
        subscriptions = [
            {"id": "yeastar", "url": listener.url, "dialect": "yeastar", "extensions": ["100*"]},
            {"id": "voxology", "url": listener.url, "dialect": "voxology", "extensions": ["1001"]},
            {"id": "twilio", "url": listener.url, "dialect": "twilio", "extensions": ["1002"], "tracks": "both_tracks"},
        ]
        routes = [
            {"id": "agent", "match": "750", "url": agent.url, "dialect": "twilio", "then": "hangup"},
            {"id": "socket", "match": "uuid:*", "url": agent.url, "dialect": "twilio"},
        ]
        target = await stack.enter_async_context(pushing(lab, subscriptions=subscriptions, dialplan=routes))
        yield Scene(target, listener, agent)


async def observed(scene: Scene, alice: Phone, bob: Phone, ends: str) -> None:
    """Run a call between two phones, with subscriptions and a client."""
    await alice.call("1002", play=judge.tone(500, 30, RATE))
    await asyncio.gather(alice.answered(), bob.answered())
    call = await scene.target.call_from("1001")
    async with scene.target.stream(call["id"], encapsulation="sln", direction_listen="in") as application:
        await application.heard(30)
        await scene.listener.connected(3)
        await sends(alice, 0.5)
        await (alice if ends == "phone" else bob).hangup()
        assert await application.closed() == 1000


async def routed(scene: Scene, alice: Phone, _: Phone, ends: str) -> None:
    """Run a call in the application, which an agent has; a client listens too."""
    await alice.call("750", play=judge.tone(500, 30, RATE))
    await alice.answered()
    (agent,) = await scene.agent.connected(1)
    call = await scene.target.call_from("1001")
    async with scene.target.stream(call["id"], encapsulation="rtp") as application:
        await application.heard(30)
        await alice.dtmf("5")
        if ends == "phone":
            await alice.hangup()
        else:
            await agent.socket.close()
            await alice.ended(PATIENCE_S)
        assert await application.closed() == 1000


async def without_ari(scene: Scene, alice: Phone, _: Phone, ends: str) -> None:
    """``AudioSocket()`` of the dialplan."""
    await alice.call("751", play=judge.tone(500, 30, RATE))
    await alice.answered()
    (agent,) = await scene.agent.connected(1)
    await sends(alice, 1)
    if ends == "phone":
        await alice.hangup()
    else:
        await agent.socket.close()
        await alice.ended(PATIENCE_S)


async def originated(scene: Scene, alice: Phone, bob: Phone, ends: str) -> None:
    """Originate a call whose flow plays speech, records, streams and connects it with another phone."""
    actions = [
        {"type": "talk", "option": {"text": "Hello."}},
        {"type": "recording_start", "option": {}},
        {"type": "connect", "option": {"destinations": [{"type": "extension", "target": "1002"}]}},
    ]
    async with client_of(scene.target) as client:
        await client.call("1001", *actions)
        await asyncio.gather(alice.answered(), bob.answered())
    await sends(alice, 1)
    await (alice if ends == "phone" else bob).hangup()
    await asyncio.gather(alice.ended(PATIENCE_S), bob.ended(PATIENCE_S))


async def conference(_: Scene, alice: Phone, bob: Phone, ends: str) -> None:
    """Run a ConfBridge room with two phones."""
    for phone in (alice, bob):
        await phone.call("720", play=judge.tone(500, 30, RATE))
        await phone.answered()
    await sends(bob, 1)
    for phone in (alice, bob) if ends == "phone" else (bob, alice):
        await phone.hangup()


async def unanswered(scene: Scene, alice: Phone, bob: Phone, ends: str) -> None:
    """Run calls that the called phone rejects or the caller abandons, and originated ones likewise."""
    async with by_hand(bob):
        await alice.call("1002")
        await until(lambda: bob.in_call)
        await (alice if ends == "phone" else bob).hangup()
        await alice.ended(PATIENCE_S)
        async with client_of(scene.target) as client:
            bob.forget()
            call_id = await client.call("1002", {"type": "talk", "option": {"text": "Hello."}})
            await until(lambda: bob.in_call)
            if ends == "phone":
                await client.done("POST", f"/v1.0/calls/{call_id}/hangup")
            else:
                await bob.hangup()
            await client.until("call_hangup", call_id)


async def transferred(scene: Scene, alice: Phone, bob: Phone, ends: str) -> None:
    """Run a call whose callee sends the caller to an IVR, and a client that stays with the caller."""
    await alice.call("1002", play=judge.tone(500, 30, RATE))
    await asyncio.gather(alice.answered(), bob.answered())
    call = await scene.target.call_from("1001")
    async with scene.target.stream(call["id"], encapsulation="sln", direction_listen="in") as application:
        await application.heard(30)
        await bob.transfer("601")
        await bob.ended(PATIENCE_S)
        await application.heard(len(application.messages) + 100)
        if ends == "phone":
            await alice.hangup()
            assert await application.closed() == 1000
    await alice.hangup()


async def left_early(scene: Scene, alice: Phone, bob: Phone, ends: str) -> None:
    """Run clients that close, or drop the connection, while their call continues."""
    await alice.call("1002", play=judge.tone(500, 30, RATE))
    await asyncio.gather(alice.answered(), bob.answered())
    call = await scene.target.call_from("1001")
    async with scene.target.stream(call["id"], encapsulation="sln") as application:
        await application.heard(30)
        if ends == "phone":
            await application.close()
        else:
            application.abort()
    await sends(alice, 1)
    await alice.hangup()


@pytest.mark.parametrize("ends", ["phone", "other"])
@pytest.mark.parametrize(
    "kind", [observed, routed, without_ari, originated, conference, unanswered, transferred, left_early]
)
async def test_an_ordinary_call_leaves_no_warning(scene, phones: Phones, caplog, kind, ends: str) -> None:  # type: ignore[no-untyped-def]
    caplog.set_level(logging.INFO)
    alice, bob = await phones("1001", "1002")
    await kind(scene, alice, bob, ends)
    await scene.over()
    ours = [record for record in caplog.records if record.name.startswith("bridge") and record.name not in MACHINE]
    assert ours, "the log is looked at"
    assert [record.getMessage() for record in ours if record.levelno >= logging.WARNING] == []
