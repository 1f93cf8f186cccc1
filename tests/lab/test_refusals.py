"""What is refused, with which status, on real calls."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import InvalidStatus

from bridge.app.application import Application
from bridge.config import HttpConfig, MediaConfig
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import open_peer
from tests.lab.conftest import Phones, configuration, synchronized
from tests.lab.target import Target

RATE = 8000


async def refused(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and reason with which an upgrade is refused."""
    with pytest.raises(InvalidStatus) as error:
        async with open_peer(url, headers):
            pass
    body = json.loads(error.value.response.body or b"{}")
    assert body["error"]["message"]
    return error.value.response.status_code, body["error"]["reason"]


@pytest.mark.core
async def test_streams_that_cannot_be_are_refused_before_the_upgrade(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.tone(500, 20, RATE))
    await alice.answered()
    call = (await target.call_from("1001"))["id"]
    assert (await refused(target.stream_url(call)))[0] == 400
    for options in (
        {"encapsulation": "mp3"},
        {"encapsulation": ""},
        {"encapsulation": "sln", "rate": "8001"},
        {"encapsulation": "sln", "rate": "fast"},
        {"encapsulation": "rtp", "rate": "16000"},
        {"encapsulation": "sln", "codec": "opus"},
        {"encapsulation": "sln", "direction_listen": "left"},
        {"encapsulation": "sln", "direction_lisen": "in"},
    ):
        assert (await refused(target.stream_url(call, **options)))[0] == 400, options
    assert await refused(target.stream_url("no-such-call", encapsulation="sln")) == (404, "CALL_NOT_FOUND")
    async with target.stream(call, encapsulation="sln") as application:
        await application.heard(10)
    await alice.hangup()


@pytest.mark.core
async def test_a_call_that_only_rings_is_refused(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call("602", play=judge.silence(1, RATE))
    call = await target.call_from("1001", status="dialing")
    assert await refused(target.stream_url(call["id"], encapsulation="sln")) == (409, "STATE_INVALID")
    await alice.hangup()


TOKEN = "0123456789abcdef0123"


async def test_tokens_and_limits(lab: Lab, phones: Phones) -> None:
    config = configuration(lab, media=MediaConfig(max_streams=1))
    config = config.model_copy(update={"http": HttpConfig.model_validate({"port": 0, "tokens": [TOKEN]})})
    (alice,) = await phones("1001")
    async with Application(config) as bridge:
        url = f"http://127.0.0.1:{bridge.http_port}"
        target = Target(lab, url, TOKEN, bridge)
        await synchronized(target)
        await alice.call("750", play=judge.tone(500, 20, RATE))
        await alice.answered()
        call = (await target.call_from("1001"))["id"]
        without, wrong = Target(lab, url, None, bridge), Target(lab, url, TOKEN[:-1] + "4", bridge)
        assert (await refused(without.stream_url(call, encapsulation="sln")))[0] == 401
        assert (await refused(wrong.stream_url(call, encapsulation="sln")))[0] == 401
        for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"Cookie": f"token={TOKEN}"}):
            async with open_peer(without.stream_url(call, encapsulation="sln"), headers) as application:
                await application.heard(5)
            await target.streams_gone()
        async with target.stream(call, encapsulation="sln") as application:
            await application.heard(5)
            assert await refused(target.stream_url(call, encapsulation="sln")) == (503, "OVERLOADED")
        await alice.hangup()
        await target.nothing_left()
