"""External media between Asterisk and another server: Asterisk gets an address that was checked, and no name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.access import Principal
from bridge.api.models.streams import Stream as StreamModel
from bridge.audio.playout import Playout
from bridge.calls.ids import OwnIds
from bridge.config import Config, PbxConfig
from bridge.dialects.base import CallInfo
from bridge.errors import AriError, Overloaded
from bridge.events.hub import Events
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Policy
from bridge.outbound.resolver import Resolver
from bridge.streams.external_host import ExternalHost
from bridge.streams.flow_options import ExternalServer
from bridge.streams.flow_streams import FlowStreams
from bridge.streams.origin import Origin
from bridge.streams.registry import Streams
from tests.fakes.leg import StandInLeg
from tests.flow_requests import external_media
from tests.unit.audit.lines import Lines

NAMES = {"media.example": ["2001:db8::7", "192.0.2.7"], "inner.example": ["127.0.0.1"]}


def look_up(host: str) -> list[str]:
    if host not in NAMES:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return NAMES[host]


class Pbx:
    """The part of ARI that an external host uses; creating the channel fails, which ends it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.channels = self.bridges = self

    def on_channel_event(self, *_: Any) -> Any:
        return lambda: None

    on_connected = on_channel_event

    def expect(self, *_: Any) -> Any:
        return contextlib.nullcontext(None)

    async def external_media(self, *, external_host: str, **_: Any) -> None:
        self.asked.append(external_host)
        await self.answers.wait()
        raise AriError(500, "POST", "/channels/externalMedia", "not here")

    async def hangup(self, _: str) -> None:
        """There is nothing to hang up."""


async def opened(
    host: str, *, configured: bool = False, gate: Gate | None = None, end: str = ""
) -> tuple[list[str], str]:
    pbx = Pbx()
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    external = ExternalHost(
        "x1",
        Origin("flow:external_media_start", Principal("test", "127.0.0.1", frozenset())),
        CallInfo("call"),
        cast(Any, StandInLeg("c1")),
        cast(ExternalServer, external_media(external_host=host, configured=configured)),
        client=cast(Any, pbx),
        ids=OwnIds("app"),
        taps=cast(Any, None),
        counters=cast(Any, None),
        gate=gate or Gate(names=Resolver(look_up)),
        new_playout=cast(Any, None),
        on_open=lambda _: None,
        on_end=lambda _, reason: ended.set_result(reason),
    )
    if end:
        external.end(end)
    return pbx.asked, await asyncio.wait_for(ended, 5)


@pytest.mark.parametrize(
    ("host", "given"),
    [
        ("192.0.2.9:4000", "192.0.2.9:4000"),
        ("[2001:db8::9]:4000", "[2001:db8::9]:4000"),
        ("media.example:4000", "[2001:db8::7]:4000"),
    ],
)
async def test_asterisk_gets_the_address_that_was_checked(host: str, given: str) -> None:
    asked, _ = await opened(host)
    assert asked == [given]


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("169.254.169.254:80", "(host metadata) denied"),
        ("127.0.0.1:8088", "(loopback) denied"),
        ("localhost:8088", "(loopback) denied"),
        ("inner.example:8088", "(loopback) denied"),
        ("[::ffff:127.0.0.1]:8088", "(loopback) denied"),
        ("224.0.0.1:4000", "(multicast) denied"),
        ("nowhere.example:4000", "Name or service not known"),
    ],
)
async def test_asterisk_is_not_asked_for_others(host: str, reason: str) -> None:
    asked, ended = await opened(host)
    assert asked == []
    assert reason in ended


async def test_one_that_ends_in_the_turn_in_which_it_was_created_says_so() -> None:
    assert await opened("192.0.2.9:4000", end="the token is no longer valid") == ([], "the token is no longer valid")


async def test_it_is_counted_published_and_recorded_like_any_stream() -> None:
    pbx, admission, audit, events = Pbx(), CallAdmission(1), Lines(), Events()
    pbx.answers.clear()
    told: list[tuple[str, str]] = []
    events.subscribe(lambda event: told.append((event.type, event.data["reason"])))
    streams = Streams(
        Config(),
        taps=cast(Any, None),
        counters=Counters(),
        new_playout=lambda fmt: Playout(fmt, 1000),
        admission=admission,
        send_dtmf=cast(Any, None),
        events=events,
        audit=audit,
    )
    flows = FlowStreams(
        calls=cast(Any, SimpleNamespace(find=lambda _: None)),
        naming=PbxConfig(),
        streams=streams,
        new_host=partial(
            ExternalHost,
            client=cast(Any, pbx),
            ids=OwnIds("app"),
            taps=cast(Any, None),
            counters=Counters(),
            gate=Gate(names=Resolver(look_up)),
            new_playout=lambda fmt: Playout(fmt, 1000),
        ),
        admission=admission,
    )
    leg = cast(Any, StandInLeg("c1"))
    crm = Principal("crm", "192.0.2.7")
    await flows.external_media_start(leg, external_media(external_host="192.0.2.9:4000"), crm)
    (host,) = streams
    described = host.describe()
    StreamModel.model_validate_json(json.dumps(described), strict=True)
    assert (described["started_by"], described["dialect"], described["channel_id"]) == (
        "flow:external_media_start", "asterisk", "c1",
    )  # fmt: skip
    with pytest.raises(Overloaded):
        await flows.external_media_start(leg, external_media(external_host="192.0.2.9:4000"), crm)
    assert flows.object_ids
    assert streams.end_of_principal("crm", 1008, "the token is no longer valid") == 1
    await host.wait()
    assert told == [("stream_started", ""), ("stream_ended", "the token is no longer valid")]
    assert [(action, outcome) for action, _, outcome, _ in audit.lines] == [
        ("stream.start", "ok"),
        ("stream.end", "failed"),
    ]
    assert audit.lines[1][3]["application"] == "192.0.2.9:4000"
    assert (len(streams), admission.open, list(flows.object_ids)) == (0, 0, [])


async def test_allow_deny_and_the_configuration() -> None:
    assert (await opened("localhost:4000", configured=True))[0] == ["127.0.0.1:4000"]
    assert (await opened("127.0.0.1:4000", gate=Gate(Policy(allow=["localhost"]))))[0] == ["127.0.0.1:4000"]
    denying = Gate(Policy(deny=["2001:db8::/32"]), names=Resolver(look_up))
    assert (await opened("media.example:4000", gate=denying))[0] == ["192.0.2.7:4000"]
