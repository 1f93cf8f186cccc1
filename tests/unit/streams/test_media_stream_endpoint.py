"""Clients that open a stream while their token is revoked."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bridge.access import Grant, Principal
from bridge.api import server
from bridge.api.tokens import Tokens, hash_of
from bridge.config import Config
from bridge.control.stasis import StasisCalls
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.streams.client_streams import ClientStreams
from bridge.streams.media_stream_endpoint import MediaStreamEndpoint, MediaStreamOptions
from tests.unit.api.asking import headers, status_and_reason
from tests.unit.api.samples import UPGRADE, Pbx


class Opened:
    """Streams that were opened (`ClientStreams`)."""

    def __init__(self) -> None:
        self.principals: list[Principal] = []

    def open(self, *_: object, principal: Principal, **__: Any) -> None:
        self.principals.append(principal)


async def test_a_token_revoked_while_the_call_is_being_held_opens_no_stream() -> None:
    tokens, opened, pbx = Tokens({hash_of("crm"): Grant("crm")}), Opened(), Pbx()
    pbx.add("c1")

    class Holding:
        """A call that is held once the token is gone (`StasisCalls`)."""

        async def settled(self, _: str) -> None:
            tokens.take(Tokens({}), 0.0)

    endpoint = MediaStreamEndpoint(
        *(cast(ClientStreams, opened), cast(StasisCalls, Holding()), Counters(), Config(), CallAdmission(10)),
        accepts=lambda principal: tokens.accept(principal, 0.0),
    )
    application = server.build(pbx.backend(accept_stream=endpoint.accept), tokens, strict=True)
    async with TestClient(TestServer(application)) as client:
        path = "/v1.0/calls/c1/media_stream?encapsulation=sln"
        answer = await status_and_reason(client, "GET", path, headers=headers("crm") | UPGRADE)
    assert answer == (401, "INVALID_CREDENTIALS")
    assert not opened.principals


@pytest.mark.parametrize(
    ("query", "dialect", "two_way"),
    [
        ({"encapsulation": "sln"}, "voipbin", True),
        ({"dialect": "twilio"}, "twilio", True),
        ({"dialect": "twilio", "direction_speak": "none", "encoding": "l16", "rate": "16000"}, "twilio", False),
        ({"dialect": "yeastar", "direction_speak": "none"}, "yeastar", False),
    ],
)
def test_a_client_may_name_any_dialect_and_its_options(query: dict[str, str], dialect: str, two_way: bool) -> None:
    made = MediaStreamOptions.from_query(query).dialect()
    assert (made.name, made.two_way, made.rate) == (dialect, two_way, int(query.get("rate", 8000)))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"dialect": "morse"}, "dialect: unknown dialect 'morse'"),
        ({"dialect": "yeastar"}, "direction_speak: the dialect yeastar is one-way"),
        (
            {"dialect": "twilio", "encapsulation": "sln"},
            "'encapsulation' is not an option of a media stream; expected one of",
        ),
        ({"dialect": "twilio", "call_sid": "CA1"}, "'call_sid' is not an option"),
        ({"dialect": "twilio", "tracks": "both_tracks"}, "'tracks' is not an option"),
        ({"dialect": "twilio", "rate": "16000"}, "encoding=mulaw is 8000 Hz only"),
        ({"encapsulation": "sln", "rate": "+8000"}, "rate must be one of"),
        ({"dialect": "deepgram_agent"}, "dialect: deepgram_agent is for models, which are dialed"),
    ],
)
def test_what_a_dialect_does_not_take_is_refused(query: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        MediaStreamOptions.from_query(query)
