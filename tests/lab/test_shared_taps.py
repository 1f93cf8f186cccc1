"""What is on the PBX for a stream: the fewest channels that serve it, shared where several want the same."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from bridge.app.application import Application
from bridge.calls.ids import OwnIds
from bridge.config.calling import CallingConfig
from bridge.testing import judge, modem
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import Samples, samples_of
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones, configuration, pushing, synchronized
from tests.lab.encapsulations import text_of
from tests.lab.parties import CALLEE_HZ, CALLER_HZ, FAINT, LOUD, RATE, heard, talk
from tests.lab.sink import Received, Sink, open_sink, tone_share
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends

TONES = {"1001": CALLER_HZ, "1002": CALLEE_HZ, "1003": 700}
ALONE = {"Snoop": 1}
"""A tap whose snoop channel goes to the bridge by itself."""
WITH_MEDIA = {"Snoop": 1, "AudioSocket": 1, "bridge": 1}
"""One with an external media channel behind it."""


async def made(target: Target) -> Counter[str]:
    """Return the bridge's objects on the PBX by kind: channels by technology, and bridges."""
    ours = [c for c in await target.ari("GET", "/channels") if c["id"].startswith("ab-")]
    bridges = [b for b in await target.ari("GET", "/bridges") if b["id"].startswith("ab-")]
    return Counter([c["name"].partition("/")[0] for c in ours] + ["bridge"] * len(bridges))


def times(count: int, tap: dict[str, int]) -> Counter[str]:
    """Return the objects of ``count`` taps of a kind."""
    return Counter({kind: number * count for kind, number in tap.items()})


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> float:
    """Wait; return how long it took."""
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.01)
    return time.monotonic() - began


def samples(frames: list[bytes]) -> Samples:
    return samples_of(b"".join(frames))


def subscription(name: str, sink: Sink, **options: Any) -> dict[str, Any]:
    return {"id": name, "url": sink.url, "dialect": "yeastar", "extensions": ["1001"]} | options


@contextlib.asynccontextmanager
async def two_subscriptions(lab: Lab, sink: Sink) -> AsyncIterator[Target]:
    """Run a bridge with two subscriptions to the same calls."""
    async with pushing(lab, subscriptions=[subscription("one", sink), subscription("two", sink)]) as target:
        yield target


async def call(phones: Phones, seconds: float = 60) -> tuple[Phone, Phone]:
    """Have 1001 call 1002; each sends its tone."""
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.tone(CALLEE_HZ, seconds, RATE))
    await alice.call("1002", play=judge.tone(CALLER_HZ, seconds, RATE))
    await alice.answered()
    return alice, bob


def check_parties(received: Received, endpoints: dict[str, int], rate: int = RATE) -> None:
    """Require each party's tone on its own track, whole, and no other."""
    channels = {m["channelid"].removeprefix("PJSIP/").rpartition("-")[0]: m["channelid"] for m in received.messages}
    assert set(channels) == set(endpoints)
    for endpoint, hz in endpoints.items():
        said = received.yeastar(channels[endpoint])
        assert tone_share(said, rate, hz) > 0.7, endpoint
        assert all(tone_share(said, rate, other) == 0 for other in TONES.values() if other != hz), endpoint


async def test_a_track_is_one_channel_and_three_streams_that_want_the_same_share_it(
    target: Target, phones: Phones
) -> None:
    alice, _, ids = await talk(target, phones)
    hear = {"encapsulation": "sln", "direction_listen": "in", "direction_speak": "none"}
    async with target.stream(ids["call"], **hear) as one:
        await one.heard(50)
        assert await made(target) == times(1, ALONE)
        async with target.stream(ids["call"], **hear) as two, target.stream(ids["1001"], **hear) as three:
            await asyncio.gather(two.heard(75), three.heard(75))
            assert await made(target) == times(1, ALONE)
            first, others = one.binary[-50:], (two.binary[-50:], three.binary[-50:])
            async with target.stream(ids["1002"], **hear) as other_party:
                await other_party.heard(50)
                assert await made(target) == times(2, ALONE)
                assert heard(other_party, CALLEE_HZ, 0.8) > LOUD
                assert heard(other_party, CALLER_HZ, 0.8) < FAINT
            for application in (one, two, three):
                assert heard(application, CALLER_HZ) > LOUD
                assert heard(application, CALLEE_HZ) < FAINT
            assert all(b"".join(first[10:40]) in b"".join(other) for other in others), "not the same audio"
        before = len(one.binary)
        await one.heard(before + 50)  # it continues when the others have gone
        assert await made(target) == times(1, ALONE)
    await until(lambda: none_made(target))
    await alice.hangup()


