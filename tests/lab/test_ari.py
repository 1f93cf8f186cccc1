"""The ARI client and the call tracker against a real Asterisk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from bridge.ari.client import NOISE, AriClient
from bridge.ari.model import Event, StasisStart
from bridge.calls.call import CallEnded, CallStarted, Change
from bridge.calls.tracker import CallTracker
from bridge.errors import AriError
from bridge.testing.lab_engine import EXTENSIONS, Lab
from tests.lab.waiting import PATIENCE_S, stays, until

from .ari_requests import originate

APP = "ari_test"
ECHO = "Local/600@from-internal"
TONE = "Local/601@from-internal"


def client_of(lab: Lab, *, url: str = "", password: str = "", app: str = APP) -> AriClient:
    return AriClient(url or lab.ari_url, lab.ari_user, password or lab.ari_password, app)


@pytest.fixture
async def client(lab: Lab) -> AsyncIterator[AriClient]:
    """A connected client; what a test has made under the application's name is gone after it."""
    async with client_of(lab) as client:
        yield client
        for bridge in await client.bridges.list():
            if bridge.id.startswith(APP):
                await client.bridges.destroy(bridge.id)
        for channel in await client.channels.list():
            if channel.id.startswith(APP):
                await client.channels.hangup(channel.id)
        await until(lambda: no_channel_of_ours(client))


@pytest.fixture
async def tracker(client: AriClient) -> AsyncIterator[CallTracker]:
    tracker = CallTracker(client)
    await tracker.wait_synced(5)
    yield tracker
    await tracker.close()


async def no_channel_of_ours(client: AriClient) -> bool:
    return not any(channel.id.startswith(APP) for channel in await client.channels.list())


async def enter(client: AriClient, channel_id: str, endpoint: str = TONE) -> StasisStart:
    """Originates a call into the application."""
    with client.expect("StasisStart", channel_id) as started:
        await originate(client, endpoint, channel_id, args="a,b")
        event = await started.wait(5)
    assert isinstance(event, StasisStart)
    return event


