"""Create, list, get and end calls over HTTP; one response names everything that is wrong with a request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.calls.addresses import Address
from bridge.errors import AriError, Overloaded

from .asking import Asker, asking
from .sample_parts import NOW
from .samples import TOKEN, Pbx

TALK = [{"type": "talk", "option": {"text": "hello", "language": "en-US"}}]
TO_1002 = {"destinations": [{"type": "extension", "target": "1002"}]}


@pytest.fixture
def pbx() -> Pbx:
    it = Pbx()
    it.add("c1")
    it.add("c2", "ringing")
    it.add("c3")
    it.end("c3")
    return it


@pytest.fixture
async def ask(pbx: Pbx) -> AsyncIterator[Asker]:
    async with asking(pbx) as it:
        yield it


async def test_a_request_of_voipbins_clients(ask: Asker, pbx: Pbx) -> None:
    answer = await ask(
        *("POST", "/v1.0/calls", 200),
        {
            "source": {"type": "tel", "target": "+15551234567"},
            "destinations": [
                {"type": "tel", "target": "+15557654321", "target_name": "Bob", "name": "", "detail": ""},
                {"type": "sip", "target": "alice@sip.example"},
                {"type": "extension", "target_name": "1001"},
            ],
            "flow_id": "00000000-0000-0000-0000-000000000000",
            "actions": TALK,
            "anonymous": "auto",
            "variables": {"campaign": "summer"},
        },
    )
    assert [call["status"] for call in answer["calls"]] == ["dialing"] * 3
    assert answer["calls"][0]["destination"]["type"] == "tel"
    assert answer["groupcalls"] == []
    ((verb, request, program, variables),) = pbx.done
    assert verb == "originate"
    assert request.source == Address("tel", "+15551234567")
    assert request.destinations[0] == Address("tel", "+15557654321", "Bob")
    assert request.destinations[1] == Address("sip", "alice@sip.example")
    assert request.destinations[2] == Address("extension", "1001", "1001")  # an extension is named by its name
    assert [(action.type, action.options.text) for action in program.actions] == [("talk", "hello")]
    assert (request.flow_id, variables, request.anonymous) == ("", {"campaign": "summer"}, False)
    assert (request.answer_method, request.ring_method, request.timeout_s) == ("none", "ring_all", None)


async def test_a_flow_by_its_id_wins_over_actions(ask: Asker, pbx: Pbx) -> None:
    await ask("POST", "/v1.0/calls", 200, TO_1002 | {"flow_id": "greeting", "actions": TALK, "anonymous": "yes"})
    _, request, program, _ = pbx.done[0]
    assert (request.flow_id, program, request.anonymous) == ("greeting", None, True)


async def test_a_flow_in_voxologys_spelling(ask: Asker, pbx: Pbx) -> None:
    await ask("POST", "/v1.0/calls", 200, TO_1002 | {"actions": [{"type": "SAY", "params": {"text": "hello"}}]})
    assert pbx.done[0][2].syntax == "voxology"


async def test_the_first_that_answers_wins(ask: Asker, pbx: Pbx) -> None:
    body: dict[str, Any] = {"destinations": [{"type": "extension", "target": each} for each in ("1002", "1003")]}
    body |= {"answer_method": "hangup_others", "ring_method": "linear", "timeout": 20}
    answer = await ask("POST", "/v1.0/calls", 200, body)
    (group,) = answer["groupcalls"]
    assert group["call_ids"] == [call["id"] for call in answer["calls"]]
    assert (group["answer_method"], group["ring_method"]) == ("hangup_others", "linear")
    assert pbx.done[0][1].timeout_s == 20
    assert await ask("GET", f"/v1.0/groupcalls/{group['id']}", 200) == group
    assert (await ask("GET", "/v1.0/groupcalls/x", 404))["reason"] == "GROUPCALL_NOT_FOUND"


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"destinations": []}, "INVALID_BODY", ["destinations: expected 1 or more entries"]),
        ({"destinations": {}}, "INVALID_BODY", ["destinations: expected a list, got an object"]),
        ({"destinations": [7]}, "INVALID_BODY", ["destinations[0]: expected an object {...}, got 7"]),
        (
            {"destinations": [{"type": "fax", "target": "1"}]},
            "INVALID_BODY",
            ["[0].type", "'tel'", '"fax"'],
        ),
        ({"destinations": [{"type": "tel"}]}, "INVALID_BODY", ["destinations[0].target: is missing"]),
        (
            {"destinations": [{"type": "tel", "target_name": "x"}]},
            "INVALID_BODY",
            ["destinations[0].target: is missing"],
        ),
        (
            {"destinations": [{"type": "tel", "traget": "1"}]},
            "INVALID_BODY",
            ["destinations[0].traget: unknown key; did you mean target?", "destinations[0].target: is missing"],
        ),
        ({"destinatons": []}, "INVALID_BODY", ["destinatons: unknown key; did you mean destinations?"]),
        ({"destinations": None}, "INVALID_BODY", ["destinations: expected a list, got null"]),
        ({"anonymous": True}, "INVALID_BODY", ["anonymous: expected one of", "'auto'", "true"]),
        ({"timeout": "30"}, "INVALID_BODY", ['timeout: expected an integer, got "30"']),
        ({"timeout": True}, "INVALID_BODY", ["timeout: expected an integer, got true"]),
        ({"timeout": 1.5}, "INVALID_BODY", ["timeout: expected an integer, got 1.5"]),
        ({"timeout": 0}, "INVALID_BODY", ["timeout: expected a number from 1, got 0"]),
        ({"timeout": 9e9}, "INVALID_BODY", ["timeout: expected a"]),
        ({"variables": {"a": 1}}, "INVALID_BODY", ["variables.a: expected a string, got 1"]),
        ({"variables": {"a": "\ud800"}}, "INVALID_JSON", []),
        ({"actions": {}}, "INVALID_BODY", ["actions: expected a list"]),
        ({"timeout": "x", "color": 1}, "INVALID_BODY", ["timeout: expected", "color: unknown key"]),
        ({"actions": [{"type": "tlak"}]}, "INVALID_FLOW", ["actions[0]", "tlak"]),
        ({"actions": [{"type": "amd"}]}, "INVALID_FLOW", ["actions[0]: requires calling.context"]),
        (
            {"actions": [*TALK, {"type": "sleep", "option": {"duration": "long", "color": 1}}]},
            "INVALID_FLOW",
            ["actions[1].option.duration", "actions[1].option.color"],
        ),
        ({"destinations": [{"type": "conference", "target": "x"}]}, "INVALID_DESTINATION", ["destinations[0]"]),
    ],
)
async def test_what_is_refused(ask: Asker, pbx: Pbx, change: dict[str, Any], reason: str, words: list[str]) -> None:
    error = await ask("POST", "/v1.0/calls", 400, TO_1002 | change)
    assert error["reason"] == reason
    for word in words:
        assert word in error["message"]
    assert pbx.done == []


async def test_nothing_in_a_message_is_long(ask: Asker) -> None:
    body = TO_1002 | {"x" * 5000 + str(number): "y" * 5000 for number in range(50)} | {"timeout": "z" * 5000}
    assert len((await ask("POST", "/v1.0/calls", 400, body))["message"]) <= 2000


async def test_a_flow_that_is_not_there(ask: Asker) -> None:
    error = await ask("POST", "/v1.0/calls", 404, TO_1002 | {"flow_id": "nothing"})
    assert error["reason"] == "FLOW_NOT_FOUND"
    assert "'nothing'" in error["message"]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Overloaded("500 calls that the bridge has placed go on"), "OVERLOADED"),
        (AriError(500, "POST", "channels", "Allocation failed"), "ASTERISK_FAILED"),
    ],
)
async def test_what_fails(ask: Asker, pbx: Pbx, failure: Exception, reason: str) -> None:
    pbx.failure = failure
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with ask.client.post("/v1.0/calls", json=TO_1002, headers=headers) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        assert (await response.json())["error"]["reason"] == reason


async def test_without_asterisk(ask: Asker, pbx: Pbx) -> None:
    pbx.connected = False
    assert (await ask("POST", "/v1.0/calls", 503, TO_1002))["reason"] == "ASTERISK_UNREACHABLE"
    assert (await ask("DELETE", "/v1.0/calls/c1", 503))["reason"] == "ASTERISK_UNREACHABLE"
    assert pbx.done == []


async def test_calls_are_listed_with_their_records(ask: Asker) -> None:
    listed = (await ask("GET", "/v1.0/calls", 200))["result"]
    assert {call["id"]: (call["status"], call["direction"], len(call["parties"])) for call in listed} == {
        "c1": ("progressing", "outgoing", 2),
        "c2": ("ringing", "outgoing", 2),
    }
    every = (await ask("GET", "/v1.0/calls?ended=true", 200))["result"]
    assert {call["id"] for call in every} == {"c1", "c2", "c3"}
    assert (await ask("GET", "/v1.0/calls?ended=1", 400))["reason"] == "INVALID_QUERY"
    assert "did you mean ended?" in (await ask("GET", "/v1.0/calls?endet=true", 400))["message"]


async def test_a_call_whose_channel_is_not_there_yet_is_listed(ask: Asker, pbx: Pbx) -> None:
    del pbx.calls["c2"]
    listed = (await ask("GET", "/v1.0/calls", 200))["result"]
    assert [(call["id"], call["parties"]) for call in listed if call["id"] == "c2"] == [("c2", [])]
    assert (await ask("GET", "/v1.0/calls/c2", 200))["status"] == "ringing"


async def test_calls_that_go_on_and_those_that_ended_come_in_pages(ask: Asker, pbx: Pbx) -> None:
    for number in range(5):
        pbx.add(f"more-{number}")
        pbx.end(f"more-{number}")
    seen, token = [], ""
    for _ in range(10):
        page = await ask("GET", f"/v1.0/calls?ended=true&page_size=3&page_token={token}", 200)
        assert len(page["result"]) <= 3
        seen += [call["id"] for call in page["result"]]
        token = page["next_page_token"]
        if not token:
            break
    assert sorted(seen) == ["c1", "c2", "c3", *(f"more-{number}" for number in range(5))]


async def test_one_that_has_ended_is_told_of_and_can_be_forgotten(ask: Asker, pbx: Pbx) -> None:
    call = await ask("GET", "/v1.0/calls/c3", 200)
    assert (call["status"], call["hangup_reason"], call["parties"]) == ("hangup", "failed", [])
    assert call["tm_hangup"].endswith("Z")
    assert (await ask("DELETE", "/v1.0/calls/c3", 200))["id"] == "c3"
    assert (await ask("GET", "/v1.0/calls/c3", 404))["reason"] == "CALL_NOT_FOUND"
    assert pbx.done == []


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v1.0/calls/c1"), ("POST", "/v1.0/calls/c1/hangup")])
async def test_a_call_is_ended(ask: Asker, pbx: Pbx, method: str, path: str) -> None:
    call = await ask(method, path, 200)
    assert (call["id"], call["status"]) == ("c1", "hangup")
    assert pbx.done == [("hangup", "c1")]


async def test_a_call_by_the_id_of_one_of_its_channels(ask: Asker, pbx: Pbx) -> None:
    call = await ask("GET", "/v1.0/calls/c1.peer", 200)
    assert (call["id"], call["direction"]) == ("c1", "outgoing")
    assert (await ask("POST", "/v1.0/calls/c1.peer/hold", 200))["id"] == "c1"
    assert pbx.done == [("hold", "c1.peer")]


async def test_what_the_flow_does_is_told(ask: Asker, pbx: Pbx) -> None:
    pbx.records.update("c1", flow_id="greeting", action={"id": "a", "type": "talk", "index": 0}, variables={"x": "y"})
    call = await ask("GET", "/v1.0/calls/c1", 200)
    assert (call["flow_id"], call["action"]["type"], call["variables"]) == ("greeting", "talk", {"x": "y"})
    assert call["tm_create"] == "2026-01-31T10:40:00.500Z"
    assert NOW == 1_769_856_000.5
