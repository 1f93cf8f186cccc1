"""Calls that cannot be handed to the worker that was chosen: they go to another, or on in the dialplan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.ari.client import AriClient
from bridge.ari.model import Channel, Event, StasisStart
from bridge.testing.lab_engine import Lab
from bridge.workers import handover
from bridge.workers.control import Control
from bridge.workers.handover import HandOver
from bridge.workers.worker_pool import ConnectedWorker, WorkerPool, app_of
from tests.lab.conftest import Phones
from tests.lab.waiting import PATIENCE_S, stays


class Desk:
    """The supervisor's part in handing over, with workers that are only entries."""

    def __init__(self, lab: Lab) -> None:
        self.pool = WorkerPool(lab.ari_app, 3)
        self.client = AriClient(lab.ari_url, lab.ari_user, lab.ari_password, lab.ari_app, subscribe_all=False)
        self.hand_over = HandOver(self.client, self.pool, Control(self.pool))

    def there(self, number: int) -> None:
        """Let a worker report that it is ready, true or not."""
        self.pool.workers[number] = ConnectedWorker(number, 0, "", ready=True)
        self.hand_over.worker_ready()


@pytest.fixture
async def desk(lab: Lab) -> AsyncIterator[Desk]:
    it = Desk(lab)
    async with it.client:
        yield it
        await it.hand_over.stop()


async def test_a_call_goes_to_the_next_worker_if_asterisk_does_not_know_the_first(
    lab: Lab, desk: Desk, phones: Phones
) -> None:
    (alice,) = await phones("1001")
    second = AriClient(lab.ari_url, lab.ari_user, lab.ari_password, app_of(lab.ari_app, 2))
    started: asyncio.Queue[tuple[str, list[str]]] = asyncio.Queue()

    def on_start(channel: Channel, event: Event) -> None:
        assert isinstance(event, StasisStart)
        started.put_nowait((channel.id, list(event.args)))

    second.on_channel_event("StasisStart", on_start)
    desk.there(1)  # it is not connected
    async with second:
        await alice.call("750")
        await stays(started.empty, 0.5)
        desk.there(2)
        channel_id, args = await asyncio.wait_for(started.get(), PATIENCE_S)
        assert args == ["750"]
        assert desk.pool.homes[channel_id] == (2, ("750",))
        # What it held continues when it is gone: here in one that has started by then.
        third = AriClient(lab.ari_url, lab.ari_user, lab.ari_password, app_of(lab.ari_app, 3))
        third.on_channel_event("StasisStart", on_start)
        async with third:
            await second.stop()
            desk.pool.workers.clear()
            desk.there(3)
            desk.hand_over.worker_gone(2)
            assert await asyncio.wait_for(started.get(), PATIENCE_S) == (channel_id, ["750"])
            await desk.client.channels.hangup(channel_id)
            await alice.ended()


async def test_without_any_worker_a_call_goes_on_in_the_dialplan(
    desk: Desk, phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "WAIT_FOR_WORKER_S", 0.2)
    monkeypatch.setattr(handover, "FIRST_WORKER_S", 0.2)
    (alice,) = await phones("1001")
    await alice.call("750")
    left = asyncio.Event()
    desk.client.on_channel_event("StasisEnd", lambda *_: left.set())
    await asyncio.wait_for(left.wait(), PATIENCE_S)
    await alice.ended()


async def test_a_call_waits_for_the_first_worker_of_a_slow_start(
    lab: Lab, desk: Desk, phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "WAIT_FOR_WORKER_S", 0.2)
    (alice,) = await phones("1001")
    entered, left = asyncio.Event(), asyncio.Event()
    desk.client.on_channel_event("StasisStart", lambda *_: entered.set())
    desk.client.on_channel_event("StasisEnd", lambda *_: left.set())
    await alice.call("750")
    await asyncio.wait_for(entered.wait(), PATIENCE_S)
    with pytest.raises(TimeoutError):  # several times as long as it waits for a worker later on
        await asyncio.wait_for(left.wait(), 1)
    async with AriClient(lab.ari_url, lab.ari_user, lab.ari_password, app_of(lab.ari_app, 1)) as worker:
        started: asyncio.Queue[str] = asyncio.Queue()
        worker.on_channel_event("StasisStart", lambda channel, _: started.put_nowait(channel.id))
        desk.there(1)
        channel_id = await asyncio.wait_for(started.get(), PATIENCE_S)
        await worker.channels.hangup(channel_id)
        await alice.ended()
