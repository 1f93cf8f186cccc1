"""Whatever ends - the caller, the WebSocket, Asterisk - the rest continues and nothing of the bridge is left."""

from __future__ import annotations

import asyncio
import socket

import pytest

from bridge.app.application import Application
from bridge.testing import judge, peer
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, configuration, pushing, synchronized
from tests.lab.parties import RATE, TONES, hears_on, into_the_bridge
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends


@pytest.mark.core
async def test_a_caller_who_hangs_up_ends_his_streams_only(target: Target, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    first, second = await into_the_bridge(target, alice), await into_the_bridge(target, bob)
    async with (
        target.stream(first, encapsulation="sln") as ends,
        target.stream(first, encapsulation="rtp", direction_listen="in") as ends_too,
        target.stream(second, encapsulation="sln") as goes_on,
    ):
        await asyncio.gather(ends.heard(20), ends_too.heard(20), goes_on.heard(20))
        await alice.hangup()
        assert (await ends.closed(), ends.close_reason) == (1000, "call ended")
        assert (await ends_too.closed(), ends_too.close_reason) == (1000, "call ended")
        await hears_on(goes_on, TONES["1002"])
        status, call = await target.get(f"/v1.0/calls/{first}")
        assert (status, call["status"], call["hangup_by"]) == (200, "hangup", "remote")
    await bob.hangup()


@pytest.mark.core
async def test_the_callee_of_an_observed_call_hangs_up(target: Target, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await alice.call("1002", play=judge.tone(500, 20, RATE))
    await alice.answered()
    call = await target.call_from("1001")
    async with target.stream(call["id"], encapsulation="audiosocket") as application:
        await application.heard(20)
        await bob.hangup()
        assert (await application.closed(), application.close_reason) == (1000, "call ended")


@pytest.mark.core
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_websocket_that_goes_leaves_the_call_and_the_others(target: Target, phones: Phones, how: str) -> None:
    (alice,) = await phones("1001")
    call = await into_the_bridge(target, alice)
    async with target.stream(call, encapsulation="sln") as stays, target.stream(call, encapsulation="sln") as goes:
        await asyncio.gather(stays.heard(20), goes.heard(20))
        if how == "close":
            await goes.close()
        else:
            goes.abort()
        await sends(alice, 0.3)
        await hears_on(stays, TONES["1001"])
    await target.streams_gone()
    assert alice.in_call
    async with target.stream(call, encapsulation="sln") as again:
        await hears_on(again, TONES["1001"])
    await alice.hangup()


async def test_a_websocket_that_stops_reading_costs_only_its_own_audio(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    call = await into_the_bridge(target, alice)
    async with (
        target.stream(call, encapsulation="sln", rate=48000) as stalled,
        target.stream(call, encapsulation="sln") as reads,
    ):
        await asyncio.gather(stalled.heard(20), reads.heard(20))
        stalled.stop_reading()
        assert target.bridge is not None
        async with asyncio.timeout(120):
            while not target.bridge.counters.messages_dropped:
                await asyncio.sleep(0.2)
        await hears_on(reads, TONES["1001"])
        described = (await target.get("/v1.0/streams"))[1]["result"]
        (behind,) = [stream for stream in described if stream["dropped_to_application_ms"]]
        assert behind["unsent_ms"] <= 1000
        stalled.go_on_reading()
        await sends(alice, 1)
        await hears_on_at_48k(stalled, TONES["1001"])
    await alice.hangup()


async def hears_on_at_48k(application: peer.Peer, hz: float) -> None:
    begin = len(application.messages)
    await application.heard(begin + 60)
    assert judge.level_of(peer.samples_of(b"".join(application.binary[-25:])), hz, 48000) > 6000


async def test_asterisk_restarts(target: Target, lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    in_app = await into_the_bridge(target, alice)
    async with target.stream(in_app, encapsulation="sln") as application:
        await application.heard(20)
        await lab.restart_asterisk()
        code = await application.closed(10)
        # Whichever the bridge detects first: that Asterisk is unavailable, or that the restarted one has no such call.
        assert code == 1011
        assert application.close_reason.startswith(("no audio from the PBX: ", "Asterisk was restarted"))
    await synchronized(target)
    await target.nothing_left()
    assert (await target.get("/v1.0/calls"))[1]["result"] == []
    for phone in (alice, bob):
        await phone.stop()
        await phone.start()
        phone.forget()
    call = await into_the_bridge(target, bob)
    async with target.stream(call, encapsulation="sln") as application:
        await hears_on(application, TONES["1002"])
    await bob.hangup()


async def test_asterisk_goes_and_stays_away_for_a_while(target: Target, lab: Lab, phones: Phones) -> None:
    if not isinstance(lab, EmbeddedLab):
        pytest.skip("Asterisk is no process of ours")
    (alice,) = await phones("1001")
    call = await into_the_bridge(target, alice)
    async with target.stream(call, encapsulation="sln") as application:
        await application.heard(20)
        await lab._asterisk.stop(at_once=True)
        try:
            assert await application.closed() == 1011
            assert application.close_reason.startswith("no audio from the PBX: ")
            assert (await target.get("/health"))[0] == 503
        finally:
            await lab._boot()
    await synchronized(target)
    await target.nothing_left()
    await alice.stop()
    await alice.start()
    alice.forget()


async def test_orphans_of_an_earlier_life_are_swept_and_nothing_else(lab: Lab, target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call("600", play=judge.tone(500, 30, RATE))
    await alice.answered()
    channel = (await target.call_from("1001"))["id"]
    await target.ari("POST", "/bridges", bridgeId="ab-sweep-00000000-mix-1", type="mixing")
    await target.ari("POST", "/bridges", bridgeId="not-ours", type="mixing")
    await target.ari("POST", "/bridges", bridgeId="ab-sweeper-00000000-mix-1", type="mixing")
    async with Application(configuration(lab, app="other")) as other:
        # A snoop needs an application to live in: one of another bridge, which dies without cleaning up.
        await synchronized(Target(lab, f"http://127.0.0.1:{other.http_port}", None, other))
        snoop = "ab-sweep-00000000-snoop-1"
        await target.ari("POST", f"/channels/{channel}/snoop", app="other", snoopId=snoop, spy="in")
        assert "ab-sweep-00000000-snoop-1" in await target.ours_on_the_pbx()
        async with Application(configuration(lab, app="sweep")) as bridge:
            await synchronized(Target(lab, f"http://127.0.0.1:{bridge.http_port}", None, bridge))
            async with asyncio.timeout(PATIENCE_S):  # Asterisk hangs a channel up some time after its response
                while await target.ours_on_the_pbx() != ["ab-sweeper-00000000-mix-1"]:
                    await asyncio.sleep(0.05)
    bridges = {bridge["id"] for bridge in await target.ari("GET", "/bridges")}
    assert {"not-ours", "ab-sweeper-00000000-mix-1"} <= bridges
    assert alice.in_call
    for bridge_id in ("not-ours", "ab-sweeper-00000000-mix-1"):
        await target.ari("DELETE", f"/bridges/{bridge_id}")
    await alice.hangup()


async def test_a_call_that_waited_while_the_bridge_was_away_is_taken_up_again(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with Application(configuration(lab)) as bridge:
        target = Target(lab, f"http://127.0.0.1:{bridge.http_port}", None, bridge)
        await synchronized(target)
        call = await into_the_bridge(target, alice)
        async with target.stream(call, encapsulation="sln") as application:
            await application.heard(20)
            await bridge.stop()
            assert (await application.closed(), application.close_reason) == (1012, "the bridge is shutting down")
    assert alice.in_call
    async with Application(configuration(lab)) as bridge:
        target = Target(lab, f"http://127.0.0.1:{bridge.http_port}", None, bridge)
        await synchronized(target)
        async with target.stream(call, encapsulation="sln") as application:
            await hears_on(application, TONES["1001"])
        await alice.hangup()
        await target.nothing_left()


async def test_a_stream_whose_audio_cannot_be_delivered_says_where_asterisk_was_to_connect(
    lab: Lab, phones: Phones
) -> None:
    (alice,) = await phones("1001")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        port = silent.getsockname()[1]
        audiosocket = {"bind_host": lab.audiosocket_bind, "advertised_host": "127.0.0.1", "advertised_port": port}
        async with pushing(lab, audiosocket={**audiosocket, "bind_port": lab.audiosocket_port}) as target:
            call = await into_the_bridge(target, alice)
            async with target.stream(call, encapsulation="sln") as application:
                assert await application.closed() == 1011
                words = (
                    f"no audio from the PBX: Asterisk cannot connect to 127.0.0.1:{port}. Run asterisk-bridge doctor"
                )
                assert application.close_reason.startswith(words)
            await alice.hangup()
