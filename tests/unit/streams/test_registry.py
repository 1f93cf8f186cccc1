"""All streams of a process: how they are counted and recorded, and what happens to them when it stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from bridge.access import CONFIGURATION, Principal
from bridge.audio.playout import Playout
from bridge.audio.sound import Sound
from bridge.audit import NO_AUDIT, Audit
from bridge.config import Config
from bridge.dialects.base import CallInfo, Message, TrackInfo
from bridge.dialects.voipbin import Voipbin
from bridge.errors import Overloaded
from bridge.events.hub import Events
from bridge.media.call_admission import LATE_OF_MEASURED, CallAdmission
from bridge.media.counters import Counters
from bridge.media.dial import Backoff, LinkRefused
from bridge.media.websocket import Link
from bridge.outbound.gate import Gate
from bridge.patterns import Patterns
from bridge.streams import registry as module
from bridge.streams.agent_session import MAX_COMMANDS, Agents, AgentSession
from bridge.streams.agent_usage import AgentUsage
from bridge.streams.connection import Accepted, Dialed
from bridge.streams.dialing import GetVariable
from bridge.streams.events import Publisher
from bridge.streams.origin import Origin
from bridge.streams.registry import HANDOVER_GRACE_S, Streams
from bridge.streams.subscription import DialplanRoute, Subscription
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import Join
from tests.fakes.garbage import uncollected
from tests.fakes.log_output import log_output
from tests.fakes.media_pbx import taps_with
from tests.fakes.virtual_time import pass_time, until
from tests.fakes.wire import Wire, nobody
from tests.unit.agent_tools.house import AgentHouse
from tests.unit.audit.lines import Lines

STORE = "redis://store.example.org"


TARGET = Subscription(id="s", url="ws://application.example.org/", dialect="yeastar", extensions=Patterns(("1001",)))


def dialing(
    monkeypatch: pytest.MonkeyPatch,
    wires: list[Wire],
    events: Publisher | None = None,
    audit: Audit = NO_AUDIT,
    admission: CallAdmission | None = None,
    get_variable: GetVariable | None = None,
    agents: Agents | None = None,
    **sections: Any,
) -> Streams:
    """Streams to applications that take each connection; ``wires`` are what they are connected by."""
    dialed = iter(wires)

    async def dial(*_: object, **__: object) -> Link:
        return next(dialed)

    monkeypatch.setattr(module, "dial", dial)
    return Streams(
        Config.model_validate(sections),
        taps=taps_with("b"),
        counters=Counters(),
        new_playout=lambda fmt: Playout(fmt, 10_000, 0),
        admission=admission or CallAdmission(10),
        send_dtmf=nobody,
        events=events,
        audit=audit,
        get_variable=get_variable,
        agents=agents,
    )


@pytest.mark.parametrize(("store", "expected"), [("", None), (STORE, HANDOVER_GRACE_S)])
async def test_a_bridge_that_stops_gives_way_where_there_are_others(
    store: str, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire()
    wire.answers_close = False
    wire.paused()  # the application does not read

    sections: dict[str, Any] = {"cluster": {"store": store}} if store else {}
    streams = dialing(monkeypatch, [wire], **sections)
    stream = streams.dial("test", CallInfo("call"), (), TARGET, lambda *_: None, principal=CONFIGURATION)
    await stream.settled(1)
    await streams.stop()
    assert wire.sent[-1] == "close 1012"
    assert wire.discard_unacked_after_s == expected
    assert wire.closed is bool(store), "the claims are let go of when this is over"
    wire.abort(1006, "the test is over")


async def test_a_model_that_floods_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence(*_: object) -> Sound:
        return Sound(b"", 8000)

    wire, events, heard = Wire(), Events(), list[str]()
    events.subscribe(lambda event: heard.append(event.type))
    streams = dialing(monkeypatch, [wire], events, agents=Agents(Gate(), AgentUsage(""), silence))
    target = Subscription(id="m", url="ws://model.example.org/", dialect="deepgram_agent", extensions=Patterns(("1",)))
    reasons: list[str] = []
    stream = streams.dial(
        *("subscription:m", CallInfo("call"), (), target, lambda _, reason: reasons.append(reason)),
        principal=CONFIGURATION,
        two_way=True,
    )
    await stream.settled(0.05)
    calls = [{"id": str(number), "name": "x"} for number in range(MAX_COMMANDS + 100)]
    wire.received(json.dumps({"type": "FunctionCallRequest", "functions": calls}))
    assert len(wire.sent) == MAX_COMMANDS
    wire.received('{"type": "ConversationText", "role": "user", "content": "x"}')
    assert "transcript_created" not in heard
    await until(lambda: bool(reasons))
    assert reasons == ["more than 600 transcripts, tool calls and errors within a minute"]


async def test_a_key_that_a_model_repeats_is_in_no_log_and_no_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def silence(*_: object) -> Sound:
        return Sound(b"", 8000)

    monkeypatch.setenv("A_KEY", "sk-1234")
    wire, events, published = Wire(), Events(), list[str]()
    events.subscribe(lambda event: published.append(event.text))
    streams = dialing(monkeypatch, [wire], events, agents=Agents(Gate(), AgentUsage(""), silence))
    values = {"id": "m", "url": "ws://model.example.org/", "dialect": "deepgram_agent", "extensions": ["1"]}
    target = Subscription.model_validate({**values, "agent": {"key_env": "A_KEY"}})
    reasons: list[str] = []
    stream = streams.dial(
        *("subscription:m", CallInfo("call"), (), target, lambda _, reason: reasons.append(reason)),
        principal=CONFIGURATION,
    )
    await until(lambda: stream.live or stream.link is not None)
    wire.received('{"type": "Error", "code": "401", "description": "invalid key sk-1234"}')
    wire.closed_by_peer(1000, "invalid key sk-1234")
    wire.lost()
    await until(lambda: bool(reasons))
    assert reasons == ["invalid key ********"]
    assert "invalid key ********" in caplog.text
    assert "sk-1234" not in caplog.text + "".join(published)


async def test_the_streams_of_a_principal_end_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    wires, events = [Wire() for _ in range(3)], Events()
    told: list[tuple[str, str]] = []
    events.subscribe(lambda event: told.append((event.type, event.data["principal"])))
    streams = dialing(monkeypatch, wires, events)
    for principal in (Principal("crm"), CONFIGURATION, Principal("crm", "192.0.2.7")):
        stream = streams.dial("test", CallInfo("call"), (), TARGET, lambda *_: None, principal=principal)
        await stream.settled(1)
    assert [stream.describe()["principal"] for stream in streams] == ["crm", "config", "crm"]
    assert streams.end_of_principal("nobody", 1008, "revoked") == 0
    assert streams.end_of_principal("crm", 1008, "the token was revoked") == 2
    await asyncio.gather(*(each.wait() for each in streams if each.origin.principal.id == "crm"))
    assert [wire.sent[-1:] for wire in wires] == [["close 1008"], [], ["close 1008"]]
    assert sorted(told)[:3] == [
        ("stream_connected", "config"),
        ("stream_connected", "crm"),
        ("stream_connected", "crm"),
    ]
    assert ("stream_ended", "crm") in told
    assert ("stream_ended", "config") not in told
    await streams.stop()


@pytest.mark.parametrize("reason", ["Asterisk was restarted", "Asterisk was stopped"])
async def test_streams_of_an_asterisk_that_has_lost_its_calls_end_with_that_reason(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    wire, reasons = Wire(), list[str]()
    streams = dialing(monkeypatch, [wire])
    stream = streams.dial(
        "s", CallInfo("call"), (), TARGET, lambda _, why: reasons.append(why), principal=CONFIGURATION
    )
    await stream.settled(1)
    streams.asterisk_lost(reason)
    stream.end("the call ended")
    await stream.wait()
    assert (wire.sent[-1], reasons) == ("close 1011", [reason])


async def test_a_variable_that_fits_into_no_header_refuses_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async def get(_: str, __: str) -> str:
        return "\N{GRINNING FACE}" * 512

    streams, reasons = dialing(monkeypatch, [Wire()], get_variable=get), list[str]()
    target = TARGET.model_copy(update={"channel_variables": ("NAME",), "extra_headers": {"X-Name": "{NAME}"}})
    stream = streams.dial(
        "s", CallInfo("call"), (), target, lambda _, why: reasons.append(why), principal=CONFIGURATION
    )
    await stream.wait()
    assert reasons == ["refused: the header 'X-Name': is longer than 4096 characters"]


async def test_the_prompt_of_a_failure_ends_with_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def minute(_: str, __: bool) -> Sound:
        return Sound(b"\1\0" * 8000 * 60, 8000)

    async def refuse(*_: object, **__: object) -> Link:
        raise LinkRefused(401, "the key is wrong")

    streams, reasons = dialing(monkeypatch, [], agents=Agents(Gate(), AgentUsage(""), minute)), list[str]()
    monkeypatch.setattr(module, "dial", refuse)
    target = DialplanRoute.model_validate(
        {"id": "r", "match": "750", "url": "ws://model.example/", "dialect": "openai_realtime"}
        | {"agent": {"failure_prompt": "sound:sorry.wav"}}
    )
    stream = streams.dial(
        *("r", CallInfo("call"), ("caller",), target, lambda _, why: reasons.append(why)),
        principal=CONFIGURATION,
        two_way=True,
    )
    stream.set_tracks([WantedTrack(TrackInfo("caller", "party"), Join("b"), plays=True)])
    await until(lambda: stream.queued_ms > 0)
    assert stream.ended
    stream.end("the call ended")
    async with asyncio.timeout(5):
        await stream.wait()
    assert reasons == ["refused: the key is wrong"]


async def test_a_model_hears_nothing_of_what_follows_its_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Message] = []

    async def ended(*_: object) -> None:  # a tool may take seconds to undo what it has changed
        sent.extend(wire.sent)

    async def silence(_: str, __: bool) -> Sound:
        return Sound(b"", 8000)

    wire = Wire()
    streams = dialing(monkeypatch, [wire], agents=Agents(Gate(), AgentUsage(""), silence))
    monkeypatch.setattr(AgentSession, "ended", ended)
    target = DialplanRoute.model_validate(
        {"id": "r", "match": "750", "url": "ws://model.example/", "dialect": "openai_realtime"}
    )
    stream = streams.dial("r", CallInfo("call"), ("caller",), target, lambda *_: None, principal=CONFIGURATION)
    await stream.settled(1)
    stream.end("the call was transferred")
    await stream.wait()
    assert sent[-1:] == ["close 1000"]


async def test_a_description_counts_the_audio_of_an_application_that_sends_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire = Wire()
    streams = dialing(monkeypatch, [wire])
    target = TARGET.model_copy(update={"dialect": "voipbin", "options": {"encapsulation": "sln"}})
    stream = streams.dial("test", CallInfo("call"), ("mix",), target, lambda *_: None, principal=CONFIGURATION)
    stream.set_tracks([WantedTrack(TrackInfo("mix", "party"), Join("b"), plays=True)])
    await stream.settled(1)
    with log_output() as output:
        for _ in range(12):
            wire.on_message(b"\1\0" * 8 * 1000)  # 12 s, of which `new_playout` accepts 10
    described = stream.describe()
    (line,) = output.getvalue().splitlines()
    assert "audio from the application refused, playout queue full" in line
    assert line.endswith("refused_ms=1000 queued_ms=10000")
    assert (described["queued_ms"], described["dropped_from_application_ms"]) == (10_000, 2_000)
    stream.set_tracks(())
    described = stream.describe()
    assert (described["queued_ms"], described["dropped_from_application_ms"]) == (0, 2_000)
    await streams.stop()


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are not empty, as the audit log keeps them; the duration is checked."""
    assert values.pop("seconds", 0) >= 0
    return {name: value for name, value in values.items() if value not in ("", (), [])}


