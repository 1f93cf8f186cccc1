"""External media between Asterisk and another server: Asterisk gets an address that was checked, and no name."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.access import Principal
from bridge.calls.ids import OwnIds
from bridge.errors import AriError
from bridge.outbound.gate import Gate
from bridge.outbound.names import Names
from bridge.outbound.policy import Policy
from bridge.streams.external_host import ExternalHost
from bridge.streams.flow_options import ExternalServer
from tests.flow_requests import external_media

NAMES = {"media.example": ["2001:db8::7", "192.0.2.7"], "inner.example": ["127.0.0.1"]}


def look_up(host: str) -> list[str]:
    if host not in NAMES:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return NAMES[host]


class Pbx:
    """ARI as far as an external host uses it; creating the channel fails, which ends it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.channels = self.bridges = self

    def on_channel_event(self, *_: Any) -> Any:
        return lambda: None

    on_connected = on_channel_event

    def expect(self, *_: Any) -> Any:
        return contextlib.nullcontext(None)

    async def external_media(self, *, external_host: str, **_: Any) -> None:
        self.asked.append(external_host)
        raise AriError(500, "POST", "/channels/externalMedia", "not here")

    async def hangup(self, _: str) -> None:
        """There is nothing to hang up."""


async def opened(host: str, *, configured: bool = False, gate: Gate | None = None) -> tuple[list[str], str]:
    pbx = Pbx()
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ExternalHost(
        "x1",
        cast(Any, SimpleNamespace(id="c1", bridge_id="b", gone=asyncio.Event())),
        cast(ExternalServer, external_media(external_host=host, configured=configured)),
        principal=Principal("test", "127.0.0.1", frozenset()),
        client=cast(Any, pbx),
        ids=OwnIds("app"),
        taps=cast(Any, None),
        counters=cast(Any, None),
        gate=gate or Gate(names=Names(look_up)),
        new_playout=cast(Any, None),
        on_open=lambda _: None,
        on_end=lambda _, reason: ended.set_result(reason),
    )
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


async def test_allow_deny_and_the_configuration() -> None:
    assert (await opened("localhost:4000", configured=True))[0] == ["127.0.0.1:4000"]
    assert (await opened("127.0.0.1:4000", gate=Gate(Policy(allow=["localhost"]))))[0] == ["127.0.0.1:4000"]
    denying = Gate(Policy(deny=["2001:db8::/32"]), names=Names(look_up))
    assert (await opened("media.example:4000", gate=denying))[0] == ["192.0.2.7:4000"]
