"""Many short calls, in all modes simultaneously, hung up by either side at random times: nothing of the bridge is left.

The short form runs with all tests; ``--churn 2000`` makes 2000 calls in each round.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import WebSocketException

from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import Lab
from tests.fakes.garbage import uncollected
from tests.lab.conftest import pushing
from tests.lab.driving import Client, client_of
from tests.lab.sink import open_sink
from tests.lab.sipp import Sipp
from tests.lab.target import Target
from tests.lab.waiting import random_moment, until

ROUNDS = 4
"""Pools of connections fill in the first; what grows in each of the others is a leak."""
MOST_S = 2.0
"""A call lasts no longer than this once it is answered."""
FAR = "5550199"
"""A number at the trunk's far end."""
KEPT = frozenset({"CallRecord", "Address", "Groupcall", "PartyNames", "Recording"})
"""What the bridge remembers: ended calls for an hour, recordings as long as there are files."""
FLOWS: list[list[dict[str, Any]]] = [
    [{"type": "talk", "option": {"text": "This sentence is seldom heard to its end.", "language": "en-US"}}],
    [{"type": "CONFERENCE", "params": {"name": "churn"}}],
    [{"type": "connect", "option": {"source": {"type": "tel", "target": "4711"}, "destinations": [
        {"type": "tel", "target": FAR}]}}],
    [{"type": "recording_start", "option": {}}, {"type": "sleep", "option": {"duration": 3000}}],
]  # fmt: skip


def census() -> Counter[str]:
    """Count the product's objects in this process by class."""
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    ours = (kind for kind in kinds if re.match(r"bridge\.(?!testing)", str(kind.__module__)))
    return Counter(kind.__name__ for kind in ours if kind.__name__ not in KEPT)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def originate(client: Client, count: int, chance: random.Random) -> None:
    """Create calls that run flows; some are ended by request at a random time, the rest by the far side."""

    async def one() -> None:
        body = {
            "source": {"type": "tel", "target": "4711"},
            "destinations": [{"type": "tel", "target": FAR}],
            "actions": chance.choice(FLOWS),
        }
        (call,) = (await client.done("POST", "/v1.0/calls", body))["calls"]
        if chance.random() < 0.5:
            await random_moment(chance, MOST_S)
            status, answer = await client.ask("POST", f"/v1.0/calls/{call['id']}/hangup")
            assert status in (200, 404, 409), answer
        await until(lambda: _ended(client, call["id"]))

    places = asyncio.Semaphore(6)

    async def in_turn() -> None:
        async with places:
            await one()

    await asyncio.gather(*(in_turn() for _ in range(count)))


async def _ended(client: Client, call_id: str) -> bool:
    status, call = await client.ask("GET", f"/v1.0/calls/{call_id}")
    return status == 404 or call["status"] == "hangup"


async def listen_in(target: Target, chance: random.Random) -> None:
    """Open and close streams on calls that are up, until canceled."""

    async def one(call_id: str) -> None:
        with contextlib.suppress(WebSocketException, OSError):
            async with target.stream(call_id, encapsulation=chance.choice(["rtp", "sln", "audiosocket"])):
                await random_moment(chance, 1.0)

    async with asyncio.TaskGroup() as streams:
        while True:
            _, answer = await target.get("/v1.0/calls")
            up = [call["id"] for call in answer["result"] if call["status"] == "progressing"]
            if up:
                streams.create_task(one(chance.choice(up)))
            await asyncio.sleep(0.3)


async def measure_ari(target: Target, times: list[float]) -> None:
    """Ask ARI for its channels, until canceled."""
    while True:
        began = time.monotonic()
        await target.ari("GET", "/channels")
        times.append(time.monotonic() - began)
        await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def beside(*work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do work in the background, and see its faults."""
    tasks = [asyncio.ensure_future(each()) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise AssertionError(f"ended too early: {result!r}")


async def test_nothing_stays_of_calls_that_end_at_random_moments(
    lab: Lab, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    if not isinstance(lab, EmbeddedLab):
        pytest.skip("SIPp comes with the embedded lab's packages")
    calls = request.config.getoption("--churn")
    chance, sipp = random.Random(11), Sipp(lab, tmp_path)
    ari_s: list[float] = []
    left: list[Counter[str]] = []
    in_cycles: list[Counter[str]] = []
    async with open_sink() as sink, sipp.callee(MOST_S):
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": "hangup"}
        everything = {"id": "all", "url": sink.url, "dialect": "yeastar", "extensions": ["1004"]}
        sections = {"dialplan": [route], "subscriptions": [everything], "media": {"refuse_late_ms": 0}}
        async with pushing(lab, **sections) as target:

            async def short_calls() -> None:
                work = (lambda: listen_in(target, chance), lambda: measure_ari(target, ari_s))
                async with client_of(target) as client, beside(*work):
                    await asyncio.gather(
                        sipp.call("750", calls // 4, at_once=8, most_s=MOST_S),
                        sipp.call(f"9{FAR}", calls // 4, at_once=8, most_s=MOST_S),
                        sipp.call("602", calls // 4, at_once=6, most_s=MOST_S / 4, cancels=True),
                        originate(client, calls // 4, chance),
                    )
                await until(lambda: _idle(target))
                await target.nothing_left()

            for _ in range(ROUNDS):
                with uncollected() as cyclic:
                    await short_calls()
                in_cycles.append(cyclic)
                left.append(census() + Counter({"file descriptors": descriptors()}))
            assert target.bridge is not None
            ended = len(target.bridge.records.ended())
    connected = len(sink.connections)
    print(f"{ended} ended calls, {connected} connections, ARI median {statistics.median(ari_s) * 1000:.1f} ms")
    assert connected >= calls // 4 * ROUNDS
    assert ended >= min(calls, 900)
    grown = [later - earlier for earlier, later in pairwise(left[1:])]
    assert not grown[0] & grown[1], "there are more of these after each round"
    assert not sum(in_cycles[1:], Counter()), "ended calls wait for the garbage collector"
    assert statistics.median(ari_s) < 0.1
    assert not [each for each in caplog.records if each.exc_info or each.levelname == "ERROR"]


async def _idle(target: Target) -> bool:
    _, answer = await target.get("/v1.0/calls")
    channels = await target.ari("GET", "/channels")
    assert target.bridge is not None
    streams = len(target.bridge.streams)  # their connections close after the calls
    return not (channels or streams or [call for call in answer["result"] if call["status"] != "hangup"])
