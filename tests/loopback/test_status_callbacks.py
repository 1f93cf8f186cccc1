"""Status callbacks of calls and recordings continue in the next run, each once: also about what ended meanwhile."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from bridge.access import CONFIGURATION
from bridge.calls.journal import journal_file
from bridge.dialects.twilio import call_sid
from bridge.flows.recording_callbacks import RECORDING_EVENTS, RecordingCallback, recording_sid
from bridge.flows.status_callbacks import CALL, RECORDING, STATUS_EVENTS
from tests.waiting import until

from .runs import Runs
from .webhook_receiver import Receiver

DOCUMENT = '<Response><Gather timeout="60"/></Response>'
ACCOUNT = {"account_sid": "AC" + "7" * 32, "auth_token": "a-token-for-the-tests"}


class Agent(Receiver):
    """Answers with a document, and keeps the status callbacks."""

    def __init__(self) -> None:
        super().__init__(lambda _: web.Response(text=DOCUMENT))

    def forms(self, path: str) -> list[dict[str, str]]:
        sent = zip(self.paths, self.requests, strict=True)
        return [dict(parse_qsl(body.decode())) for each, (_, _, body) in sent if each == path]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
async def agent(runs: Runs) -> AsyncIterator[Agent]:
    agent = Agent()
    async with agent.serving():
        route = {"id": "agent", "match": "750", "twiml_url": f"{agent.url}/voice", "then": "hangup"}
        await runs.stop()
        runs.sections = {
            "dialplan": [route | {"status_callback": f"{agent.url}/status"}],
            "twilio": ACCOUNT,
            "outbound": {"allow": ["localhost"]},
        }
        await runs.start()
        yield agent


async def asked(runs: Runs, agent: Agent) -> str:
    """Have a call wait for digits; return its id."""
    call = runs.pbx.call("1001", "750")
    await runs.at(call, "Gather")
    await until(lambda: runs.record(call).tm_progressing is not None)
    assert agent.forms("/status") == []
    return call


def kept(runs: Runs, kind: str) -> dict[str, Any]:
    """Return the stored facts of a kind."""
    with closing(sqlite3.connect(journal_file(str(runs.folder / "state.sqlite3")), timeout=5)) as database:
        found = database.execute("SELECT id, fact FROM facts WHERE kind = ?", [kind]).fetchall()
    return {identity: json.loads(fact) for identity, fact in found}


async def test_a_call_that_survives_reports_its_end(runs: Runs, agent: Agent) -> None:
    call = await asked(runs, agent)
    began = runs.record(call).tm_progressing
    await runs.crash()
    await asyncio.sleep(1.1)
    await runs.start()
    await runs.at(call, "Gather")
    assert runs.record(call).tm_progressing > began + 1
    runs.pbx.hang_up(call)
    (form,) = await until(lambda: agent.forms("/status"))
    assert (form["CallSid"], form["CallStatus"], form["SequenceNumber"]) == (call_sid(call), "completed", "0")
    assert (form["From"], form["To"]) == ("1001", "750")
    assert int(form["CallDuration"]) >= 1, "from the answer, which the first run has seen"
    await nothing_more(runs, agent, CALL, "/status", 1)


async def nothing_more(runs: Runs, agent: Agent, kind: str, path: str, count: int) -> None:
    """Start again: the next run has nothing to send."""
    await until(lambda: not kept(runs, kind))
    await runs.crash()
    await runs.start()
    assert kept(runs, kind) == {}
    assert len(agent.forms(path)) == count


@pytest.mark.parametrize("end", ["crash", "stop"])
async def test_a_call_that_ended_meanwhile_is_reported_at_the_start(runs: Runs, agent: Agent, end: str) -> None:
    call = await asked(runs, agent)
    await getattr(runs, end)()
    runs.pbx.hang_up(call)
    assert agent.forms("/status") == []
    await runs.start()
    (form,) = await until(lambda: agent.forms("/status"))
    assert (form["CallSid"], form["CallStatus"], form["From"]) == (call_sid(call), "completed", "1001")
    await nothing_more(runs, agent, CALL, "/status", 1)


async def test_an_originated_call_reports_each_event_once(runs: Runs, agent: Agent) -> None:
    call = await runs.originate({"type": "sleep", "option": {"duration": 60_000}})
    runs.app.calling.status_callbacks.watch(call, f"{agent.url}/status", "POST", STATUS_EVENTS)
    await until(lambda: call in runs.pbx.channels)
    runs.pbx.rings(call)
    await until(lambda: len(agent.forms("/status")) == 2)
    await until(lambda: [fact["watched"]["sent"] for fact in kept(runs, CALL).values()] == [["initiated", "ringing"]])
    await runs.crash()
    await runs.start()
    runs.pbx.pick_up(call)
    await until(lambda: len(agent.forms("/status")) == 3)
    runs.pbx.hang_up(call)
    await until(lambda: len(agent.forms("/status")) == 4)
    found = [(each["CallStatus"], each["SequenceNumber"]) for each in agent.forms("/status")]
    assert found == [("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3")]
    await nothing_more(runs, agent, CALL, "/status", 4)


async def test_a_recording_reports_its_end(runs: Runs, agent: Agent) -> None:
    call = await asked(runs, agent)
    control = runs.app.calling.call_control
    recording = await control.recording_start(call, principal=CONFIGURATION, direction="in")
    callback = RecordingCallback(f"{agent.url}/recording", events=RECORDING_EVENTS, source="StartCallRecordingAPI")
    runs.app.calling.status_callbacks.follow_recording(recording, callback)
    await until(lambda: kept(runs, RECORDING).get(recording.id, {}).get("began"))
    await runs.crash()
    await runs.start()
    await runs.app.calling.recordings.stop(recording.id)
    await until(lambda: len(agent.forms("/recording")) == 2)
    began, ended = agent.forms("/recording")
    assert (began["RecordingStatus"], ended["RecordingStatus"]) == ("in-progress", "completed")
    for form in (began, ended):
        assert (form["RecordingSid"], form["CallSid"]) == (recording_sid(recording.id), call_sid(call))
        assert (form["RecordingTrack"], form["RecordingSource"]) == ("inbound", "StartCallRecordingAPI")
    await nothing_more(runs, agent, RECORDING, "/recording", 2)
