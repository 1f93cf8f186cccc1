"""What can be done with a call over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.api import background
from bridge.calls.addresses import Address
from bridge.control.call_control import NotControlled
from bridge.control.legs import LegEnded
from bridge.errors import AriError, Overloaded
from bridge.speech.engine import Utterance
from tests.fakes.virtual_time import until

from .asking import Asker, asking
from .samples import TOKEN, Pbx

CALL = "/v1.0/calls/c1"


@pytest.fixture
def pbx() -> Pbx:
    it = Pbx()
    it.add("c1")
    it.add("c3")
    it.end("c3")
    return it


@pytest.fixture
async def ask(pbx: Pbx) -> AsyncIterator[Asker]:
    async with asking(pbx) as it:
        yield it


async def test_a_call_that_is_placed_for_another_is_told_as_itself(ask: Asker, pbx: Pbx) -> None:
    pbx.records.originated("c1.peer", source=Address(), destination=Address("extension", "1002"), master_call_id="c1")
    call = await ask("GET", "/v1.0/calls/c1.peer", 200)
    assert (call["id"], call["master_call_id"]) == ("c1.peer", "c1")
    pbx.records.failed("c1.peer")
    assert (await ask("GET", "/v1.0/calls/c1.peer", 200))["status"] == "hangup"


@pytest.mark.parametrize(
    ("method", "verb", "body", "done"),
    [
        ("POST", "hold", None, ("hold", "c1")),
        ("POST", "unhold", None, ("unhold", "c1")),
        ("DELETE", "hold", None, ("unhold", "c1")),
        ("POST", "mute", None, ("mute", "c1", "both")),
        ("POST", "mute", {"direction": "in"}, ("mute", "c1", "in")),
        ("DELETE", "mute", {"direction": "out"}, ("unmute", "c1", "out")),
        ("POST", "unmute", {}, ("unmute", "c1", "both")),
        ("POST", "moh", None, ("moh", "c1", True)),
        ("DELETE", "moh", None, ("moh", "c1", False)),
        ("POST", "silence", None, ("silence", "c1", True)),
        ("DELETE", "silence", None, ("silence", "c1", False)),
        ("POST", "sensitive", None, ("sensitive", "c1", 300)),
        ("POST", "sensitive", {"timeout_s": 20}, ("sensitive", "c1", 20)),
        ("DELETE", "sensitive", None, ("sensitive_stop", "c1")),
        ("POST", "dtmf", {"digits": "12#"}, ("dtmf", "c1", "12#", None, None)),
        ("POST", "dtmf", {"digits": "1", "duration": 200, "interval": 0}, ("dtmf", "c1", "1", 200, 0)),
    ],
)
async def test_verbs(ask: Asker, pbx: Pbx, method: str, verb: str, body: object, done: tuple[Any, ...]) -> None:
    assert (await ask(method, f"{CALL}/{verb}", 200, body))["id"] == "c1"
    assert pbx.done == [done]


async def test_the_answer_is_the_call_as_it_is_then(ask: Asker) -> None:
    assert (await ask("POST", f"{CALL}/hold", 200))["on_hold"] is True
    assert (await ask("DELETE", f"{CALL}/hold", 200))["on_hold"] is False
    assert (await ask("POST", f"{CALL}/mute", 200, {"direction": "in"}))["mute_direction"] == "in"


async def test_a_text_is_said(ask: Asker, pbx: Pbx) -> None:
    await ask("POST", f"{CALL}/talk", 200, {"text": "Hello", "language": "en-US", "provider": "gcp", "voice_id": "x"})
    assert pbx.done == [("say", Utterance("Hello", "en-US", "x")), ("play", "c1", 320, 8000, "out")]


async def test_what_cannot_be_said(ask: Asker, pbx: Pbx) -> None:
    error = await ask("POST", f"{CALL}/talk", 409, {"text": "Hello", "voice_id": "nobody"})
    assert (error["reason"], error["message"]) == ("SPEECH_FAILED", "there is no such voice")
    assert len(pbx.done) == 1


async def test_sounds_are_played_in_order_once_all_are_there(ask: Asker, pbx: Pbx) -> None:
    urls = ["https://sounds.example/a.wav", "https://sounds.example/b.wav"]
    await ask("POST", f"{CALL}/play", 200, {"stream_urls": urls, "direction": "both"})
    assert pbx.done == [("play", "c1", 640, 16000, "both")] * 2
    pbx.done.clear()
    error = await ask("POST", f"{CALL}/play", 409, {"stream_urls": [urls[0], "nowhere"]})
    assert error["reason"] == "SOUND_UNAVAILABLE"
    assert pbx.done == []


async def test_a_long_sound_is_answered_when_it_has_begun(
    ask: Asker, pbx: Pbx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "BEGIN_S", 0.05)
    over = asyncio.Event()

    async def long(*_: object, **__: object) -> None:
        pbx.done.append(("begun",))
        await over.wait()
        pbx.done.append(("over",))

    monkeypatch.setattr(pbx, "play", long)
    async with asyncio.timeout(5):
        await ask("POST", f"{CALL}/talk", 200, {"text": "long"})
        assert pbx.done[-1] == ("begun",)
        monkeypatch.setattr(background, "MAX_TASKS", 1)
        assert (await ask("POST", f"{CALL}/talk", 503, {"text": "one too many"}))["reason"] == "OVERLOADED"
        over.set()
        await until(lambda: pbx.done[-1] == ("over",))


async def test_a_call_is_transferred(ask: Asker, pbx: Pbx) -> None:
    placed = await ask("POST", f"{CALL}/transfer", 200, {"destination": {"type": "extension", "target": "1003"}})
    assert (placed["id"], placed["master_call_id"], placed["status"]) == ("transfer-1", "c1", "dialing")
    assert pbx.done == [("transfer", "c1", Address("extension", "1003"))]
    error = await ask("POST", f"{CALL}/transfer", 400, {"destination": {"target": "1003"}})
    assert (error["reason"], error["message"].partition(":")[0]) == ("INVALID_DESTINATION", "destination")


async def test_a_call_is_recorded(ask: Asker, pbx: Pbx) -> None:
    # As VoIPBIN's clients send it: every key.
    body = {
        "direction": "in",
        "format": "wav",
        "end_of_silence": 3,
        "end_of_key": "#",
        "duration": 60,
        "on_end_flow_id": "",
    }
    call = await ask("POST", f"{CALL}/recording_start", 200, body)
    assert (call["recording_id"], call["recording_ids"]) == ("r1", ["r1"])
    ((_, _, how),) = pbx.done
    assert how.pop("principal").address == "127.0.0.1"
    assert (how.pop("direction"), how.pop("beep")) == ("in", False)
    assert how == {"format": "wav", "max_silence_s": 3, "max_duration_s": 60, "terminate_on": "#"}
    assert (await ask("POST", f"{CALL}/recording_stop", 200))["recording_id"] == ""
    error = await ask("POST", f"{CALL}/recording_stop", 409)
    assert error["message"] == "the call is not being recorded"


@pytest.mark.parametrize(
    ("verb", "body", "key"),
    [
        ("mute", {"direction": "left"}, "direction"),
        ("mute", {"color": "red"}, "color"),
        ("mute", [], "object"),
        ("talk", {"text": ""}, "text"),
        ("talk", {}, "text"),
        ("play", {"stream_urls": []}, "stream_urls"),
        ("dtmf", {"digits": "1x"}, "digits"),
        ("dtmf", {"digits": "1", "duration": 5000}, "duration"),
        ("transfer", {"destination": "1003"}, "destination"),
        ("recording_start", {"format": "mp3"}, "format"),
        ("recording_start", {"direction": "left"}, "direction"),
        ("recording_start", {"on_end_flow_id": "greeting"}, "on_end_flow_id"),
        ("recording_start", {"duration": True}, "duration"),
    ],
)
async def test_bad_bodies(ask: Asker, pbx: Pbx, verb: str, body: object, key: str) -> None:
    assert key in (await ask("POST", f"{CALL}/{verb}", 400, body))["message"]
    assert pbx.done == []


@pytest.mark.parametrize("verb", ["hangup", "hold", "mute", "moh", "silence", "recording_start", "recording_stop"])
async def test_calls_that_are_not_there(ask: Asker, verb: str) -> None:
    assert (await ask("POST", f"/v1.0/calls/nobody/{verb}", 404))["reason"] == "CALL_NOT_FOUND"
    error = await ask("POST", f"/v1.0/calls/c3/{verb}", 409)
    assert (error["reason"], error["message"]) == ("STATE_INVALID", "the call has ended")


@pytest.mark.parametrize(
    ("failure", "status", "reason", "word"),
    [
        (
            NotControlled("only a call in the bridge's application can be put on hold"),
            409,
            "STATE_INVALID",
            "application",
        ),
        (LegEnded("gone"), 409, "STATE_INVALID", "just ended"),
        (KeyError("c1"), 404, "CALL_NOT_FOUND", "c1"),
        (Overloaded("full"), 503, "OVERLOADED", "full"),
        (AriError(404, "POST", "channels/c1/hold", "Channel not found"), 409, "STATE_INVALID", "just ended"),
        (AriError(409, "POST", "channels/c1/hold", "Channel in invalid state"), 409, "STATE_INVALID", "invalid state"),
        (AriError(0, "POST", "channels/c1/hold", "no answer in 5 s"), 503, "ASTERISK_FAILED", "no answer in 5 s"),
    ],
)
@pytest.mark.parametrize(("verb", "body"), [("hold", None), ("dtmf", {"digits": "1"})])
async def test_what_fails(
    ask: Asker, pbx: Pbx, failure: Exception, status: int, reason: str, word: str, verb: str, body: object
) -> None:
    pbx.failure = failure
    error = await ask("POST", f"{CALL}/{verb}", status, body)
    assert error["reason"] == reason
    assert word in error["message"]


async def test_a_body_must_say_that_it_is_json(ask: Asker, pbx: Pbx) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/plain"}
    error = await ask("POST", f"{CALL}/mute", 415, data=b"{}", headers=headers)
    assert error["reason"] == "JSON_REQUIRED"
    assert pbx.done == []


async def test_wrong_methods(ask: Asker) -> None:
    async with ask.client.get(f"{CALL}/hold", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == {"POST", "DELETE"}
