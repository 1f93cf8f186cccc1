"""Recovery: legs, parties that move, calls that arrived while Asterisk hung or its events were unavailable."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest

import bridge.ari.rest
from bridge.app import synchronization
from bridge.app.application import Application
from bridge.streams.stream import Stream
from bridge.testing import judge, peer
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone
from tests.fakes.proxy import Proxy, open_proxy
from tests.lab.conftest import Phones, configuration, pushing, synchronized
from tests.lab.parties import hears_on, into_the_bridge
from tests.lab.target import Target, open_sockets, our_tasks
from tests.lab.waiting import PATIENCE_S, sends, until

RATE = 8000
LOUD = 3000
MILLIWATT_HZ = 1004


def pcm(hz: float, seconds: float) -> bytes:
    """Return a tone as an application sends it."""
    return judge.tone(hz, seconds, RATE).astype("<i2").tobytes()


def level(application: peer.Peer, hz: float) -> float:
    """Return how loud a tone was in the last half second of audio at the application."""
    return judge.level_of(peer.samples_of(b"".join(application.binary[-25:])), hz, RATE)


def heard_s(phone: Phone, hz: float) -> float:
    """Return how many seconds of a tone the phone has recorded, in tenths."""
    return float((judge.block_levels(phone.recording(), RATE, hz, block_s=0.1) > LOUD).sum()) / 10


@contextlib.asynccontextmanager
async def bridge_for(lab: Lab, app: str | None = None) -> AsyncIterator[Target]:
    async with Application(configuration(lab, app=app)) as it:
        target = Target(lab, f"http://127.0.0.1:{it.http_port}", None, it)
        await synchronized(target)
        yield target


@contextlib.contextmanager
def hanging(lab: Lab) -> Iterator[None]:
    """Asterisk runs no instruction."""
    if not isinstance(lab, EmbeddedLab):
        pytest.skip("Asterisk is no process of ours")
    pid = lab._asterisk.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def bridge_behind_proxy(lab: Lab) -> AsyncIterator[tuple[Target, Proxy]]:
    """Run a bridge whose connections to ARI go through a proxy; nothing may be left at the end."""
    address = urlsplit(lab.ari_url)
    assert address.port is not None
    async with open_proxy(address.port) as proxy:
        ari = {"url": f"http://127.0.0.1:{proxy.port}", "user": lab.ari_user, "password": lab.ari_password}
        async with pushing(lab, ari=ari | {"app": lab.ari_app}) as target:
            yield target, proxy


@contextlib.asynccontextmanager
async def without_ari(target: Target, proxy: Proxy) -> AsyncIterator[None]:
    """Lose the connections to ARI; they do not come back before the end."""
    assert target.bridge is not None
    client = target.bridge.client
    proxy.drop()
    await until(lambda: not client.connected)
    yield
    proxy.admit()


def break_legs(target: Target) -> None:
    """Reset the audio connections, as a failing network would."""
    assert target.bridge is not None
    for connection in tuple(target.bridge.listener.connections):
        connection.abort()


async def test_a_broken_leg_is_restored_and_goes_on_playing_where_it_was(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    call = await into_the_bridge(target, alice)
    async with target.stream(call, encapsulation="sln") as application:
        await application.heard(25)
        await application.send(pcm(700, 4))
        await sends(alice, 1)
        break_legs(target)
        await sends(alice, 4.5)
        await hears_on(application, 500)
    await alice.hangup()
    # What was on its way when it broke may be lost, and the break cuts one tenth of a second in two.
    assert heard_s(alice, 700) == pytest.approx(4.0, abs=0.25)


async def test_legs_that_break_again_and_again_end_the_stream(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    call = await into_the_bridge(target, alice)
    async with target.stream(call, encapsulation="sln") as application:
        for _ in range(3):
            await hears_on(application, 500)
            break_legs(target)
        await hears_on(application, 500)
        break_legs(target)
        assert await application.closed() == 1011
        assert application.close_reason == "the audio connection from the PBX broke repeatedly"
    assert alice.in_call
    await target.streams_gone()
    await alice.hangup()


async def leave_for(target: Target, call: str, context: str, extension: str) -> None:
    """Move the party from the application to the dialplan, and wait until the bridge has noted it."""
    await target.ari("POST", f"/channels/{call}/continue", context=context, extension=extension, priority="1")
    await until_in_stasis(target, call, False)


async def until_in_stasis(target: Target, call: str, wanted: bool) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await target.get(f"/v1.0/calls/{call}"))[1]["parties"][0]["in_stasis"] is not wanted:
            await asyncio.sleep(0.05)


async def hears_anew(application: peer.Peer, hz: float) -> None:
    """Wait some seconds for the tone in what arrives from now on: legs are moving."""
    begin = len(application.binary)
    async with asyncio.timeout(PATIENCE_S):
        while len(application.binary) < begin + 50 or level(application, hz) < LOUD:
            await asyncio.sleep(0.1)


async def test_a_stream_follows_its_party_out_of_our_application(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    call = await into_the_bridge(target, alice)
    async with target.stream(call, encapsulation="sln") as application:
        await hears_on(application, 500)
        await application.send(pcm(700, 4))
        await sends(alice, 1)
        await leave_for(target, call, "from-internal", "601")
        await hears_anew(application, MILLIWATT_HZ)
        assert level(application, 500) > LOUD
        await sends(alice, 4)
        await alice.hangup()
        assert (await application.closed(), application.close_reason) == (1000, "call ended")
    # What waits continues to play; what was sent in the half second before the move is noticed goes nowhere.
    # Counted in tenths, each of the parts of the tone may fill one more than it lasts.
    assert 3.4 <= heard_s(alice, 700) <= 4.3


async def test_a_stream_follows_its_party_back_into_our_application(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    call = await into_the_bridge(target, alice)
    async with target.stream(call, encapsulation="sln") as application:
        await hears_on(application, 500)
        await leave_for(target, call, "ivr-main", "s")
        await hears_anew(application, 500)
        await alice.dtmf("5")  # the menu leads to the Stasis extension
        await until_in_stasis(target, call, True)
        await sends(alice, 1)
        await hears_anew(application, 500)
        await application.send(pcm(700, 2))
        await sends(alice, 3)
        assert application.close_code is None
    await alice.hangup()
    assert heard_s(alice, 700) == pytest.approx(2.0, abs=0.25)


async def test_an_orphan_made_while_the_bridge_runs_is_swept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchronization, "SWEEP_INTERVAL_S", 0.3)
    async with bridge_for(lab, "sweep") as target:
        await target.ari("POST", "/bridges", bridgeId="not-ours", type="mixing")
        orphan = "ab-sweep-00000000-mix-1"
        for _ in range(2):  # each time, not only the first
            await target.ari("POST", "/bridges", bridgeId=orphan, type="mixing")
            async with asyncio.timeout(PATIENCE_S):
                while orphan in await target.ours_on_the_pbx():
                    await asyncio.sleep(0.05)
        assert "not-ours" in [entry["id"] for entry in await target.ari("GET", "/bridges")]
        await target.ari("DELETE", "/bridges/not-ours")


async def test_a_streams_call_id_follows_a_merge(target: Target, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    older, younger = await into_the_bridge(target, alice), await into_the_bridge(target, bob)
    async with target.stream(younger, encapsulation="sln") as application:
        await application.heard(20)
        await target.ari("POST", "/bridges", bridgeId="meeting", type="mixing")
        await target.ari("POST", "/bridges/meeting/addChannel", channel=older)
        await target.ari("POST", "/bridges/meeting/addChannel", channel=younger)
        async with asyncio.timeout(PATIENCE_S):
            while [s["call_id"] for s in (await target.get("/v1.0/streams"))[1]["result"]] != [older]:
                await asyncio.sleep(0.05)
        (call,) = (await target.get("/v1.0/calls"))[1]["result"]
        assert (call["id"], call["streams"]) == (older, 1)
        await alice.hangup()
        await sends(bob, 0.5)
        assert application.close_code is None, "its own party is still there"
        await bob.hangup()
        assert (await application.closed(), application.close_reason) == (1000, "call ended")
    await target.ari("DELETE", "/bridges/meeting")


async def test_an_application_that_goes_while_a_broken_leg_is_removed_leaves_nothing(
    target: Target, phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert target.bridge is not None
    alice, _ = await phones("1001", "1002")
    await alice.call("1002", play=judge.tone(500, 60, RATE))
    await alice.answered()
    call = (await target.call_from("1001"))["id"]
    delete = target.bridge.client.channels.hangup
    for _ in range(4):
        async with target.stream(call, encapsulation="sln", direction_speak="out") as application:
            await application.heard(10)
            (stream,) = target.bridge.streams
            assert isinstance(stream, Stream)
            link = stream.link
            assert link is not None

            async def hangup(channel_id: str, reason: str | None = None) -> None:
                link.abort(1006, "gone")  # noqa: B023 - called in this very turn
                await delete(channel_id, reason)

            with monkeypatch.context() as patched:
                patched.setattr(target.bridge.client.channels, "hangup", hangup)
                break_legs(target)
                await application.closed()
            await target.nothing_left()
    await alice.hangup()


@pytest.mark.parametrize("number", ["750", "1002"])
async def test_a_caller_who_hangs_up_while_his_stream_opens(target: Target, phones: Phones, number: str) -> None:
    alice, _ = await phones("1001", "1002")
    ends = []
    for delay_ms in range(0, 50, 5):
        await alice.call(number, play=judge.tone(500, 20, RATE))
        await alice.answered()
        call = (await target.call_from("1001"))["id"]
        async with target.stream(call, encapsulation="sln") as application:
            await asyncio.sleep(delay_ms / 1000)  # the test is of each of these moments
            await target.ari("DELETE", f"/channels/{call}")
            ends.append((await application.closed(8), application.close_reason))
        await alice.ended()
    assert set(ends) == {(1000, "call ended")}
    assert len(ends) == 10


async def speaks_and_hears(target: Target, phone: Phone, call: str) -> None:
    """Check a stream on the call in both directions; end the call."""
    async with target.stream(call, encapsulation="sln") as application:
        await hears_on(application, 500)
        await application.send(pcm(700, 2))
        await sends(phone, 2.5)
    await phone.hangup()
    assert heard_s(phone, 700) == pytest.approx(2.0, abs=0.21)


async def test_a_call_that_enters_while_asterisk_hangs_is_held_and_heard_afterwards(
    lab: Lab, phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.ari.rest, "REQUEST_TIMEOUT_S", 1.5)
    (alice,) = await phones("1001")
    async with bridge_for(lab) as target:
        assert target.bridge is not None
        stopped = asyncio.Event()
        with contextlib.ExitStack() as stack:

            def stop(*_: object) -> None:
                if not stopped.is_set():  # before the requests that hold the call are on their way
                    stack.enter_context(hanging(lab))
                    stopped.set()

            forget = target.bridge.client.on_channel_event("StasisStart", stop)
            await alice.call("750", play=judge.tone(500, 60, RATE))
            await asyncio.wait_for(stopped.wait(), PATIENCE_S)
            await asyncio.sleep(4)  # longer than two requests may take
            forget()
        await alice.answered(15)
        await synchronized(target)
        call = (await target.call_from("1001"))["id"]
        await speaks_and_hears(target, alice, call)
        await target.nothing_left()


async def test_a_call_that_enters_while_calls_are_being_adopted_is_held(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with bridge_behind_proxy(lab) as (target, proxy):
        assert target.bridge is not None
        channels, adopt = target.bridge.client.channels, target.bridge.stasis.adopt
        listing, entered = asyncio.Event(), asyncio.Event()
        real_list = channels.list

        async def slow_list() -> object:
            answer = await real_list()
            listing.set()
            await entered.wait()
            return answer

        async def slow_adopt() -> None:
            channels.list = slow_list  # type: ignore[method-assign,assignment]
            try:
                await adopt()
            finally:
                channels.list = real_list  # type: ignore[method-assign]

        target.bridge.stasis.adopt = slow_adopt  # type: ignore[method-assign]
        async with without_ari(target, proxy):
            pass
        await asyncio.wait_for(listing.wait(), PATIENCE_S)
        await alice.call("750", play=judge.tone(500, 60, RATE))
        await alice.answered()
        entered.set()  # now the list without the call is read
        await synchronized(target)
        await speaks_and_hears(target, alice, (await target.call_from("1001"))["id"])


async def test_a_party_that_left_the_application_while_events_were_away(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with bridge_behind_proxy(lab) as (target, proxy):
        call = await into_the_bridge(target, alice)
        async with target.stream(call, encapsulation="sln") as application:
            await application.heard(10)
        async with without_ari(target, proxy):
            leave = {"context": "from-internal", "extension": "601", "priority": "1"}
            await target.ari("POST", f"/channels/{call}/continue", **leave)
            await sends(alice, 0.5)
        await synchronized(target)
        await target.nothing_left()  # not its bridge either: it is held by nobody
        async with target.stream(call, encapsulation="sln") as application:
            await application.heard(60)
            assert level(application, 500) > LOUD
            assert level(application, MILLIWATT_HZ) > LOUD
        await alice.hangup()


async def test_keys_of_many_messages_arrive_in_order(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    call = await into_the_bridge(target, alice)
    keys = "1234567890"
    async with target.stream(call, encapsulation="sln") as application:
        await application.heard(10)
        for key in keys:
            await application.send(json.dumps({"event": "dtmf", "dtmf": {"digits": key}}))
        async with asyncio.timeout(PATIENCE_S):
            while len(keys_of(alice)) < len(keys):
                await asyncio.sleep(0.1)
        await sends(alice, 0.5)
    await alice.hangup()
    assert keys_of(alice) == keys


def keys_of(phone: Phone) -> str:
    """Return the DTMF digits that a phone reported, in the order in which they began."""
    return "".join(event.param for event in phone.events if event.type.endswith("DTMF_START"))


async def test_stopping_while_asterisk_hangs_is_done_before_docker_kills(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    loop = asyncio.get_running_loop()
    async with bridge_for(lab) as target:
        assert target.bridge is not None
        call = await into_the_bridge(target, alice)
        async with (
            target.stream(call, encapsulation="sln") as first,
            target.stream(call, encapsulation="sln", direction_listen="in", direction_speak="in") as second,
        ):
            await asyncio.gather(first.heard(20), second.heard(20))
            with hanging(lab):
                began = loop.time()
                await target.bridge.stop()
                assert loop.time() - began < 8
            assert await first.closed() == await second.closed() == 1012
        assert target.bridge.client._rest._session is None
    async with bridge_for(lab) as target:  # sweeps what had to stay
        await alice.hangup()
        await target.nothing_left()


async def test_a_bridge_that_has_stopped_leaves_no_task_and_no_socket(lab: Lab, phones: Phones) -> None:
    alice, _ = await phones("1001", "1002")
    tasks, sockets = sorted(our_tasks()), open_sockets()
    async with bridge_for(lab) as target:
        await alice.call("1002", play=judge.tone(500, 20, RATE))
        await alice.answered()
        call = (await target.call_from("1001"))["id"]
        async with target.stream(call, encapsulation="sln") as application:
            await application.heard(20)
        async with target.stream(call, encapsulation="sln") as application:
            await application.heard(20)
            assert target.bridge is not None
            await target.bridge.stop()
            assert await application.closed() == 1012
    await alice.hangup()
    async with asyncio.timeout(PATIENCE_S):
        while sorted(our_tasks()) != tasks or open_sockets() - sockets:
            await asyncio.sleep(0.05)