async def none_made(target: Target) -> bool:
    return not await made(target)


async def test_what_served_a_stream_is_gone_when_it_ends(target: Target, phones: Phones) -> None:
    alice, _, ids = await talk(target, phones)
    took = []
    for speak in ("none", "out", "both") * 3:
        async with target.stream(ids["call"], encapsulation="sln", direction_speak=speak) as application:
            await application.heard(10)
            assert await made(target) == times(2 if speak == "both" else 1, ALONE)
        took.append(await until(lambda: none_made(target)))
    await alice.hangup()
    assert sorted(took)[len(took) // 2] < 0.2, took


async def test_who_joins_and_leaves_does_not_disturb_who_listens(target: Target, phones: Phones) -> None:
    alice, _, ids = await talk(target, phones)
    hear = {"encapsulation": "sln", "direction_listen": "in", "direction_speak": "none"}
    async with target.stream(ids["call"], **hear) as steady:
        await steady.heard(25)
        for _ in range(10):
            async with target.stream(ids["call"], **hear) as passing:
                await passing.heard(10)
        frames = len(steady.binary)
        whole = samples(steady.binary[25:frames])
        assert await made(target) == times(1, ALONE)
    await alice.hangup()
    holes = judge.dropouts(whole, RATE, CALLER_HZ)
    assert len(holes) < 5, holes  # ten came and went; an Asterisk that is short of CPU may lose a frame by itself


async def test_one_that_speaks_has_a_channel_of_its_own_and_data_gets_through_both_ways(
    target: Target, phones: Phones
) -> None:
    """Through the dialplan's entry. An Asterisk that is short of CPU loses frames of snoops: it has four tries."""
    down, up = text_of(6, 3), text_of(6, 4)
    for _ in range(4):
        heard_by_applications, heard_by_phone = await exchange(target, phones, down, up)
        assert len(set(heard_by_applications[1:])) == 1, "who shares does not hear the same"
        if (heard_by_applications, heard_by_phone) == ([up, up, up], down):
            return
    assert (heard_by_applications, heard_by_phone) == ([up, up, up], down)


async def exchange(target: Target, phones: Phones, down: str, up: str) -> tuple[list[str], str]:
    """Make a call with a stream that sends audio and two that listen; return what they, and the phone, received."""
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.silence(1, RATE))
    await alice.call("1002", play=modem.modulate(up, RATE, lead_s=3))
    await alice.answered()
    call = await target.call_from("1001")
    hear = {"encapsulation": "sln", "direction_listen": "in", "direction_speak": "none"}
    async with (
        target.stream(call["id"], encapsulation="sln", direction_listen="in", direction_speak="out") as speaks,
        target.stream(call["id"], **hear) as one,
        target.stream(call["id"], **hear) as two,
    ):
        await asyncio.gather(*(application.heard(10) for application in (speaks, one, two)))
        assert await made(target) == times(2, ALONE)
        await speaks.send(modem.modulate(down, RATE, lead_s=0.5).astype("<i2").tobytes())
        await sends(alice, 10)
        received = [samples(application.binary) for application in (speaks, one, two)]
    await alice.hangup()
    await bob.ended()
    return [modem.demodulate(each, RATE) for each in received], modem.demodulate(alice.recording(), RATE)


