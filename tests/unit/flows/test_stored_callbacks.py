"""Callbacks of the previous run: a damaged fact costs its own callback, and is not kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.calls.journal import Fact, Journal
from bridge.flows.status_callbacks import CALL, STREAM, StatusCallbacks
from bridge.flows.web import ServerResponse
from tests.fakes.virtual_time import pass_time, run_virtually
from tests.unit.flows.world import ACCOUNT, World

WATCHED = {"url": "https://app.example.org/call", "method": "POST", "configured": False, "events": ["completed"]}
STREAMS = {"url": "https://app.example.org/stream"}


class OpenJournal(Journal):
    """Shows what the next run would find."""

    def __init__(self, path: Path, found: Mapping[str, dict[str, dict[str, Any]]]) -> None:
        super().__init__(str(path))
        self.found = {**found}
        self.facts: set[str] = set()

    def put(self, kind: str, identity: str, fact: Fact) -> None:
        super().put(kind, identity, fact)
        self.facts.add(identity)

    def drop(self, kind: str, identity: str) -> None:
        super().drop(kind, identity)
        self.facts.discard(identity)


@pytest.mark.parametrize(
    "damage",
    [{"call_id": ["c1"]}, {"call_id": None}, {"url": 5}, {"url": None}, {"events": 5}, {"sent": None}, {"sent": 5}, {}],
)
def test_other_callbacks_are_sent_beside_a_damaged_fact(damage: dict[str, Any], tmp_path: Path) -> None:
    async def act() -> None:
        world: Any = World()
        facts = {each: {"watched": {**WATCHED, "call_id": each, "sent": []}} for each in ("c1", "c2")}
        facts["c1"]["watched"] |= damage
        streams = {
            "MZ1": {"call_id": "c1", "callback": STREAMS | {"url": damage.get("url", STREAMS["url"])}, "sid": "MZ1"},
            "MZ2": {"call_id": "c2", "callback": STREAMS, "sid": "MZ2"},
        }
        journal = OpenJournal(tmp_path / "calls", {CALL: facts, STREAM: streams})
        for url in (str(WATCHED["url"]), STREAMS["url"]):
            world.web.answers[url] = ServerResponse(200, b"")
        callbacks = StatusCallbacks(world.events, world.records, world.web, ACCOUNT, lambda: 0.0, journal=journal)
        callbacks.resume(world.recordings)
        await pass_time(1)
        sent = sorted(url.rpartition("/")[2] for _, url, _, _ in world.web.asked)
        assert sent == ["call"] * (1 if damage else 2) + ["stream"] * (1 if "url" in damage else 2)
        assert journal.facts == set()
        await callbacks.close()

    run_virtually(act())
