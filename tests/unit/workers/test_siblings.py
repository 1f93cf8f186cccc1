"""What a worker does with a request before it knows which worker answers it."""

from __future__ import annotations

import logging

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bridge.api.server import build
from bridge.workers.siblings import Siblings
from bridge.workers.view import Sibling, View
from tests.unit.api.samples import Pbx

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"id":' + b"[" * 90_000, "INVALID_JSON"),
        (b'{"id":' * 1000 + b"0" + b"}" * 1000, "INVALID_JSON"),
        (b"\xff", "INVALID_JSON"),
        (b"[]", "INVALID_JSON"),
        (b'{"name": "' + b"x" * 300_000 + b'"}', "REQUEST_ENTITY_TOO_LARGE"),
    ],
)
async def test_a_body_that_is_none_is_answered_here(body: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    view = View("bridge", 1, 2)
    view.workers = {number: Sibling(number, number, f"/nowhere/http-{number}") for number in (1, 2)}
    application = build(Pbx().backend(), [TOKEN], middlewares=[Siblings(view, lambda _: 1).middleware])
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with (
        TestClient(TestServer(application)) as client,
        client.post("/v1.0/conferences", data=body, headers=headers) as response,
    ):
        assert (await response.json())["error"]["reason"] == reason
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