async def test_a_client_shares_with_subscriptions_and_each_rate_has_its_own(lab: Lab, phones: Phones) -> None:
    async with open_sink() as sink, open_sink() as wide:
        subscriptions = [
            subscription("one", sink),
            subscription("two", sink),
            subscription("three", sink),
            subscription("wide", wide, sample_rate=16000),
        ]
        async with pushing(lab, subscriptions=subscriptions) as target:
            alice, _ = await call(phones)
            await sink.connected(3)
            await wide.connected(1)
            ids = await target.call_from("1001")
            hear = {"encapsulation": "sln", "direction_listen": "in", "direction_speak": "none"}
            async with target.stream(ids["id"], **hear) as client:
                await client.heard(100)
                # Two tracks at 8 kHz, each with a channel for all; two at 16 kHz, which the entry cannot serve.
                assert await made(target) == times(2, ALONE) + times(2, WITH_MEDIA)
                assert heard(client, CALLER_HZ) > LOUD
                assert heard(client, CALLEE_HZ) < FAINT
            await alice.hangup()
            for connection in (*sink.connections, *wide.connections):
                await asyncio.wait_for(connection.ended.wait(), PATIENCE_S)
        for received in sink.connections:
            check_parties(received, {"1001": CALLER_HZ, "1002": CALLEE_HZ})
        check_parties(wide.connections[0], {"1001": CALLER_HZ, "1002": CALLEE_HZ}, 16000)


