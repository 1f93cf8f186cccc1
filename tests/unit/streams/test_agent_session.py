"""The life of a conversation with a model: its key and settings, and what ends it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.access import CONFIGURATION
from bridge.audio.sound import Sound
from bridge.config.agents import AgentConfig
from bridge.config.speech import SpeechConfig
from bridge.dialects.base import Account, CallInfo
from bridge.dialects.openai_realtime import OpenAiRealtime
from bridge.logs import Fields
from bridge.media.dial import LinkFailed, LinkRefused
from bridge.outbound.gate import Gate
from bridge.speech.announcement import Announcements
from bridge.speech.engine import Speech
from bridge.speech.fetch import SoundFetcher
from bridge.streams.agent_session import Agents, AgentSession
from bridge.streams.agent_usage import AgentUsage
from bridge.streams.origin import Origin
from tests.fakes.virtual_time import pass_time, run_virtually

CALL = CallInfo("call-1", direction="inbound", caller="+4930123", callee="750")


class FakeStream:
    """A stream that is connected to a model, and records its end."""

    stream_id = "s1"
    name = Fields(stream="s1")
    origin = Origin("dialplan:agent", CONFIGURATION)
    call = CALL
    channel_id = "channel-1"
    link: Any = object()
    connects = 1
    queued_ms = 0.0
    playout_rate = 8000

    def __init__(self) -> None:
        self.ends: list[tuple[str, str | None]] = []
        self.played: list[bytes] = []
        self.dropped: list[str] = []

    @property
    def ended(self) -> bool:
        return bool(self.ends)

    def play(self, pcm: bytes) -> None:
        self.played.append(pcm)

    def reconnect(self, reason: str) -> None:
        self.dropped.append(reason)
        self.connects += 1

    async def disconnect(self) -> None:
        self.link = None

    def end(self, reason: str, error: str | None = None) -> None:
        self.ends.append((reason, error))

    def fail(self) -> None:
        raise AssertionError("an internal error")

    def tool_result(self, id: str, output: str) -> None:  # noqa: ARG002
        raise AssertionError("no tool was called")


async def beep(_: str, __: bool) -> Sound:
    return Sound(b"\1\0" * 80, 8000)


MADE: list[Agents] = []


def session(state_file: str = "", **values: Any) -> tuple[AgentSession, OpenAiRealtime]:
    dialect = OpenAiRealtime(connect=True)
    agents = Agents(Gate(), AgentUsage(state_file), beep)
    MADE.append(agents)
    return AgentSession(agents, "dialplan:agent", AgentConfig(**values), dialect), dialect


async def test_the_key_is_read_again_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "key"
    agent, dialect = session(key_file=str(file))
    with pytest.raises(LinkFailed, match=r"agent\.key_file: .*: No such file"):
        await agent.prepare(CALL)
    for key in ("first", "second"):
        file.write_text(f"{key}\n")
        await agent.prepare(CALL)
        assert dialect.agent.key == key
    file.write_text("two\nlines\n")
    with pytest.raises(LinkFailed, match="printable ASCII"):
        await agent.prepare(CALL)
    file.unlink()
    os.mkfifo(file)  # reading it would block a thread indefinitely
    with pytest.raises(LinkFailed, match="not a regular file"):
        await asyncio.wait_for(agent.prepare(CALL), 5)
    assert "second" not in repr(dialect.agent)


async def test_the_key_may_come_from_the_environment_in_another_header(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, dialect = session(key_env="A_KEY", key_header="api-key: {key}")
    with pytest.raises(LinkFailed, match="A_KEY"):
        await agent.prepare(CALL)
    monkeypatch.setenv("A_KEY", "secret")
    await agent.prepare(CALL)
    assert dialect.handshake_headers("", Account()) == {"api-key": "secret"}


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve settings; connections to the server are closed at the end. Yields the URL."""
    async with TestServer(app) as server:
        yield str(server.make_url("/agent"))
        while MADE:
            await MADE.pop().close()


@pytest.fixture
async def asked() -> AsyncIterator[tuple[str, list[Any], dict[str, Any]]]:
    """A server of settings: its URL, the requests that it got, and what it responds."""
    requests: list[Any] = []
    response: dict[str, Any] = {"instructions": "Speak German", "voice": "cedar"}

    async def answer(request: web.Request) -> web.Response:
        requests.append((await request.json(), request.headers))
        return web.json_response(response)

    app = web.Application()
    app.router.add_post("/agent", answer)
    async with serving(app) as url:
        yield url, requests, response


async def test_a_server_chooses_the_settings_of_a_call_once(asked: tuple[str, list[Any], dict[str, Any]]) -> None:
    url, requests, _ = asked
    agent, dialect = session(
        instructions="Speak English", model="m", settings_url=url, settings_secret="a-secret-of-16-characters"
    )
    await agent.prepare(CALL)
    await agent.prepare(CALL)
    ((body, headers),) = requests
    assert body["from_number"] == "+4930123"
    assert headers["webhook-signature"].startswith("v1,")
    assert (dialect.agent.instructions, dialect.agent.voice, dialect.agent.model) == ("Speak German", "cedar", "m")


