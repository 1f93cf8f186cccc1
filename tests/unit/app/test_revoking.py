"""Tokens that stop to be valid while the bridge runs: by a reload of the configuration, or by the time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from bridge.access import EVERYTHING, Grant, Reach, Scope
from bridge.api.tokens import Tokens, hash_of
from bridge.app.revoking import LOOK_AGAIN_S, Revoking
from bridge.patterns import Patterns
from tests.fakes.virtual_time import block, pass_time, wall_now

FEW = Reach(Patterns(["10*"]))
LISTENER = frozenset[Scope]({"streams:listen"})


def tokens(*grants: Grant) -> Tokens:
    return Tokens({hash_of(each.id): each for each in grants})


@contextlib.asynccontextmanager
async def watching(known: Tokens) -> AsyncIterator[tuple[Revoking, asyncio.Queue[str]]]:
    """Return a watcher of some tokens, and the ids of those whose streams it has ended."""
    ended: asyncio.Queue[str] = asyncio.Queue()
    revoking = Revoking(known, ended.put_nowait)
    revoking.start()
    try:
        yield revoking, ended
    finally:
        await revoking.stop()


@pytest.mark.parametrize(
    ("before", "now", "ends"),
    [
        (Grant("crm"), Grant("crm"), False),
        (Grant("crm"), Grant("crm", LISTENER), True),
        (Grant("crm", LISTENER), Grant("crm"), False),
        (Grant("crm"), Grant("crm", reach=FEW), True),
        (Grant("crm", reach=FEW), Grant("crm", reach=Reach(Patterns(["20*"]))), True),
        (Grant("crm", reach=FEW), Grant("crm", reach=Reach(Patterns(["10*"]))), False),
        (Grant("crm", reach=FEW), Grant("crm", reach=EVERYTHING), False),
        (Grant("crm"), Grant("crm", expires=1.0), True),
        (Grant("crm", expires=1.0), Grant("crm", expires=2.0), False),  # nothing of it can be open
        (Grant("crm"), Grant("crm", caller_ids=Patterns(["+49*"]), max_calls=1), False),
    ],
)
async def test_a_reload_ends_what_a_token_may_no_longer_do(before: Grant, now: Grant, ends: bool) -> None:
    async with watching(tokens(before)) as (revoking, ended):
        revoking.take(tokens(now))
        assert ended.qsize() == int(ends)


async def test_a_token_that_expires_around_a_reload_ends_once() -> None:
    known = tokens(Grant("crm", expires=wall_now() + 0.05), Grant("other"))
    async with watching(known) as (revoking, ended):
        await asyncio.sleep(0)  # it watches
        block(0.06)  # it has expired, and the loop could not notice
        revoking.take(tokens(*known._grants.values()))
        async with asyncio.timeout(5):
            assert await ended.get() == "crm"
        await pass_time(LOOK_AGAIN_S * 3)
        assert ended.empty()
