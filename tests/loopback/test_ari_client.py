"""The ARI client against an ARI on loopback that does what a real one does too rarely to be waited for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from bridge.ari.client import AriClient
from bridge.ari.model import Event
from bridge.ari.rest import Rest
from bridge.errors import AriError
from tests.fakes.ari import FakeAri
from tests.fakes.garbage import uncollected
from tests.waiting import until


@pytest.fixture
async def ari(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAri]:
    monkeypatch.setattr("bridge.ari.client.BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr("bridge.ari.client.CHECKS_S", (0.02,))
    monkeypatch.setattr("bridge.ari.client.REPLACED_RETRY_S", 0.02)
    monkeypatch.setattr("bridge.ari.client.RELEASE_S", 0.1)
    async with FakeAri() as ari:
        yield ari


@pytest.fixture
async def client(ari: FakeAri) -> AsyncIterator[AriClient]:
    client = AriClient(ari.url, "user", "password", "app")
    yield client
    await client.stop()


async def test_it_is_connected_when_events_flow(ari: FakeAri, client: AriClient) -> None:
    told: list[str] = []
    client.on_connected(lambda: told.append("up"))
    client.on_disconnected(lambda: told.append("down"))
    await client.start(wait=True)
    assert client.connected
    assert ari.requests[1:] == [
        "GET /ari/events?app=app&subscribeAll=false",
        "PUT /ari/applications/app/eventFilter",
        "POST /ari/applications/app/subscription?eventSource=channel:,bridge:",
    ]
    await client.stop()
    await client.stop()
    assert told == ["up", "down"]


async def test_a_lost_connection_comes_back(ari: FakeAri, client: AriClient) -> None:
    told: list[str] = []
    client.on_connected(lambda: told.append("up"))
    client.on_disconnected(lambda: told.append("down"))
    await client.start(wait=True)
    with client.expect("StasisStart", "x") as never:
        await ari.drop()
        with pytest.raises(AriError, match="lost"):
            await never.wait(3)
    await until(lambda: told == ["up", "down", "up"])
    assert len(ari.open) == 1


async def test_an_application_that_asterisk_forgot_is_registered_anew(ari: FakeAri, client: AriClient) -> None:
    await client.start(wait=True)
    ari.known = False
    await until(lambda: not client.connected)
    await until(lambda: "forgotten" in (client.trouble or "") or "not found" in (client.trouble or ""))
    ari.known = True
    await until(lambda: client.connected)
    assert client.trouble is None


async def test_a_user_who_may_not_subscribe_is_told_so(ari: FakeAri, client: AriClient) -> None:
    ari.subscription_status = 403
    with pytest.raises(AriError, match="Forbidden by the test") as caught:
        await client.start(wait=True)
    assert caught.value.status == 403
    assert not client.connected


async def test_who_takes_the_application_is_left_alone_until_it_goes(
    ari: FakeAri, client: AriClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.start(wait=True)
    async with asyncio.timeout(60):
        other = AriClient(ari.url, "user", "password", "app")
        await other.start(wait=True)
        await ari.sockets[0].send_str('{"type":"ApplicationReplaced","application":"app"}')
        await until(lambda: "another client" in (client.trouble or ""))
        await asyncio.sleep(0.2)
        assert not client.connected
        assert len(ari.sockets) == 2
        await other.stop()
    await until(lambda: client.connected)
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) == 1


async def test_an_event_that_makes_no_sense_is_skipped_and_counted(ari: FakeAri, client: AriClient) -> None:
    heard: list[Event] = []
    client.on_event("*", heard.append)
    await client.start(wait=True)
    await ari.tell('{"type":"StasisStart"}')
    await ari.tell("not JSON")
    await ari.tell('{"type":"FromTheFuture"}')
    await until(lambda: heard)
    assert [event.type for event in heard] == ["FromTheFuture"]
    assert client.undecodable == 2


async def test_a_callback_that_raises_costs_no_connection(ari: FakeAri, client: AriClient) -> None:
    heard: list[Event] = []

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    client.on_connected(fail)
    client.on_disconnected(fail)
    client.on_event("*", fail)
    client.on_event("*", heard.append)
    await client.start(wait=True)
    await ari.tell('{"type":"Some"}')
    await until(lambda: heard)
    assert client.connected


async def test_stopping_in_the_middle_of_connecting(client: AriClient) -> None:
    waiting = asyncio.create_task(client.start(wait=True))
    await asyncio.sleep(0)
    await client.stop()
    with pytest.raises(AriError, match="stopped"):
        await asyncio.wait_for(waiting, 60)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("ari-")]


async def test_the_same_trouble_is_told_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.ari.client.BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr("bridge.ari.client.BACKOFF_LAST_S", 0.001)
    client = AriClient("http://127.0.0.1:1", "user", "password", "app")
    await client.start()
    await until(lambda: client.trouble)
    await asyncio.sleep(0.1)
    await client.stop()
    assert sum("events connection unavailable" in record.message for record in caplog.records) == 1


async def test_a_request_without_an_answer_leaves_nothing_to_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.ari.rest.REQUEST_TIMEOUT_S", 0.05)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server, Rest(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "user", "password") as rest:
        with uncollected() as left:
            with contextlib.suppress(AriError):  # pytest.raises would keep the traceback
                await rest.request("DELETE", "/channels/1")
                pytest.fail("it was answered")
            await asyncio.sleep(0)
    assert not left


REPLACED = '{"type": "ApplicationReplaced", "application": "app"}'


@pytest.mark.parametrize(("version", "taken_back"), [("18.26.4", True), ("22.10.1", False)])
async def test_an_application_that_asterisk_never_ends_is_reclaimed(
    ari: FakeAri, client: AriClient, monkeypatch: pytest.MonkeyPatch, version: str, taken_back: bool
) -> None:
    monkeypatch.setattr("bridge.ari.client.RECLAIM_FIRST_S", 0.1)
    ari.version, ari.ends_applications = version, False
    await client.start(wait=True)
    await ari.tell(REPLACED)
    await until(lambda: client.replaced)
    looks = len(ari.requests)
    await until(lambda: len(ari.requests) > looks + 10)  # several after the time is over
    if taken_back:
        await until(lambda: client.connected)
    assert (client.connected, client.replaced) == (taken_back, not taken_back)


async def test_an_application_that_is_taken_again_and_again_is_reclaimed_less_and_less_often(
    ari: FakeAri, client: AriClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def wait(reclaim_s: float) -> None:
        waits.append(reclaim_s)
        client.replaced = False

    monkeypatch.setattr(client, "_until_application_is_free", wait)
    ari.version, ari.ends_applications = "18.26.4", False
    await client.start(wait=True)
    for count in range(1, 7):
        await until(lambda: client.connected)
        await ari.tell(REPLACED)
        await until(lambda count=count: len(waits) == count)  # type: ignore[misc]
    assert waits == [60, 120, 240, 480, 960, 960]