async def test_without_the_entry_it_is_external_media_and_the_log_says_once_what_is_missing(
    lab: Lab, phones: Phones, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_sink() as sink:
        subscriptions = [subscription("one", sink), subscription("two", sink)]
        calling = CallingConfig(context="no-such-context").model_dump()
        with caplog.at_level(logging.WARNING, "bridge.taps.dialplan_entry"):
            async with pushing(lab, subscriptions=subscriptions, calling=calling) as target:
                for turn in (1, 2):
                    alice, _ = await call(phones)
                    await sink.connected(2 * turn)
                    await sends(alice, 2)
                    assert await made(target) == times(2, WITH_MEDIA)
                    await alice.hangup()
                    for connection in sink.connections:
                        await asyncio.wait_for(connection.ended.wait(), PATIENCE_S)
    for received in sink.connections:
        check_parties(received, {"1001": CALLER_HZ, "1002": CALLEE_HZ})
    lines = [record.getMessage() for record in caplog.records if record.name == "bridge.taps.dialplan_entry"]
    assert [line for line in lines if "no-such-context" in line and "extensions.conf" in line] == lines[:1]
    assert lines[1:] == [
        "[no-such-context]",
        "exten => audiosocket,1,Answer()",
        " same => n,AudioSocket(${MEDIA_LEG_UUID},${MEDIA_LEG_ADDRESS})",
        " same => n,Hangup()",
    ]


async def test_a_hang_up_leaves_nothing(lab: Lab, phones: Phones) -> None:
    async with open_sink() as sink, two_subscriptions(lab, sink) as target:
        alice, _ = await call(phones)
        await sink.connected(2)
        await sends(alice, 1)
        assert await made(target) == times(2, ALONE)
        await alice.hangup()
        await until(lambda: none_made(target), 1.0)


async def test_a_transferred_call_is_heard_on_and_what_served_who_left_goes(lab: Lab, phones: Phones) -> None:
    async with open_sink() as sink, two_subscriptions(lab, sink) as target:
        alice, bob, carol = await phones("1001", "1002", "1003")
        bob.play_next(judge.tone(CALLEE_HZ, 60, RATE))
        carol.play_next(judge.tone(TONES["1003"], 60, RATE))
        await alice.call("1002", play=judge.tone(CALLER_HZ, 60, RATE))
        await alice.answered()
        await sink.connected(2)
        await sends(alice, 2)
        await bob.command("transfer", f"sip:1003@{lab.phone('1002')._place.domain}")
        await bob.ended()
        await carol.answered()
        await sends(alice, 2)
        assert await made(target) == times(2, ALONE)
        await alice.hangup()
        await until(lambda: none_made(target), 1.0)
        for connection in sink.connections:
            await asyncio.wait_for(connection.ended.wait(), PATIENCE_S)
    endpoints = {"1001": CALLER_HZ, "1002": CALLEE_HZ, "1003": TONES["1003"]}
    by_call = Received.together(sink.connections)
    heard_of = {m["channelid"].removeprefix("PJSIP/").rpartition("-")[0] for m in by_call.messages}
    assert heard_of == set(endpoints)


async def test_a_call_in_the_application_is_heard_by_who_says_nothing(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.tone(CALLER_HZ, 30, RATE))
    await alice.answered()
    call = await target.call_from("1001")
    before = await made(target)
    hear = {"encapsulation": "sln", "direction_speak": "none"}
    async with (
        target.stream(call["id"], direction_listen="in", **hear) as says,
        target.stream(call["id"], direction_listen="both", **hear) as mix,
    ):
        await asyncio.gather(says.heard(100), mix.heard(75))
        assert await made(target) - before == times(1, ALONE) + Counter({"AudioSocket": 1})
        assert min(heard(says, CALLER_HZ), heard(mix, CALLER_HZ)) > LOUD
    await alice.hangup()


async def test_a_channel_that_breaks_is_opened_again_once_for_all(target: Target, phones: Phones) -> None:
    alice, _, ids = await talk(target, phones)
    hear = {"encapsulation": "sln", "direction_listen": "in", "direction_speak": "none"}
    async with target.stream(ids["call"], **hear) as one, target.stream(ids["call"], **hear) as two:
        await asyncio.gather(one.heard(25), two.heard(25))
        (broken,) = await target.ours_on_the_pbx()
        await target.ari("DELETE", f"/channels/{broken}")
        before = len(one.binary), len(two.binary)
        await asyncio.gather(one.heard(before[0] + 100), two.heard(before[1] + 100))
        (again,) = await target.ours_on_the_pbx()
        assert again != broken
        assert min(heard(one, CALLER_HZ), heard(two, CALLER_HZ)) > LOUD
    await alice.hangup()


async def test_what_an_earlier_life_left_in_the_dialplan_is_swept(lab: Lab, phones: Phones) -> None:
    """A snoop channel that has left our application is found by its id."""
    alice, _ = await call(phones)
    # Held by a listener that stays: as if the bridge had died and its kernel had not notified Asterisk yet.
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: keep_speaking(writer, connections), "127.0.0.1", 0)
    async with server:
        async with Application(configuration(lab)) as bridge:
            target = Target(lab, f"http://127.0.0.1:{bridge.http_port}", None, bridge)
            await synchronized(target)
            party = (await target.call_from("1001"))["id"]
            orphan = OwnIds(lab.ari_app).new("snoop")
            await target.ari("POST", f"/channels/{party}/snoop", app=lab.ari_app, snoopId=orphan, spy="in")
            names = {"MEDIA_LEG_UUID": "0d6b6aee-3f0c-4c6a-a54e-4e3b55b5a5a5"}
            names["MEDIA_LEG_ADDRESS"] = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await until(lambda: is_in_stasis(target, orphan))
            for name, value in names.items():
                await target.ari("POST", f"/channels/{orphan}/variable", variable=name, value=value)
            entry = {"context": "media-tap", "extension": "audiosocket", "priority": "1"}
            await target.ari("POST", f"/channels/{orphan}/continue", **entry)
            await until(lambda: is_connected(connections))
        assert orphan in await target.ours_on_the_pbx()
        async with pushing(lab) as target:
            await until(lambda: none_made(target))
            assert alice.in_call
    await alice.hangup()


async def is_in_stasis(target: Target, channel_id: str) -> bool:
    """Return whether a channel accepts requests: Asterisk reports a snoop before it is in the application."""
    try:
        await target.ari("POST", f"/channels/{channel_id}/variable", variable="IN_STASIS", value="yes")
    except AssertionError as refused:
        if "Channel not in Stasis" in str(refused):
            return False
        raise
    return True


async def is_connected(connections: list[asyncio.StreamWriter]) -> bool:
    return bool(connections)


async def keep_speaking(writer: asyncio.StreamWriter, connections: list[asyncio.StreamWriter]) -> None:
    """Silence every 20 ms until the other side goes."""
    connections.append(writer)
    try:
        while not writer.is_closing():
            writer.write(b"\x10\x01\x40" + bytes(320))
            await writer.drain()
            await asyncio.sleep(0.02)
    except ConnectionError:
        pass
    finally:
        writer.close()
