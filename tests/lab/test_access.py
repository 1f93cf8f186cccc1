"""Tokens with limits on real calls: who sees, hears and speaks, and what a revoked token leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from bridge.api.tokens import hash_of
from bridge.app.application import Application
from bridge.config import Config, HttpConfig
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import Peer, open_peer
from tests.lab.conftest import Phones, configuration, synchronized
from tests.lab.parties import CALLEE_HZ, CALLER_HZ, FAINT, LOUD, PROMPT_HZ, RATE, heard
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends

ALL, EAR, MOUTH, SALES = "all-of-it-0123", "ear-only-01234", "mouth-only-012", "sales-team-012"
TABLES: dict[str, dict[str, Any]] = {
    ALL: {"scopes": ["admin"]},
    EAR: {"scopes": ["streams:listen"]},
    MOUTH: {"scopes": ["streams:speak"]},
    SALES: {"scopes": ["calls:read", "streams:listen", "streams:speak", "events"], "extensions": ["1001"]},
}


def with_tokens(lab: Lab, **tables: dict[str, Any]) -> Config:
    """Run a bridge with some tokens, each of which has its first word for an id."""
    tokens = [
        {"id": token.partition("-")[0], "hash": f"sha256:{hash_of(token)}"} | table for token, table in tables.items()
    ]
    plain = configuration(lab, tokens=tokens)
    return plain.model_copy(update={"http": HttpConfig(port=0)})


@contextlib.asynccontextmanager
async def guarded(lab: Lab, **tables: dict[str, Any]) -> AsyncIterator[Target]:
    """Run a bridge with the tokens of `TABLES`, and more; nothing may be left at the end."""
    async with Application(with_tokens(lab, **(TABLES | tables))) as bridge:
        target = Target(lab, f"http://127.0.0.1:{bridge.http_port}", ALL, bridge)
        await synchronized(target)
        yield target
        await target.nothing_left()


@contextlib.asynccontextmanager
async def by_ticket(target: Target, token: str, call: str, direction: str, **options: str) -> AsyncIterator[Peer]:
    """Open a stream as a browser does."""
    holder = Target(target.lab, target.url, None, None)
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.post(f"{target.url}/v1.0/calls/{call}/tickets", json={"direction": direction}) as response,
    ):
        assert response.status == 200, await response.text()
        ticket = (await response.json())["ticket"]
    async with open_peer(holder.stream_url(call, encapsulation="sln", ticket=ticket, **options)) as peer:
        yield peer


async def test_who_listens_hears_and_who_speaks_is_heard(lab: Lab, phones: Phones) -> None:
    async with guarded(lab) as target:
        alice, bob = await phones("1001", "1002")
        bob.play_next(judge.tone(CALLEE_HZ, 20, RATE))
        await alice.call("1002", play=judge.tone(CALLER_HZ, 20, RATE))
        await alice.answered()
        call = (await target.call_from("1001"))["id"]
        async with (
            by_ticket(target, EAR, call, "listen", direction_speak="none") as ear,
            by_ticket(target, MOUTH, call, "speak", direction_listen="none") as mouth,
        ):
            await ear.heard(50)
            await mouth.send(judge.tone(PROMPT_HZ, 2, RATE).astype("<i2").tobytes())
            await ear.send(judge.tone(600, 2, RATE).astype("<i2").tobytes())
            await sends(alice, 2.5)
            assert min(heard(ear, CALLER_HZ), heard(ear, CALLEE_HZ)) > LOUD
            assert not mouth.binary
            status, streams = await target.get("/v1.0/streams")
            assert (status, sorted(each["principal"] for each in streams["result"])) == (200, ["ear", "mouth"])
        await alice.hangup()
        await bob.ended()
        for phone in (alice, bob):
            prompt = judge.block_levels(phone.recording(), RATE, PROMPT_HZ, block_s=0.1)
            assert 18 <= int((prompt > LOUD / 2).sum()) <= 22, phone.name
            assert int((judge.block_levels(phone.recording(), RATE, 600, block_s=0.1) > FAINT).sum()) == 0, phone.name


async def test_a_token_for_one_extension_sees_its_calls_only(lab: Lab, phones: Phones) -> None:
    async with guarded(lab) as target:
        alice, carol = await phones("1001", "1003")
        sales = Target(lab, target.url, SALES, None)
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {SALES}"}) as session,
            session.ws_connect(f"{target.url}/v1.0/events?types=call_*") as events,
        ):
            await carol.call("750", play=judge.silence(20, RATE))
            await carol.answered()
            other = (await target.call_from("1003"))["id"]
            await alice.call("750", play=judge.silence(20, RATE))
            await alice.answered()
            own = (await target.call_from("1001"))["id"]
            status, body = await sales.get("/v1.0/calls")
            assert (status, [each["id"] for each in body["result"]]) == (200, [own])
            assert (await sales.get(f"/v1.0/calls/{other}"))[0] == 404
            async with sales.stream(own, encapsulation="sln") as application:
                await application.heard(5)
            await carol.hangup()
            await alice.hangup()
            seen: list[tuple[str, str]] = []
            async with asyncio.timeout(PATIENCE_S):
                while ("call_hangup", own) not in seen:
                    event = await events.receive_json()
                    seen.append((event["type"], event["data"]["id"]))
        assert {identity for _, identity in seen} == {own}
        assert seen[0][0] == "call_created"


async def test_a_revoked_and_an_expired_token_end_their_own_streams(lab: Lab, phones: Phones) -> None:
    soon, early = datetime.now(UTC) + timedelta(seconds=8), "early-01234567"
    async with guarded(lab, **{early: {"scopes": ["admin"], "expires": soon}}) as target:
        (alice,) = await phones("1001")
        await alice.call("750", play=judge.silence(30, RATE))
        await alice.answered()
        call = (await target.call_from("1001"))["id"]
        sales, expiring = Target(lab, target.url, SALES, None), Target(lab, target.url, early, None)
        async with (
            target.stream(call, encapsulation="sln") as stays,
            sales.stream(call, encapsulation="sln") as revoked,
            expiring.stream(call, encapsulation="sln") as expires,
        ):
            await asyncio.gather(stays.heard(5), revoked.heard(5), expires.heard(5))
            assert target.bridge is not None
            less = {token: table for token, table in TABLES.items() if token != SALES}
            less[early] = {"scopes": ["admin"], "expires": soon}
            await target.bridge.reload(with_tokens(lab, **less))
            assert await revoked.closed() == 1008
            assert await expires.closed(15) == 1008
            assert datetime.now(UTC) >= soon
            heard_before = len(stays.binary)
            await stays.heard(heard_before + 20)
        await alice.hangup()
