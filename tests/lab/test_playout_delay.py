"""How late the audio of live applications is when phones receive it."""

from __future__ import annotations

import asyncio
import os
import random

from bridge.testing.lab_engine import Lab
from tests.lab.audio_phone import RATE, audio_phones
from tests.lab.exact import noise
from tests.lab.playout_delay import Packets, Received, Sender
from tests.lab.target import Target

SECONDS = float(os.environ.get("PLAYOUT_SECONDS", "9"))
"""How long each application sends, unless a test needs longer. docs/decisions/playout.md names a run of ten minutes."""


async def received(lab: Lab, target: Target, senders: list[Sender], seconds: float = SECONDS) -> list[Received]:
    """Send to one phone each, at the same time."""
    audio = noise(seconds, RATE)
    for sender in senders:
        sender.prepare(audio)
    numbers = ("1001", "1002", "1003", "1004")[: len(senders)]
    async with audio_phones(lab, [(number, 1000) for number in numbers]) as phones:
        packets = [Packets(phone) for phone in phones]

        async def send(number: str, sender: Sender) -> None:
            call = (await target.call_from(number))["id"]
            async with target.stream(call, encapsulation="sln") as application:
                await application.heard(25)
                await asyncio.sleep(random.uniform(0, 0.02))  # a random phase of the tick
                await sender.send(application)
                await asyncio.sleep(1 + sender.stall_s)  # what is queued is played

        for phone in phones:
            await phone.dial("750")
        async with asyncio.TaskGroup() as sending:
            for number, sender in zip(numbers, senders, strict=True):
                sending.create_task(send(number, sender))
        return [each.compare(sender) for each, sender in zip(packets, senders, strict=True)]


async def test_a_punctual_application_waits_less_than_a_lead_of_60_ms(lab: Lab, target: Target) -> None:
    results = await received(lab, target, [Sender() for _ in range(4)])
    for each in results:
        print("20 ms, on time:   ", each)
    # The rest depends on the machine: bridge, applications and phones share a process here.
    assert min(each.quick_ms for each in results) < 35
    assert all(len(each.delays_ms) > 0.9 * each.frames for each in results)


async def test_after_a_stall_the_delay_becomes_normal_again(lab: Lab, target: Target) -> None:
    """Noise cannot be compressed: only its pauses become shorter. The senders stall once they are known to be live."""
    senders = [Sender(stall_s=1.0, pause_s=0.6) for _ in range(2)]
    results = await received(lab, target, senders, seconds=max(SECONDS, 13.0))
    for each in results:
        print("stall of 1 s:     ", each)
    assert min(each.last_second_ms for each in results) < 300
    assert min(each.largest_ms for each in results) > 500


async def test_uneven_and_coarse_applications_are_heard_completely(lab: Lab, target: Target) -> None:
    draw = random.Random(1)
    senders = {
        "20 ms, sigma 25 ms": Sender(late_s=lambda: abs(draw.gauss(0, 0.025))),
        "40 ms": Sender(2),
        "60 ms": Sender(3),
        "100 ms": Sender(5),
    }
    results = await received(lab, target, list(senders.values()))
    for name, each in zip(senders, results, strict=True):
        print(f"{name:18}", each)
    assert all(len(each.delays_ms) > 0.9 * each.frames for each in results)