async def test_start_and_end_of_a_dialed_stream_are_in_the_audit_log(monkeypatch: pytest.MonkeyPatch) -> None:
    audit, principal = Lines(), Principal("crm", "192.0.2.7")
    streams = dialing(monkeypatch, [Wire()], audit=audit)
    target = TARGET.model_copy(update={"url": "wss://app.example:8443/x?key=secret"})
    label = f"subscription:{target.id}"
    stream = streams.dial(label, CallInfo("call"), ("p1", "p2"), target, lambda *_: None, principal=principal)
    await stream.settled(1)
    action, who, outcome, values = audit.the_only()
    assert (action, who, outcome) == ("stream.start", principal, "ok")
    started = {
        "stream": "p1", "call": "call", "started_by": "subscription:s", "subscription": "s", "dialect": "yeastar",
        "application": "wss://app.example:8443/x", "listen": ("p1", "p2"), "speak": False,
    }  # fmt: skip
    assert given(values) == started
    stream.end("the call ended")
    await stream.wait()
    action, who, outcome, ending = audit.lines[1]
    assert (action, who, outcome) == ("stream.end", principal, "ok")
    assert given(ending) == started | {"reason": "the call ended", "code": 1000, "connects": 1}
    assert len(audit.lines) == 2


async def test_a_stream_that_ends_as_the_process_stops_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Lines()
    streams = dialing(monkeypatch, [Wire()], audit=audit)
    stream = streams.dial("test", CallInfo("call"), (), TARGET, lambda *_: None, principal=CONFIGURATION)
    await stream.settled(1)
    await streams.stop()
    action, _, outcome, values = audit.lines[-1]
    assert (action, values["code"], outcome) == ("stream.end", 1012, "ok")