class Relay:
    """A TCP relay to Asterisk whose connections can be cut, and which can be stopped."""

    def __init__(self, lab: Lab) -> None:
        target = urlsplit(lab.ari_url)
        self._target = (target.hostname, target.port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Accept no new connections, and end those that exist."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._writers.add(sink)
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()
        self._writers.discard(sink)


@pytest.fixture
async def relay(lab: Lab) -> AsyncIterator[Relay]:
    relay = Relay(lab)
    await relay.start()
    yield relay
    await relay.cut()


async def test_what_asterisk_is(client: AriClient) -> None:
    info = await client.asterisk.info()
    assert int(info.system.version.split(".")[0]) >= 20
    assert (await client.asterisk.ping()).ping == "pong"
    assert {"res_ari.so", "chan_audiosocket.so"} <= {module.name for module in await client.asterisk.modules()}


async def test_asterisk_keeps_the_noise_to_itself(client: AriClient) -> None:
    async def filtered() -> bool:
        application = await client.applications.get(APP)
        return {entry["type"] for entry in application.events_disallowed} == set(NOISE)

    await until(filtered)
    assert APP in {application.name for application in await client.applications.list()}
    heard: list[Event] = []
    client.on_event("*", heard.append)
    await enter(client, f"{APP}-1")
    await client.channels.set_variable(f"{APP}-1", "QUIET", "yes")
    assert await client.channels.get_variable(f"{APP}-1", "QUIET") == "yes"
    await client.channels.hangup(f"{APP}-1")
    await until(lambda: any(event.type == "ChannelDestroyed" for event in heard))
    assert "ChannelVarset" not in {event.type for event in heard}


async def test_a_call_into_the_application_and_back_into_the_dialplan(client: AriClient) -> None:
    started = await enter(client, f"{APP}-1")
    assert started.args == ["a", "b"]
    assert started.channel.state == "Up"
    with client.expect("ChannelDialplan", f"{APP}-1") as moved:
        await client.channels.continue_in_dialplan(f"{APP}-1", "from-internal", "600", 1)
        await moved.wait(5)
    with client.expect("ChannelDestroyed", f"{APP}-1") as gone:
        await client.channels.hangup(f"{APP}-1", "normal")
        await gone.wait(5)
    await client.channels.hangup(f"{APP}-1")  # gone already is what was wanted


async def test_ids_may_hold_anything(client: AriClient) -> None:
    odd = f"{APP}-odd/id;with spaces%20?and=&more"
    await enter(client, odd)
    assert (await client.channels.get(odd)).id == odd
    bridge = f"{APP}-bridge/1"
    await client.bridges.create(bridge_id=bridge, name="a b")
    with client.expect("ChannelEnteredBridge", odd) as entered:
        await client.bridges.add_channel(bridge, odd)
        await entered.wait(5)
    async with asyncio.timeout(PATIENCE_S):
        while (await client.bridges.get(bridge)).channels != [odd]:  # its response may be older than the event
            await asyncio.sleep(0.02)
    await client.bridges.remove_channel(bridge, odd)
    await client.bridges.destroy(bridge)
    await client.bridges.destroy(bridge)


async def test_asterisk_takes_no_id_that_begins_another(client: AriClient) -> None:
    """Why ``OwnIds`` writes leading zeros. Looking up and deleting go by the whole id."""
    await enter(client, f"{APP}-20")
    with pytest.raises(AriError, match="already exists") as caught:
        await originate(client, TONE, f"{APP}-2")
    assert caught.value.status == 409
    await client.channels.snoop(f"{APP}-20", snoop_id=f"{APP}-s-17", spy="in")
    with pytest.raises(AriError) as caught:
        await client.channels.snoop(f"{APP}-20", snoop_id=f"{APP}-s-1", spy="in")
    assert caught.value.status == 500
    await client.channels.hangup(f"{APP}-2")
    assert (await client.channels.get(f"{APP}-20")).state == "Up"


async def test_digits(client: AriClient) -> None:
    await enter(client, f"{APP}-1", ECHO)
    await client.channels.send_dtmf(f"{APP}-1", "5")


async def test_variables_are_given_at_the_beginning(client: AriClient) -> None:
    with client.expect("StasisStart", f"{APP}-1") as started:
        variables = {"GREETING": "hello world", "OTHER": "ä&=?"}
        await originate(client, TONE, f"{APP}-1", variables=variables)
        await started.wait(5)
    for name, value in variables.items():
        assert await client.channels.get_variable(f"{APP}-1", name) == value


async def test_asterisks_refusals(client: AriClient) -> None:
    await enter(client, f"{APP}-1")
    await client.bridges.create(bridge_id=f"{APP}-b")
    channels, bridges, one = client.channels, client.bridges, f"{APP}-1"
    nobody: dict[str, Any] = {"external_host": "127.0.0.1:1", "format": "slin", "channel_id": f"{APP}-m"}
    refusals = [
        (404, "Channel not found", channels.get("nobody")),
        (404, "not found", channels.snoop("nobody", snoop_id=f"{APP}-s", spy="in")),
        (404, "variable was not found", channels.get_variable(one, "NEVER_SET")),
        (400, "Direction must be specified", channels.snoop(one, snoop_id=f"{APP}-s")),
        (400, "data can not be empty", channels.external_media(data="", **nobody)),
        (400, "Channel not found", bridges.add_channel(f"{APP}-b", "nobody")),
        (409, "already exists", originate(client, TONE, one)),
        (409, "not in Stasis", channels.answer(f"{one};2")),
        (422, "not in Stasis", bridges.add_channel(f"{APP}-b", f"{one};2")),
        (500, "internal error", channels.external_media(data="0b6ec2e6-5bd1-4d2c-9d50-4b4b4b4b4b4b", **nobody)),
    ]
    for status, words, refusal in refusals:
        with pytest.raises(AriError, match=words) as caught:
            await refusal
        assert caught.value.status == status


async def test_a_technology_that_asterisk_does_not_know(client: AriClient) -> None:
    """500 "Allocation failed", or the 409 of an earlier request: Asterisk keeps its last error."""
    with pytest.raises(AriError) as caught:
        await originate(client, "Nothing/1")
    assert caught.value.status in (409, 500)


async def test_waiting_ends_with_the_channel(client: AriClient) -> None:
    await enter(client, f"{APP}-1")
    with client.expect("PlaybackFinished", f"{APP}-1") as never:
        await client.channels.hangup(f"{APP}-1")
        with pytest.raises(AriError) as caught:
            await never.wait(5)
    assert caught.value.status == 404


async def test_a_wrong_password_is_named_and_never_shown(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = client_of(lab, password="not-the-password")
    with pytest.raises(AriError, match=r"ari\.password") as caught:
        await client.start(wait=True)
    assert caught.value.status == 401
    other = client_of(lab, password="not-the-password")  # who failed to start is stopped for good
    with pytest.raises(AriError) as refused:
        await other.channels.list()
    assert refused.value.status == 401
    await other.stop()
    await client.stop()
    assert "not-the-password" not in caplog.text
    assert not client.connected


async def test_an_address_without_ari_is_named(lab: Lab) -> None:
    client = client_of(lab, url=f"{lab.ari_url}/nothing")
    with pytest.raises(AriError, match=r"check ari\.url") as caught:
        await client.start(wait=True)
    assert caught.value.status == 404


async def test_a_service_may_start_before_asterisk(lab: Lab, relay: Relay) -> None:
    await relay.cut()
    client = client_of(lab, url=relay.url)
    connects = []
    client.on_connected(lambda: connects.append(1))
    await client.start()
    try:
        await until(lambda: client.trouble is not None)
        assert "cannot connect to 127.0.0.1" in (client.trouble or "")
        assert not client.connected
        await relay.start()
        await until(lambda: client.connected, 10)
        assert client.trouble is None
        assert connects == [1]
    finally:
        await client.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("ari-")]


async def test_calls_are_right_again_after_a_cut(lab: Lab, client: AriClient, relay: Relay) -> None:
    cut_off = client_of(lab, url=relay.url, app=f"{APP}_2")
    tracker = CallTracker(cut_off)
    changes: list[Change] = []
    tracker.subscribe(changes.append)
    await cut_off.start(wait=True)
    try:
        await tracker.wait_synced(5)
        await enter(client, f"{APP}-stays")
        await enter(client, f"{APP}-goes")
        await until(lambda: {f"{APP}-stays", f"{APP}-goes"} <= set(tracker.calls))
        with cut_off.expect("StasisStart", "never") as never:
            await relay.cut()
            with pytest.raises(AriError, match="lost"):
                await never.wait(5)
        assert not tracker.synced
        await client.channels.hangup(f"{APP}-goes")
        await enter(client, f"{APP}-comes")
        changes.clear()
        await relay.start()
        await tracker.wait_synced(15)
        ended = [change.call.id for change in changes if isinstance(change, CallEnded)]
        started = [change.call.id for change in changes if isinstance(change, CallStarted)]
        assert ended == [f"{APP}-goes"]
        assert started == [f"{APP}-comes"]
        await client.channels.hangup(f"{APP}-stays")
        await until(lambda: f"{APP}-stays" not in tracker.calls)
    finally:
        await tracker.close()
        await cut_off.stop()


async def test_who_takes_our_application_is_not_fought(
    lab: Lab, client: AriClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.ari.client.REPLACED_RETRY_S", 0.2)
    async with client_of(lab) as other:
        await until(lambda: "another client" in (client.trouble or ""))
        assert client.replaced
        assert not client.connected
        assert any(record.levelno == logging.ERROR for record in caplog.records)
        await stays(lambda: other.connected and not other.replaced, 1)  # several looks whether it is free
    await until(lambda: client.connected)
    assert not client.replaced


async def test_many_calls_at_once_are_all_known(client: AriClient, tracker: CallTracker) -> None:
    ids = {f"{APP}-{number:02d}" for number in range(50)}
    await asyncio.gather(*(enter(client, channel_id) for channel_id in ids))
    await until(lambda: ids <= set(tracker.calls))
    assert {channel_id for channel_id in ids if tracker.calls[channel_id].answered} == ids
    await tracker.resync()
    assert ids <= set(tracker.calls)
    await asyncio.gather(*(client.channels.hangup(channel_id) for channel_id in ids))
    await until(lambda: not ids & set(tracker.calls))


async def test_calls_that_meet_in_a_bridge_become_one(client: AriClient, tracker: CallTracker) -> None:
    first, second = f"{APP}-first", f"{APP}-second"
    await enter(client, first)
    await enter(client, second)
    await until(lambda: {first, second} <= set(tracker.calls))
    await client.bridges.create(bridge_id=f"{APP}-b")
    await client.bridges.add_channel(f"{APP}-b", second)
    await client.bridges.add_channel(f"{APP}-b", first)
    await until(lambda: second in tracker.calls[first].parties)
    assert tracker.calls[first].parties[second].bridge_id == f"{APP}-b"


async def test_our_own_channels_change_no_call(client: AriClient, tracker: CallTracker) -> None:
    """A channel of the bridge that is older than the call it meets would give it another linkedid."""
    media = f"ab-{APP}-0011aabb-media-1"
    await enter(client, media)
    await enter(client, f"{APP}-1")
    await until(lambda: f"{APP}-1" in tracker.calls)
    await client.bridges.create(bridge_id=f"{APP}-b")
    for channel_id in (media, f"{APP}-1"):
        await client.bridges.add_channel(f"{APP}-b", channel_id)
    assert await client.channels.get_variable(f"{APP}-1", "CHANNEL(linkedid)") == media
    await tracker.resync()
    assert f"{APP}-1" in tracker.calls
    assert tracker.find(media) is None or media not in tracker.calls[f"{APP}-1"].parties
    await client.channels.hangup(media)


async def test_asterisk_restarts(lab: Lab, client: AriClient, tracker: CallTracker) -> None:
    await enter(client, f"{APP}-1")
    await until(lambda: f"{APP}-1" in tracker.calls)
    changes: list[Change] = []
    tracker.subscribe(changes.append)
    for name in EXTENSIONS:
        await lab.phone(name).stop()  # their registrations would not survive it either
    await lab.restart_asterisk()
    await until(lambda: client.connected and tracker.synced, 15)
    assert [change.call.id for change in changes if isinstance(change, CallEnded)] == [f"{APP}-1"]
    assert not tracker.calls
    await enter(client, f"{APP}-1")
    await until(lambda: f"{APP}-1" in tracker.calls)
