"""Streams that begin and end for parties that send no audio leave nothing on the PBX that grows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from bridge.ari.client import AriClient
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones
from tests.lab.target import Target
from tests.lab.waiting import sends, until
from tests.load.phones import Phones as FarEnds

RATE = 8000
WAYS = ({"direction_listen": "in"}, {"direction_listen": "out"}, {"direction_listen": "in", "direction_speak": "out"})
PARTIES = ("silent-1", "silent-2")


@contextlib.asynccontextmanager
async def silent_call(target: Target, lab: Lab) -> AsyncIterator[None]:
    """Two parties in a bridge of another application, neither of which sends a packet."""
    loop = asyncio.get_running_loop()
    transport, far = await loop.create_datagram_endpoint(lambda: FarEnds(speaking=False), local_addr=("127.0.0.1", 0))
    endpoint = f"PJSIP/trunk-a/sip:x@127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    async with AriClient(lab.ari_url, lab.ari_user, lab.ari_password, "another") as client:
        for name in PARTIES:
            with client.expect("StasisStart", name) as started:
                await target.ari("POST", "/channels", endpoint=endpoint, app="another", channelId=name)
                await started.wait(10)
        await target.ari("POST", "/bridges/silent", type="mixing")
        await target.ari("POST", "/bridges/silent/addChannel", channel=",".join(PARTIES))
        await until(lambda: known(target))
        try:
            yield
        finally:
            for name in PARTIES:
                await target.ari("DELETE", f"/channels/{name}")
            await target.ari("DELETE", "/bridges/silent")
            far.close()


async def known(target: Target) -> bool:
    status, _ = await target.get(f"/v1.0/calls/{PARTIES[0]}")
    return status == 200


async def are_few(target: Target) -> bool:
    """Return whether there is no more on the PBX than one snoop for each use."""
    return len(await target.ours_on_the_pbx()) <= len(WAYS)


async def test_two_parties_without_audio_keep_one_snoop_for_each_use(target: Target, lab: Lab) -> None:
    async with silent_call(target, lab):
        for _ in range(4):
            for way in WAYS:
                options = {"encapsulation": "sln", "direction_speak": "none"} | way
                async with target.stream(PARTIES[0], **options) as application:
                    await application.heard(10)
            await until(lambda: are_few(target))
    await target.nothing_left()


async def test_a_muted_phone_whose_partner_speaks_leaves_nothing_within_two_seconds(
    target: Target, phones: Phones
) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.tone(700, 60, RATE))
    await alice.call("1002", play=judge.silence(60, RATE))
    await alice.answered()
    await alice.command("mute")
    await sends(bob, 0.5)
    call = await target.call_from("1001")
    for way in WAYS:
        options = {"encapsulation": "sln", "direction_speak": "none"} | way
        async with target.stream(call["id"], **options) as application:
            await application.heard(10)
        closed = time.monotonic()
        await until(lambda: none_of_ours(target))
        assert time.monotonic() - closed < 2
    await alice.hangup()


async def none_of_ours(target: Target) -> bool:
    return not await target.ours_on_the_pbx()