@pytest.mark.parametrize(("code", "outcome"), [(1000, "ok"), (1001, "ok"), (1008, "failed")])
async def test_start_and_end_of_an_accepted_stream_are_in_the_audit_log(
    monkeypatch: pytest.MonkeyPatch, code: int, outcome: str
) -> None:
    audit, principal, events = Lines(), Principal("crm", "192.0.2.7"), Events()
    told: list[tuple[str, str]] = []
    events.subscribe(lambda event: told.append((event.type, event.data["started_by"])))
    streams = dialing(monkeypatch, [], audit=audit, events=events)
    origin = Origin("client", principal, party_id="p", direction_listen="both", plays=True)
    stream = streams.open(origin, CallInfo("call"), ("both",), dialect=Voipbin("sln"), connection=Accepted(Wire()))
    assert told == [("stream_started", "client"), ("stream_connected", "client")]
    started = {
        "stream": "s1", "call": "call", "party": "p", "started_by": "client", "dialect": "voipbin",
        "listen": ("both",), "speak": True,
    }  # fmt: skip
    assert given(audit.the_only()[3]) == started
    stream.end("enough", code=code)
    await stream.wait()
    action, who, result, ending = audit.lines[1]
    assert (action, who, result) == ("stream.end", principal, outcome)
    assert given(ending) == started | {"reason": "enough", "code": code, "connects": 1}
    assert told[2:] == [("stream_ended", "client")]


