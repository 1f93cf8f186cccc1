"""The audit log of real calls is complete: who, when, which call, and nothing that it must not contain."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.api.tokens import hash_of, new_token
from bridge.config.tokens import HASH_PREFIX
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import open_peer
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import Client, action, client_of, sleep
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, sends
from tests.lab.workers import serving

CRM, SUPERVISOR = new_token(), new_token()
TOKENS = [
    {"id": "crm", "hash": HASH_PREFIX + hash_of(CRM), "scopes": ["admin"]},
    {"id": "supervisor", "hash": HASH_PREFIX + hash_of(SUPERVISOR), "scopes": ["calls:read", "streams:listen"]},
]
HTTP = {"port": 0, "authentication": True}
DIGITS = "4929"


class Story:
    """The lines of an audit log."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def of(self, **values: object) -> list[dict[str, Any]]:
        """Return the lines that have these values."""
        return [line for line in self.lines if values.items() <= line.items()]

    async def until(self, *, count: int = 1, **values: object) -> list[dict[str, Any]]:
        """Wait for ``count`` of the lines that `of` returns."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := self.of(**values)) < count:
                await asyncio.sleep(0.02)
        return found


async def ask(client: Client, token: str, method: str, path: str, body: object = None) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{client.target.url}{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, json=body, headers=headers) as answer:
        await answer.read()
        return answer.status


def short(lines: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(line.get(name) for name in names) for line in lines]


async def test_a_call_that_is_listened_to_recorded_and_ended(lab: Lab, phones: Phones, tmp_path: Path) -> None:
    (alice,) = await phones("1001")
    story = Story(tmp_path / "audit.jsonl")
    sections: dict[str, Any] = {"http": HTTP, "tokens": TOKENS, "audit": {"output": str(story.path)}}
    async with pushing(lab, **sections) as target:
        target.token = CRM
        async with client_of(target) as client:
            call_id = await client.call("1001", sleep(60_000))
            await alice.answered()
            await client.until("call_progressing", call_id)
            url = target.stream_url(call_id, encapsulation="sln", direction_speak="none").replace(CRM, SUPERVISOR)
            async with open_peer(url) as listener:
                await listener.heard(10)
                assert (await target.get("/v1.0/streams"))[1]["result"][0]["principal"] == "supervisor"
                await client.done("POST", f"/v1.0/calls/{call_id}/recording_start")
                await client.done("POST", f"/v1.0/calls/{call_id}/dtmf", {"digits": DIGITS})
                await sends(alice, 1)
                await client.done("POST", f"/v1.0/calls/{call_id}/recording_stop")
                ((recording_id,),) = [(await client.record(call_id))["recording_ids"]]
                shown = await client.done("GET", f"/v1.0/recordings/{recording_id}")
                assert shown["principal"] == client.told("recording_started")[0]["principal"] == "crm"
                file = await client.done("GET", f"/v1.0/recordings/{recording_id}/file")
                assert await ask(client, SUPERVISOR, "POST", f"/v1.0/calls/{call_id}/hangup") == 403
                assert await ask(client, "a-token-of-nobody", "POST", f"/v1.0/calls/{call_id}/hangup") == 401
                await client.done("POST", f"/v1.0/calls/{call_id}/hangup")
                await story.until(action="stream.end")
            await client.done("DELETE", f"/v1.0/recordings/{recording_id}")
    lines = story.lines
    who = ("action", "principal", "outcome", "call", "status")
    # That the stream ends because of the hangup may be recorded before the hangup is done.
    order = [line for line in short(lines, *who) if line[0] != "stream.end"]
    assert order == [
        ("audit.start", "config", "ok", None, None),
        ("events.start", "crm", "ok", None, None),
        ("call.originate", "crm", "ok", None, 200),
        ("stream.start", "supervisor", "ok", call_id, None),
        ("recording.start", "crm", "ok", call_id, 200),
        ("call.dtmf", "crm", "ok", call_id, 200),
        ("recording.end", "crm", "ok", call_id, None),
        ("recording.stop", "crm", "ok", call_id, 200),
        ("recording.download", "crm", "ok", call_id, 200),
        ("request.reject", "supervisor", "rejected", None, 403),
        ("request.reject", None, "rejected", None, 401),
        ("call.hangup", "crm", "ok", call_id, 200),
        ("recording.delete", "crm", "ok", call_id, 200),
        ("events.end", "crm", "ok", None, None),
        ("audit.stop", "config", "ok", None, None),
    ]
    (originated,) = story.of(action="call.originate")
    assert (originated["destinations"], originated["calls"]) == (["extension 1001"], [call_id])
    (start,), (end,) = story.of(action="stream.start"), story.of(action="stream.end")
    assert (start["listen"], start["speak"], start["address"]) == (["both"], False, "127.0.0.1")
    assert (end["principal"], end["stream"], end["call"], end["code"]) == ("supervisor", start["stream"], call_id, 1000)
    assert 1 < end["seconds"] < 60
    recordings = ("recording.start", "recording.stop", "recording.end", "recording.download", "recording.delete")
    assert {line["recording"] for line in lines if line["action"] in recordings} == {recording_id}
    assert story.of(action="recording.download")[0]["bytes"] == len(file)
    assert [line["attempted"] for line in lines if line["action"] == "request.reject"] == ["call.hangup"] * 2
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert sorted(line["time"] for line in lines) == [line["time"] for line in lines]
    text = story.path.read_text()
    for secret in (CRM, SUPERVISOR, DIGITS, "a-token-of-nobody"):
        assert secret not in text


async def test_what_flows_and_subscriptions_open_belongs_to_their_owner(
    lab: Lab, phones: Phones, tmp_path: Path
) -> None:
    (alice,) = await phones("1001")
    story = Story(tmp_path / "audit.jsonl")
    async with open_sink() as sink:
        configured = {"id": "in-file", "url": f"{sink.url}/config", "dialect": "yeastar", "extensions": ["1001"]}
        sections: dict[str, Any] = {
            "http": HTTP, "tokens": TOKENS, "audit": {"output": str(story.path)}, "subscriptions": [configured],
            "streams": {"state_file": str(tmp_path / "state.sqlite3")},
        }  # fmt: skip
        async with pushing(lab, **sections) as target:
            target.token = CRM
            async with client_of(target) as client:
                made = configured | {"id": "made", "url": f"{sink.url}/made"}
                assert (await client.ask("POST", "/v1.0/subscriptions", made))[0] == 201
                flow = [
                    action("external_media_start", url=f"{sink.url}/flow", encapsulation="sln", direction_listen="in"),
                    action("recording_start"),
                    sleep(60_000),
                ]
                call_id = await client.call("1001", *flow)
                await alice.answered()
                await story.until(action="recording.start")
                await sink.connected(3)
                await client.done("POST", f"/v1.0/calls/{call_id}/hangup")
                await story.until(action="stream.end", count=3)
                await story.until(action="recording.end")
    for kind in ("stream.start", "stream.end"):
        owners = {line["started_by"]: line["principal"] for line in story.of(action=kind, outcome="ok")}
        assert owners == {
            "subscription:in-file": "config", "subscription:made": "crm", "flow:external_media_start": "crm",
        }  # fmt: skip
    applications = {line["application"] for line in story.of(action="stream.start")}
    assert applications == {f"{sink.url}/{name}" for name in ("config", "made", "flow")}
    for kind in ("recording.start", "recording.end"):
        (line,) = story.of(action=kind)
        assert (line["principal"], line["call"]) == ("crm", call_id)
    assert {line["call"] for line in story.of(action="stream.end")} == {call_id}


async def test_a_revoked_token_loses_its_streams(lab: Lab, phones: Phones, tmp_path: Path) -> None:
    (alice,) = await phones("1001")
    story = Story(tmp_path / "audit.jsonl")
    sections: dict[str, Any] = {"http": HTTP, "tokens": TOKENS, "audit": {"output": str(story.path)}}
    async with pushing(lab, **sections) as target:
        target.token = CRM
        async with client_of(target) as client:
            call_id = await client.call("1001", sleep(60_000))
            await alice.answered()
            await client.until("call_progressing", call_id)
            url = target.stream_url(call_id, encapsulation="sln")
            async with (
                open_peer(url) as mine,
                open_peer(url.replace(CRM, SUPERVISOR) + "&direction_speak=none") as other,
            ):
                await mine.heard(10)
                await other.heard(10)
                assert target.bridge is not None
                assert target.bridge.end_of_principal("supervisor", 1008, "the token was revoked") == 1
                (end,) = await story.until(action="stream.end")
                assert (end["principal"], end["code"], end["outcome"]) == ("supervisor", 1008, "failed")
                (revoked,) = story.of(action="tokens.revoke")
                assert (revoked["principal"], revoked["streams"]) == ("supervisor", 1)
                before = len(mine.binary)
                await mine.heard(before + 10)
            await client.done("POST", f"/v1.0/calls/{call_id}/hangup")


@pytest.mark.parametrize("path", ["/v1.0/calls/{}/hold", "/v1.0/calls/gone/hold", "/v1.0/recordings/gone"])
async def test_with_workers_each_request_is_one_line(lab: Lab, phones: Phones, tmp_path: Path, path: str) -> None:
    """Whichever worker takes a request, the one that has the call records it, and nobody else."""
    (alice,) = await phones("1001")
    story = Story(tmp_path / "audit.jsonl")
    async with serving(lab, tmp_path, audit={"output": str(story.path)}) as several:
        _, placed = await several.request(
            "POST", "/v1.0/calls", {"destinations": [{"type": "extension", "target": "1001"}]}
        )
        call_id = placed["calls"][0]["id"]
        await alice.answered()
        (originated,) = await story.until(action="call.originate")
        method = "DELETE" if path.startswith("/v1.0/recordings") else "POST"
        asked = 16  # over new connections: each worker takes some of them, but for one time in 30,000
        for _ in range(asked):
            await several.request(method, path.format(call_id))
        kind = "recording.delete" if method == "DELETE" else "call.hold"
        lines = await story.until(action=kind, count=asked)
        await several.request("POST", f"/v1.0/calls/{call_id}/hangup")
        await story.until(action="call.hangup")
    assert len(story.of(action=kind)) == asked
    assert {line["worker"] for line in story.lines} == {1, 2}
    if "{}" in path:
        assert {line["worker"] for line in lines} == {originated["worker"]}  # it has the call
        assert {line["outcome"] for line in lines} == {"ok"}
    else:
        assert {line["outcome"] for line in lines} == {"failed"}
