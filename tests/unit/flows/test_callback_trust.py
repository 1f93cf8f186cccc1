"""Callbacks to servers that the configuration names accept the certificates that it names for the documents."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bridge.calls.journal import Fact, Journal
from bridge.config import Config
from bridge.dialects.twilio import Twilio
from bridge.flows.flow_config import flows_of
from bridge.flows.program import Program
from bridge.flows.status_callbacks import CALL, RECORDING, STREAM, StatusCallbacks
from bridge.tls import Trust
from tests.fakes.virtual_time import pass_time, run_virtually
from tests.unit.flows.twiml_documents import answers, document, run_of
from tests.unit.flows.world import ACCOUNT, World
from tests.unit.streams.one_stream import OneStream

PRIVATE = Trust(True, "/etc/ssl/private-ca.pem")
HOST = "https://app.example.org"


def of_route() -> Program:
    """Return the program of a route whose server has a certificate of a private authority."""
    route = {
        "id": "agent",
        "match": "750",
        "twiml_url": f"{HOST}/voice",
        "status_callback": f"{HOST}/call",
        "ca_file": PRIVATE.ca_file,
    }
    (flow,) = flows_of(Config.model_validate({"dialplan": [route]}))
    assert flow.program is not None
    return flow.program


def trusts(world: World) -> dict[str, Trust]:
    return dict(zip([urlsplit(url).path for _, url, _, _ in world.web.asked], world.web.trusts, strict=True))


class OpenJournal(Journal):
    """Keeps all facts as the next run finds them."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.facts: dict[str, dict[str, Any]] = {}

    def put(self, kind: str, identity: str, fact: Fact) -> None:
        super().put(kind, identity, fact)
        self.facts.setdefault(kind, {})[identity] = json.loads(json.dumps(fact))


def callbacks(world: World, journal: Journal) -> StatusCallbacks:
    stand_ins: Any = world
    return StatusCallbacks(world.events, world.records, stand_ins.web, ACCOUNT, lambda: 0.0, journal=journal)


def test_callbacks_have_the_trust_of_the_route_also_in_the_next_run(tmp_path: Path) -> None:
    async def act() -> None:
        world, journal = World(), OpenJournal(tmp_path / "calls")
        world.services.status_callbacks = callbacks(world, journal)
        answers(
            world,
            voice=document(
                '<Start><Stream url="wss://app.example.org/ears" statusCallback="/stream"/></Start>'
                '<Start><Stream url="wss://app.example.org/too" statusCallback="https://elsewhere.example/other"/></Start>'
                '<Record recordingStatusCallback="/recording" recordingStatusCallbackEvent="in-progress completed"/>'
            ),
        )
        opened: list[OneStream] = []

        async def start(*_: Any) -> Any:
            opened.append(OneStream(Twilio(), "inbound"))
            await opened[-1].stream.settled(1)
            return opened[-1].stream

        world.streams.stream_start = start  # type: ignore[method-assign,assignment]
        leg = world.leg()
        running = asyncio.ensure_future(run_of(world, of_route(), leg).run())
        await pass_time(2)
        facts = dict(journal.facts)
        assert {kind: len(found) for kind, found in facts.items()} == {CALL: 1, STREAM: 2, RECORDING: 1}
        expected = dict.fromkeys(("/voice", "/stream", "/recording"), PRIVATE) | {"/other": Trust()}
        assert trusts(world) == expected
        running.cancel()
        for each in opened:
            await each.end()
        await world.services.status_callbacks.close()

        world, journal = World(), OpenJournal(tmp_path / "calls")
        del facts[RECORDING]  # one that has ended is looked for in Asterisk
        journal.found = facts
        after = callbacks(world, journal)
        after.resume(world.recordings)  # type: ignore[arg-type]
        await pass_time(1)
        del expected["/voice"], expected["/recording"]
        assert trusts(world) == expected | {"/call": PRIVATE}
        await after.close()

    run_virtually(act())