async def test_a_stream_that_nobody_took_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Lines()
    streams = dialing(monkeypatch, [], audit=audit)

    async def refuse(*_: object, **__: object) -> Link:
        raise LinkRefused(401, "401")

    monkeypatch.setattr(module, "dial", refuse)
    stream = streams.dial("test", CallInfo("call"), (), TARGET, lambda *_: None, principal=CONFIGURATION)
    await stream.wait()
    action, _, outcome, values = audit.lines[-1]
    assert (action, outcome, values["connects"]) == ("stream.end", "failed", 0)


@pytest.mark.parametrize("replays", [False, True])
@pytest.mark.parametrize("kind", ["accepted", "dialed"])
async def test_a_dialect_that_cannot_begin_leaves_no_stream_behind(
    monkeypatch: pytest.MonkeyPatch, kind: str, replays: bool
) -> None:
    class Faulty(Voipbin):
        def opened(self, *_: object) -> Sequence[Message]:
            raise ZeroDivisionError("a fault")

    wire, events, told = Wire(), Events(), list[str]()
    events.subscribe(lambda event: told.append(event.type))
    streams = dialing(monkeypatch, [wire], events)
    dialect = Faulty("sln")
    dialect.replays = replays

    async def dial() -> Link:
        return wire

    connection = Accepted(wire) if kind == "accepted" else Dialed(dial, Backoff(1, 1))
    stream = streams.open(Origin("test", CONFIGURATION), CallInfo("call"), (), dialect=dialect, connection=connection)
    await stream.wait()
    assert (len(streams), told[0], told[-1]) == (0, "stream_started", "stream_ended")
    assert stream.close_code == 1011
    assert streams.new_id("s")


async def test_an_overloaded_process_starts_streams_of_admitted_calls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    admission = CallAdmission(10, late_ms=40)
    admission.load = lambda: 20
    streams = dialing(monkeypatch, [Wire()], admission=admission)
    for turn in range(LATE_OF_MEASURED):
        admission.measured(0.1, 0.1, 0.1 * turn)

    def start(*, admitted: bool) -> None:
        streams.dial("t", CallInfo("c"), (), TARGET, lambda *_: None, principal=CONFIGURATION, admitted=admitted)

    with pytest.raises(Overloaded, match="overloaded"):
        start(admitted=False)
    start(admitted=True)
    assert len(streams) == 1
    await streams.stop()


@pytest.mark.parametrize("dialect", ["yeastar", "deepgram_agent"])
async def test_an_ended_stream_leaves_nothing_to_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    async def silence(*_: object) -> Sound:
        return Sound(b"", 8000)

    house, wire = AgentHouse(), Wire()
    agents = Agents(Gate(), AgentUsage(""), silence)
    agents.toolbox = lambda: house.toolbox
    streams = dialing(monkeypatch, [wire], agents=agents)
    values = {"id": "r", "match": "750", "url": "ws://application.example/", "dialect": dialect}
    tools = {"agent": {"tools": ["send_dtmf", "hang_up"]}} if dialect == "deepgram_agent" else {}
    target = DialplanRoute.model_validate(values | tools)
    with uncollected() as left:
        stream = streams.dial(
            *("r", CallInfo("call"), ("caller",), target, lambda *_: None), principal=CONFIGURATION, two_way=True
        )
        await stream.settled(1)
        calls = [{"id": "1", "name": "send_dtmf", "arguments": '{"digits": "1"}'}, {"id": "2", "name": "hang_up"}]
        wire.received(json.dumps({"type": "FunctionCallRequest", "functions": calls}))
        if tools:
            await until(lambda: any("the call is not connected yet" in str(each) for each in wire.sent))
        stream.end("the test is over")
        await stream.wait()
        del stream
        await pass_time(1)
    assert not left
    await house.toolbox.stop()
