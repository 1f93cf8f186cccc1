"""What a flow server or a request may make the bridge work: bounded, and in a thread where it can be much."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import pytest

from bridge.dialects.base import Dialect
from bridge.flows import checking, expression, substitution, syntax, variables
from bridge.flows.program import FlowError, InvalidFlow
from bridge.flows.syntax import parse
from bridge.flows.variables import Variables, VariablesFull
from bridge.flows.web import ServerResponse, WebFailed
from bridge.validation import MAX_FAULTS
from tests.fakes.virtual_time import run_virtually
from tests.unit.flows.world import World, step

URL = "wss://app.example/x"
MANY = 80_000


@pytest.mark.parametrize(
    "action",
    [
        {"type": "STREAM", "params": {"url": URL}},
        {"type": "STREAM", "params": {"url": URL, "connect": True, "dialect": "twilio"}},
        {"type": "external_media_start", "option": {"url": URL, "direction_listen": "in"}},
    ],
)
def test_an_action_constructs_its_dialect_once(action: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[type[Dialect]] = []
    arguments = Dialect.create.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Dialect, "create", classmethod(lambda cls, *given: made.append(cls) or arguments(cls, *given)))
    parse([action] * 10)
    assert len(made) == 10


@pytest.mark.parametrize(
    "action", [{"type": "SAY", "params": {"text": "a"}}, {"type": "talk", "option": {"text": "a"}}]
)
def test_parsing_in_a_thread_does_not_call_the_system_for_each_action(
    action: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call releases the interpreter and takes it back before the event loop, which then waits for 0.1 s."""
    calls: list[int] = []
    urandom = os.urandom
    monkeypatch.setattr("os.urandom", lambda size: calls.append(size) or urandom(size))
    assert len({each.id for each in parse([action] * 1000).actions}) == 1000
    assert len(calls) <= 1


@pytest.mark.parametrize(
    ("flow", "reason"),
    [
        ([{"type": "talk", "option": {f"k{number}": 1 for number in range(MANY)}}], "at most 1000 keys; got 80000"),
        ([{"type": "talk", **{f"k{number}": 1 for number in range(MANY)}}], "at most 1000 keys"),
        ([{"type": "SAY", **{f"k{number}": 1 for number in range(MANY)}}], "at most 1000 keys"),
        ([{f"$a{number}": "1" for number in range(MANY)}], "at most 1000 keys"),
        ([{"type": "STREAM", "params": {"url": URL, "tracks": [1] * MANY}}], "tracks: expected at most 1000 entries"),
        (
            [{"type": "STREAM", "params": {"url": URL, "parameters": {str(number): 1 for number in range(MANY)}}}],
            "parameters: expected at most 1000 entries",
        ),
    ],
)
def test_what_is_wrong_many_times_is_refused_once(flow: Any, reason: str) -> None:
    """Finding the words for each took a second."""
    with pytest.raises(InvalidFlow, match=reason) as refused:
        parse(flow)
    assert len(refused.value.errors) == 1


@pytest.mark.slow
def test_words_are_found_for_a_bounded_number_of_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[object] = []
    monkeypatch.setattr(checking, "FlowError", lambda *given: described.append(given) or FlowError(*given))
    with pytest.raises(InvalidFlow) as refused:
        parse([{"type": "talk", "option": {f"k{number}": 1 for number in range(900)}}] * 1000)
    assert len(described) <= checking.MAX_FOUND
    assert len(refused.value.errors) == MAX_FAULTS


def test_a_flow_that_a_server_answers_with_is_checked_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def noted(flow: Any, path: str = "actions") -> Any:
        threads.append(threading.current_thread())
        return parse(flow, path)

    monkeypatch.setattr(syntax, "parse", noted)

    async def act() -> None:
        world = World()
        world.web.answers["http://x/"] = ServerResponse(200, json.dumps([step("talk", text="fetched")]).encode())
        await world.done([step("fetch", event_url="http://x/")])

    run_virtually(act())
    assert threads
    assert threading.main_thread() not in threads


def test_session_data_is_measured_by_what_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 2000 assignments made JSON of all the others."""
    written = 0
    dumps = json.dumps

    def counted(value: Any, **how: Any) -> str:
        nonlocal written
        text = dumps(value, **how)
        written += len(text)
        return text

    monkeypatch.setattr(json, "dumps", counted)
    data = Variables()
    for number in range(1500):
        data.set(f"sessionData.k{number}", "x" * 20)
    for number in range(1500):
        data.set(f"sessionData.k{number}", "y" * 10)
    assert written < 200_000
    assert len(data.session_data) == 1500
    data.set_session_data({"a": "b"})
    for _ in range(100):
        data.set("sessionData.a", "z" * 60_000)
    with pytest.raises(VariablesFull):
        data.set("sessionData.b", "z" * 60_000)


@pytest.mark.parametrize(
    "data_type", ["application/json", "application/x-www-form-urlencoded", "text/xml", "multipart/form-data", ""]
)
def test_a_variable_is_encoded_once_for_a_body_however_often_it_is_put_in(data_type: str) -> None:
    asked: list[str] = []
    substitution.fill_body('"' + "${a}" * 100 + '"', data_type, lambda name: asked.append(name) or "&1")
    assert asked == ["a"]


def test_a_large_object_becomes_text_once_for_a_condition_that_names_it_often(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    text_of = variables.text_of
    monkeypatch.setattr(variables, "text_of", lambda value: made.append(value) or text_of(value))
    values = Variables(session_data={"numbers": [1, 2]})
    condition = expression.parse("||".join(["$sessionData < $sessionData", "$sessionData.numbers != '[1, 2]'"] * 10))
    assert condition(values) is False
    assert [each for each in made if not isinstance(each, str)] == [{"numbers": [1, 2]}, [1, 2]]
    values.set_session_data({"numbers": []})
    assert condition(values) is True


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"[" + b"[]," * 20_000 + b"[]]", "has more than 10000 values"), (b"[" * 101 + b"]" * 101, "deeper than 100")],
)
def test_a_servers_answer_is_counted_before_it_is_parsed(
    body: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("parsed"))
    with pytest.raises(WebFailed, match=reason):
        ServerResponse(200, body).json()