async def test_invalid_settings_do_not_reach_the_model(asked: tuple[str, list[Any], dict[str, Any]]) -> None:
    url, _, response = asked
    agent, _ = session(settings_url=url)
    response["prompt"] = "x"
    with pytest.raises(LinkFailed, match="unknown setting 'prompt'"):
        await agent.prepare(CALL)
    del response["prompt"]
    response["voice"] = 1
    with pytest.raises(LinkFailed, match="voice is not a str"):
        await agent.prepare(CALL)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("x", "not usable JSON"),
        ('{"parameters": {"temperature": NaN}}', "NaN is not a JSON number"),
        ('{"voice": "\\udc00"}', "surrogates not allowed"),
        ('{"parameters": ' + '{"a":' * 60 + "1" + "}" * 61, "nested deeper than 50"),
        ("[]", "not a JSON object"),
    ],
)
async def test_settings_that_cannot_be_sent_on_are_refused(body: str, why: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_post("/agent", answer)
    async with serving(app) as url:
        agent, _ = session(settings_url=url)
        with pytest.raises(LinkFailed, match=why):
            await agent.prepare(CALL)


def ended_after(seconds: float, *, ready: bool = True, **values: Any) -> tuple[FakeStream, AgentSession]:
    """Return the stream of a conversation in which nothing happens, after some time."""

    async def act() -> tuple[FakeStream, AgentSession]:
        agent, dialect = session(**values)
        stream = FakeStream()
        dialect.ready = ready
        agent.watch(stream)
        await pass_time(seconds)
        await agent.ended(stream, stream.ends[-1][1] if stream.ends else None)
        return stream, agent

    return run_virtually(act())


def test_a_conversation_ends_when_nobody_speaks() -> None:
    assert ended_after(9, silence_s=10)[0].ends == []
    assert ended_after(12, silence_s=10)[0].ends == [("nobody has spoken for 10 s", None)]


def test_a_conversation_ends_at_its_limit() -> None:
    stream, agent = ended_after(70, silence_s=0, max_minutes=1, failure_prompt="tone")
    assert stream.ends == [("the limit of 1 minutes of a conversation is reached", None)]
    assert not agent.failed
    assert not stream.played


def test_a_model_that_is_never_ready_has_failed_after_two_connections() -> None:
    stream, agent = ended_after(30, ready=False, ready_timeout_s=5, failure_prompt="tone")
    assert stream.dropped == ["the model was not ready within 5 s"]
    assert stream.ends == [("the model was not ready within 5 s", "connect_failed")]
    assert agent.failed
    assert len(stream.played) == 1


async def test_a_prompt_is_resampled_beside_the_audio_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def at(sound: Sound, _: int) -> Sound:
        threads.append(threading.current_thread())
        return sound

    monkeypatch.setattr(Sound, "at", at)
    agent, _ = session(failure_prompt="tone")
    stream = FakeStream()
    await agent.ended(stream, "connect_failed")
    assert len(stream.played) == 1
    assert threads[0] is not threading.main_thread()


@pytest.mark.parametrize("configured", [False, True])
async def test_a_prompt_from_a_request_does_not_reach_this_machine(configured: bool) -> None:
    async def handler(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response(status=404)

    reached: list[str] = []
    application = web.Application()
    application.router.add_get("/x.wav", handler)
    gate = Gate()
    sounds: Any = Announcements(cast(Speech, None), SoundFetcher(SpeechConfig(), gate))
    async with TestServer(application) as server:
        config = AgentConfig(failure_prompt=f"sound:{server.make_url('/x.wav')}")
        dialect = OpenAiRealtime(connect=True)
        agents = Agents(gate, AgentUsage(""), sounds.sound)
        session = AgentSession(agents, "flow:ai_talk", config, dialect, configured=configured)
        await session.ended(FakeStream(), "connect_failed")
        await agents.close()
    assert reached == (["/x.wav"] if configured else [])


def test_the_minutes_of_a_day_end_a_conversation_and_refuse_the_next_one_after_a_restart(tmp_path: Path) -> None:
    state = str(tmp_path / "state.sqlite3")
    stream, agent = ended_after(100, state_file=state, silence_s=0, max_minutes_per_day=1)
    assert stream.ends == [("the limit of 1 minutes of a day is reached", None)]
    assert agent.failed

    async def again() -> None:
        another, _ = session(state, max_minutes_per_day=1)
        with pytest.raises(LinkRefused, match="minutes of a day"):
            await another.prepare(CALL)
        tomorrow = AgentUsage(state, lambda: "2999-01-01")
        assert await tomorrow.add("dialplan:agent", 0) == 0

    asyncio.run(again())


def test_a_configured_model_is_checked() -> None:
    for wrong in (
        {"on_failure": "somewhere"},
        {"on_failure": "extension:"},
        {"key_header": "api-key"},
        {"key_env": "A KEY"},
        {"settings_url": "ftp://x/"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AgentConfig.model_validate(wrong)
    assert json.loads(AgentConfig(on_failure="extension:1001@sales").model_dump_json())["on_failure"]
