"""The AudioSocket port, dialed by others than Asterisk."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge import logs
from bridge.audio.audiosocket import MessageKind, encode
from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.media import admission as admission_module
from bridge.media.admission import RESOLVE_S, AddressAdmission
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.listener import MAX_UNNAMED, Listener
from bridge.outbound.resolver import Resolver
from tests.fakes.asterisk import FakeAsterisk
from tests.fakes.dialed import dial
from tests.fakes.log_output import log_output
from tests.waiting import until

ELSEWHERE = "192.0.2.7"


def new_leg(listener: Listener) -> MediaLeg:
    leg = MediaLeg(slin(8000), Playout(slin(8000), 60_000), listener.counters)
    listener.expect(leg)
    return leg


@asynccontextmanager
async def listening(admission: AddressAdmission | None = None) -> AsyncIterator[Listener]:
    listener = Listener(Counters(), handshake_timeout_s=30, admission=admission)
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.stop()


async def test_idle_connections_are_bounded_and_keep_nobody_out() -> None:
    with log_output() as output:
        await _flood_with_idle_connections()
    assert output.getvalue().count("too many connections without a UUID") == 1


async def _flood_with_idle_connections() -> None:
    async with listening() as listener:
        idle = [await dial("127.0.0.1", listener.port) for _ in range(200)]
        await until(lambda: len(listener.connections) == MAX_UNNAMED)
        assert listener.counters.legs_refused == 200 - MAX_UNNAMED
        legs = [new_leg(listener) for _ in range(40)]
        peers = [await FakeAsterisk.dial(listener.port, leg.uuid) for leg in legs]
        await until(lambda: all(leg.connected.is_set() for leg in legs))
        assert len(listener.connections) == MAX_UNNAMED + len(legs) - (MAX_UNNAMED - len(listener.unnamed))
        for peer in peers:
            await peer.hang_up()
        for _, writer in idle:
            writer.transport.abort()


async def test_calls_that_connect_while_the_loop_is_busy_are_all_taken() -> None:
    """Asterisk sends the UUID immediately: what it has sent is read before a connection counts as idle."""
    calls = 10 * MAX_UNNAMED
    async with listening() as listener:
        listener.unexpected = lambda _: new_leg(listener)
        peers = []
        for _ in range(calls):  # nothing is accepted meanwhile
            peers.append(socket.create_connection(("127.0.0.1", listener.port)))
            peers[-1].sendall(encode(MessageKind.UUID, uuid4().bytes))
        await until(lambda: listener.counters.legs_opened + listener.counters.legs_refused == calls)
        assert listener.counters.legs_refused == 0
        for peer in peers:
            peer.close()


async def test_refusals_with_one_reason_are_written_once_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "REPEAT_S", 0.3)
    with log_output() as output:
        async with listening() as listener:
            for _ in range(5):
                peer = await FakeAsterisk.dial(listener.port, uuid4())
                await peer.hang_up()
            await until(lambda: "repeated=4" in output.getvalue())
    assert output.getvalue().count("no uuid: route matches it") == 2


async def test_nobody_else_may_connect_where_networks_are_configured(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(AddressAdmission(("10.0.0.0/8", "::1"))) as listener:
        leg = new_leg(listener)
        reader, writer = await dial("127.0.0.1", listener.port)
        assert await asyncio.wait_for(_read(reader), 60) == b""
        writer.close()
        assert not leg.connected.is_set()
        assert "not allowed: 10.0.0.0/8, ::1/128. If it is Asterisk, add it to audiosocket.allowed" in caplog.text
    async with listening(AddressAdmission(("127.0.0.0/8",))) as listener:
        leg = new_leg(listener)
        peer = await FakeAsterisk.dial(listener.port, leg.uuid)
        await asyncio.wait_for(leg.connected.wait(), 60)
        await peer.hang_up()


async def test_from_elsewhere_only_an_ordered_uuid_counts_and_tells_where_asterisk_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening(AddressAdmission(host="127.0.0.1")) as listener:
        routed = MediaLeg(slin(8000), Playout(slin(8000), 60_000), listener.counters)
        asked: list[UUID] = []

        def unexpected(uuid: UUID) -> MediaLeg:
            asked.append(uuid)
            return routed

        listener.unexpected = unexpected
        assert listener.claim(uuid4(), ELSEWHERE) is None
        assert asked == []
        assert "127.0.0.1 (127.0.0.1) and this machine. If it is Asterisk" in caplog.text
        leg = new_leg(listener)
        assert listener.claim(leg.uuid, ELSEWHERE) is leg
        assert listener.admission.learned == [ELSEWHERE]
        assert listener.claim(uuid4(), ELSEWHERE) is routed
        assert listener.claim(uuid4(), "::ffff:127.0.0.1") is routed
        assert listener.claim(uuid4(), "not an address") is None


async def test_a_host_whose_address_changes_is_resolved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [socket.gaierror(-2, "Name or service not known"), ["192.0.2.1", "192.0.2.2"], ["192.0.2.3"]]
    now = [1000.0]

    def look_up(host: str) -> list[str]:
        assert host == "pbx.example"
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return list(answer)

    monkeypatch.setattr(admission_module, "NAMES", Resolver(look_up))
    admission = AddressAdmission(host="pbx.example", clock=lambda: now[0])
    await admission.start()
    assert not admission.expects("192.0.2.1")
    assert len(answers) == 2  # not yet: it was resolved just now
    for expected in ("192.0.2.2", "192.0.2.3"):
        now[0] += RESOLVE_S + 1
        assert not admission.expects(expected)
        await until(partial(admission.expects, expected))
    assert not admission.expects("192.0.2.1")
    admission.stop()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
