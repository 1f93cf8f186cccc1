"""Requests in a stream to change its call: the rights, the line of the audit log and the effect are those of HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridge.access import Grant, PartyNames, Principal, Reach
from bridge.api import server
from bridge.api.tokens import Tokens, hash_of
from bridge.calls.addresses import Address
from bridge.calls.call import Call, Party
from bridge.control.dial_policy import NotAllowed
from bridge.control.legs import LegEnded
from bridge.dialects.base import CallRequest
from bridge.patterns import Patterns
from bridge.streams.media_stream_endpoint import MediaStreamOptions
from bridge.streams.origin import Origin
from bridge.streams.registry import OnRequest
from tests.fakes.virtual_time import pass_time, until
from tests.unit.audit.lines import Lines

from .asking import grant, headers
from .open_stream import OpenStream
from .samples import UPGRADE, Pbx

HANGUP = CallRequest("hangup")
LAST_WORD = CallRequest("hangup", after_playout=True)
TO_BOB = {"type": "extension", "target": "1002"}


def transfer(**destination: Any) -> CallRequest:
    return CallRequest("transfer", destination=destination or TO_BOB)


@dataclass
class World:
    """A PBX with one call, an API, and its audit log."""

    pbx: Pbx
    audit: Lines
    tokens: Tokens
    client: TestClient[web.Request, web.Application]
    opened: list[tuple[OpenStream, Any]]

    async def open(self, token: str = "", *, ticket: str = "") -> tuple[OpenStream, Any]:
        """Open a stream with a token or a ticket; return it and what gets its requests."""
        query = "encapsulation=sln&control=true" + (f"&ticket={ticket}" if ticket else "")
        shown = {} if ticket else headers(token)
        async with self.client.get(f"/v1.0/calls/c1/media_stream?{query}", headers=UPGRADE | shown):
            return self.opened[-1]

    async def request(self, request: CallRequest, *grants: str, ticket: str = "") -> tuple[Mapping[str, Any], str]:
        """Send one request in a new stream; return the answer."""
        stream, requests = await self.open(*grants, ticket=ticket)
        requests(stream, request)
        await until(lambda: stream.answers)
        ((name, answer, error),) = stream.answers
        assert name == request.name
        return answer, error


CRM = grant("crm", "streams:listen", "streams:speak", "calls:control")
LISTENER = grant("listener", "streams:listen", "streams:speak")
OTHERS = grant("others", reach=Reach(extensions=Patterns(["2*"])))


@asynccontextmanager
async def a_world(*grants: Grant, **more: Any) -> AsyncIterator[World]:
    pbx, audit, opened = Pbx(), Lines(), []
    pbx.add("c1")
    tokens = Tokens({hash_of(each.id): each for each in grants})

    async def accept(
        _: web.Request, __: Call, party: Party, ___: MediaStreamOptions, principal: Principal, requests: OnRequest
    ) -> web.StreamResponse:
        opened.append((OpenStream(Origin("client", principal, party_id=party.id)), requests))
        return web.Response()

    backend = pbx.backend(accept_stream=accept, audit=audit, **more)
    application = server.build(backend, tokens, strict=True)
    async with TestClient(TestServer(application)) as client:
        yield World(pbx, audit, tokens, client, opened)


async def test_a_hang_up_is_the_operation_of_http() -> None:
    async with a_world(CRM) as world:
        stream, requests = await world.open("crm")
        requests(stream, HANGUP)
        await until(lambda: world.audit.lines)
        assert world.pbx.done == [("hangup", "c1")]
        assert not stream.answers, "the end of the stream is the answer"
        action, principal, outcome, values = world.audit.the_only()
        assert (action, principal.id, outcome) == ("call.hangup", "crm", "ok")
        assert values == {"call": "c1", "party": "", "stream": "s1", "status": 200, "reason": ""}


async def test_a_hang_up_waits_for_the_last_word_and_not_for_later_ones() -> None:
    async with a_world(CRM) as world:
        stream, requests = await world.open("crm")
        stream.queued_ms = 60_000.0
        requests(stream, LAST_WORD)
        await pass_time(0.1)
        assert not world.pbx.done
        stream.queued_ms = 0.0
        await until(lambda: world.pbx.done)
        assert world.pbx.done == [("hangup", "c1")]


async def test_a_queue_that_is_not_played_keeps_no_call_up() -> None:
    async with a_world(CRM) as world:
        stream, requests = await world.open("crm")
        stream.queued_ms = 1000.0
        requests(stream, LAST_WORD)
        await until(lambda: world.pbx.done)


async def test_a_stream_that_ends_while_its_hang_up_waits_ends_the_call() -> None:
    async with a_world(CRM) as world:
        stream, requests = await world.open("crm")
        stream.queued_ms = 60_000.0
        requests(stream, LAST_WORD)
        stream.ended = True
        await until(lambda: world.pbx.done)


async def test_a_token_revoked_while_its_hang_up_waits_ends_no_call() -> None:
    async with a_world(CRM) as world:
        stream, requests = await world.open("crm")
        stream.queued_ms = 60_000.0
        requests(stream, LAST_WORD)
        await pass_time(0.1)
        world.tokens.take(Tokens({}), 0.0)
        stream.ended = True
        await until(lambda: stream.answers)
        assert [answer for _, answer, _ in stream.answers] == [{"reason": "INVALID_CREDENTIALS"}]
        assert not world.pbx.done


async def test_requests_of_a_stream_take_turns() -> None:
    async with a_world(CRM) as world:
        stream, requests = await world.open("crm")
        stream.queued_ms = 60_000.0
        requests(stream, LAST_WORD)
        requests(stream, transfer())
        ((name, answer, error),) = stream.answers
        assert (name, answer) == ("transfer", {"reason": "STATE_INVALID"})
        assert "another request" in error


async def test_a_transfer_is_the_operation_of_http() -> None:
    async with a_world(CRM) as world:
        answer, error = await world.request(transfer(), "crm")
        assert (answer, error) == ({"call_id": "transfer-1", "status": "dialing"}, "")
        assert world.pbx.done == [("transfer", "c1", Address("extension", "1002"))]
        action, _, outcome, values = world.audit.the_only()
        assert (action, outcome) == ("call.transfer", "ok")
        assert (values["destinations"], values["calls"]) == (["extension 1002"], ["transfer-1"])


@pytest.mark.parametrize("request_", [HANGUP, LAST_WORD, transfer()], ids=["hang-up", "last word", "transfer"])
async def test_a_token_without_the_scope_changes_no_call(request_: CallRequest) -> None:
    async with a_world(LISTENER) as world:
        answer, error = await world.request(request_, "listener")
        assert answer == {"reason": "SCOPE_MISSING"}
        assert "lacks the scope calls:control" in error
        assert (world.pbx.done, world.audit.lines) == ([], [])
        (kind,) = world.audit.rejected
        assert (kind.principal, kind.status, kind.reason) == ("listener", 403, "SCOPE_MISSING")


@pytest.mark.parametrize("request_", [HANGUP, transfer()], ids=["hang-up", "transfer"])
async def test_a_ticket_changes_no_call_whatever_its_token_may(request_: CallRequest) -> None:
    async with a_world(grant("all")) as world:
        body = {"direction": "both"}
        async with world.client.post("/v1.0/calls/c1/tickets", json=body, headers=headers("all")) as response:
            ticket = (await response.json())["ticket"]
        world.audit.lines.clear()
        answer, error = await world.request(request_, ticket=ticket)
        assert answer == {"reason": "SCOPE_MISSING"}
        assert "calls:control" in error
        assert "no ticket has it" in error
        assert not world.pbx.done


async def test_a_call_that_has_left_the_reach_of_its_token_is_not_changed() -> None:
    names = PartyNames(frozenset({"2001"}))
    async with a_world(OTHERS, participants=lambda _: names) as world:
        stream, requests = await world.open("others")
        names = PartyNames(frozenset({"1001"}))
        requests(stream, HANGUP)
        await until(lambda: stream.answers)
        assert stream.answers[0][1] == {"reason": "CALL_NOT_FOUND"}
        assert not world.pbx.done


@pytest.mark.parametrize(
    ("destination", "failure", "reason"),
    [
        ({"type": "extension", "target": "9009"}, None, "TOKEN_LIMITED"),
        ({"type": "extension", "target": "2002"}, NotAllowed("no"), "DESTINATION_NOT_ALLOWED"),
        ({"type": "extension"}, None, "INVALID_BODY"),
        ({"type": "pigeon", "target": "2002"}, None, "INVALID_BODY"),
        ({"type": "extension", "target": 2002}, None, "INVALID_BODY"),
        ({"target": "2002"}, None, "INVALID_DESTINATION"),
    ],
)
async def test_a_destination_obeys_the_rules_of_http(
    destination: dict[str, Any], failure: Exception | None, reason: str
) -> None:
    token = OTHERS if reason == "TOKEN_LIMITED" else CRM
    async with a_world(token, participants=lambda _: PartyNames(frozenset({"2001"}))) as world:
        world.pbx.failure = failure
        answer, error = await world.request(transfer(**destination), token.id)
        assert answer == {"reason": reason}
        assert error
        assert [line[2] for line in world.audit.lines] == ["failed"]


async def test_a_call_that_has_ended_is_an_error() -> None:
    async with a_world(CRM) as world:
        world.pbx.failure = LegEnded("gone")
        answer, error = await world.request(transfer(), "crm")
        assert (answer, error) == ({"reason": "STATE_INVALID"}, "the call has just ended")


async def test_an_internal_error_ends_neither_the_stream_nor_the_line(caplog: pytest.LogCaptureFixture) -> None:
    async with a_world(CRM) as world:
        world.pbx.failure = ZeroDivisionError()
        answer, _ = await world.request(transfer(), "crm")
        assert answer == {"reason": "INTERNAL_ERROR"}
        assert [line[2] for line in world.audit.lines] == ["failed"]
        caplog.clear()
