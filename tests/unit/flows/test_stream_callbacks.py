"""Status callbacks of streams: each connection is reported as started, and as stopped or failed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.dialects.twilio import Twilio, call_sid
from bridge.flows.stream_callbacks import StreamCallback
from bridge.flows.web import ServerResponse
from bridge.streams.stream import SHUTTING_DOWN
from tests.fakes.virtual_time import pass_time, run_virtually
from tests.fakes.wire import Wire
from tests.unit.flows.twiml_documents import done, form, signed
from tests.unit.flows.world import ACCOUNT, World
from tests.unit.streams.one_stream import OneStream

URL = "https://app.example.org/streams"


class Followed:
    """A stream whose status is sent."""

    def __init__(self, world: World, *, reachable: bool = True, name: str = "ears") -> None:
        self.world = world
        self.dialect = Twilio()
        self.made = OneStream(self.dialect, "inbound", reachable=reachable)
        world.status_callbacks.follow_stream(self.made.stream, StreamCallback(URL, name=name))

    @property
    def forms(self) -> list[dict[str, str]]:
        return [form(self.world, index) for index in range(len(self.world.web.asked))]

    @property
    def events(self) -> list[tuple[str, str]]:
        """The id and the event of each callback."""
        return [(each["StreamSid"], each["StreamEvent"]) for each in self.forms]


def test_a_stream_is_started_and_stopped() -> None:
    async def act() -> None:
        world = World()
        followed = Followed(world)
        await pass_time(1)
        sid = followed.dialect.stream_sid
        await followed.made.end()
        await pass_time(1)
        assert followed.events == [(sid, "stream-started"), (sid, "stream-stopped")]
        started, stopped = followed.forms
        assert started == {
            "AccountSid": ACCOUNT.sid,
            "CallSid": call_sid("call"),
            "StreamSid": sid,
            "StreamName": "ears",
            "StreamEvent": "stream-started",
            "Timestamp": "1970-01-01T00:00:00.000Z",
        }
        assert stopped["Timestamp"] == "1970-01-01T00:00:01.000Z"
        assert signed(world, 0)
        assert signed(world, 1)
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_stream_without_a_name_has_its_id() -> None:
    async def act() -> None:
        world = World()
        followed = Followed(world, name="")
        await pass_time(1)
        assert followed.forms[0]["StreamName"] == followed.dialect.stream_sid
        await followed.made.end()
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_server_that_cannot_be_reached_is_reported_once() -> None:
    async def act() -> None:
        world = World()
        followed = Followed(world, reachable=False)
        await pass_time(5)
        sid = followed.dialect.stream_sid
        assert followed.events == [(sid, "stream-error")]
        assert followed.forms[0]["StreamError"] == "not there"
        followed.made.reachable = True
        await pass_time(1)
        assert followed.events[1:] == [(sid, "stream-started")]
        await followed.made.end()
        await pass_time(1)
        assert followed.events[2:] == [(sid, "stream-stopped")]
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_connection_that_breaks_has_failed_and_the_next_one_is_another_stream() -> None:
    async def act() -> None:
        world = World()
        followed = Followed(world)
        await pass_time(1)
        before, first = followed.dialect.stream_sid, followed.made.wire
        followed.made.wire = Wire()
        first.abort(1006, "gone")
        await pass_time(1)
        after = followed.dialect.stream_sid
        assert before != after
        assert followed.events == [(before, "stream-started"), (before, "stream-error"), (after, "stream-started")]
        assert "gone" in followed.forms[1]["StreamError"]
        await followed.made.end()
        await pass_time(1)
        assert followed.events[3:] == [(after, "stream-stopped")]
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_slow_server_misses_no_connection_that_lasts() -> None:
    async def act() -> None:
        world = World()

        async def slowly() -> ServerResponse:
            await pass_time(9)
            return ServerResponse(200, b"")

        world.web.answers[URL] = slowly
        followed = Followed(world)
        await pass_time(1)
        before, first = followed.dialect.stream_sid, followed.made.wire
        followed.made.wire = Wire()
        first.abort(1006, "gone")
        await pass_time(1)
        after = followed.dialect.stream_sid
        await pass_time(60)
        expected = [(before, "stream-started"), (before, "stream-error"), (after, "stream-started")]
        assert followed.events == expected
        await followed.made.end()
        await pass_time(60)
        assert followed.events == [*expected, (after, "stream-stopped")]
        await world.status_callbacks.close()

    run_virtually(act())


@pytest.mark.parametrize("reason", ["internal error", SHUTTING_DOWN])
def test_an_internal_error_is_one_and_a_stop_of_the_process_is_none(reason: str) -> None:
    async def act() -> None:
        world = World()
        followed = Followed(world)
        await pass_time(1)
        stops = reason == SHUTTING_DOWN
        followed.made.stream.end(reason, None if stops else "internal")
        await followed.made.stream.wait()
        await world.status_callbacks.close()
        assert followed.events[1][1] == ("stream-stopped" if stops else "stream-error")
        assert len(followed.events) == 2

    run_virtually(act())


def test_a_call_that_ends_before_the_connection_has_no_stream() -> None:
    async def act() -> None:
        world = World()
        followed = Followed(world, reachable=False)
        followed.made.stream.end("the call ended")
        await pass_time(1)
        assert [event for _, event in followed.events] == ["stream-error"]
        assert followed.forms[0]["StreamError"]
        await world.status_callbacks.close()

    run_virtually(act())


@pytest.mark.parametrize("verb", ["Start", "Connect"])
def test_documents_name_the_server(verb: str) -> None:
    async def act() -> None:
        world = World()
        opened: list[OneStream] = []

        async def start(*_: Any) -> Any:
            opened.append(OneStream(Twilio(), "inbound"))
            await opened[0].stream.settled(1)
            return opened[0].stream

        world.streams.stream_start = start  # type: ignore[method-assign,assignment]
        callback = 'statusCallback="/streams" statusCallbackMethod="GET"'
        stream = f'<Stream url="wss://app.example.org/ears" name="ears" {callback}/>'
        running = asyncio.ensure_future(done(world, f"<{verb}>{stream}</{verb}>", '<Pause length="5"/>'))
        await pass_time(2)
        await opened[0].end()
        await running
        await pass_time(1)
        assert world.failures() == []
        found = [(method, url) for method, url, _, _ in world.web.asked]
        assert [method for method, _ in found] == ["GET", "GET"]
        for (_, url), event in zip(found, ("stream-started", "stream-stopped"), strict=True):
            assert url.startswith(f"{URL}?AccountSid={ACCOUNT.sid}")
            assert f"StreamEvent={event}" in url
            assert "StreamName=ears" in url
        await world.status_callbacks.close()

    run_virtually(act())


@pytest.mark.parametrize(
    ("attribute", "word"), [('statusCallback="ftp://x"', "URL"), ('statusCallbackMethod="PUT"', "POST")]
)
def test_a_wrong_server_is_reported_and_the_stream_starts(attribute: str, word: str) -> None:
    async def act() -> None:
        world = World()
        await done(world, f'<Start><Stream url="wss://app.example.org/ears" {attribute}/></Start>')
        ((_, reason),) = world.failures()
        assert word in reason
        assert [each[1] for each in world.streams.did if each[1] == "stream_start"] == ["stream_start"]
        await world.status_callbacks.close()

    run_virtually(act())
