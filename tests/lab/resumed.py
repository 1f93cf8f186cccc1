"""Phones and applications of calls that survive their process: what each of them has to hear again."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from bridge.testing import judge
from bridge.testing.phone import Phone, PhoneError, Samples
from tests.lab.conftest import Phones
from tests.lab.restarting import Service
from tests.lab.sink import Received
from tests.lab.waiting import WAV_HEADER_BYTES, until

RATE = 8000
BACK_S = 10.0
"""Time within which calls have everything back after a kill, the start of the process included."""
TONES = {"1001": 500, "1002": 700, "1003": 900}


def heard(phone: Phone) -> Samples:
    """Return what the phone has received in its call so far."""
    try:
        whole = phone.recording_path().read_bytes()
    except PhoneError:  # there is no file yet
        whole = b""
    sound = whole[WAV_HEADER_BYTES:]  # the header gets the length when the call has ended
    return np.frombuffer(sound[: len(sound) // 2 * 2], "<i2").astype(np.int16)


async def hears(phone: Phone, hz: float, timeout_s: float = 30) -> None:
    """Wait until the phone hears a tone in what it gets from now on."""
    begin = len(heard(phone))

    def now() -> bool:
        new = heard(phone)[begin:]
        return len(new) >= RATE // 2 and judge.level_of(new[-RATE // 2 :], hz, RATE) > 1000

    await until(now, timeout_s)


async def killed_and_started(service: Service) -> float:
    """Kill the process and start it again; return how many seconds it did not run."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await service.die()
    await service.start()
    return loop.time() - began


async def streamed(received: Received, hz: float) -> None:
    """Wait until an application gets a tone."""
    await until(lambda: judge.level_of(received.twilio()[-4000:], hz, RATE) > 1000)


async def ready(phones: Phones, *names: str) -> list[Phone]:
    """Phones that send a tone each, as callers and as callees."""
    found = await phones(*names)
    for phone in found:
        phone.play_next(judge.tone(TONES[phone.name], 90, RATE))
    return found


def extension(number: str) -> dict[str, str]:
    return {"type": "extension", "target": number}


async def originate(service: Service, number: str, **body: Any) -> dict[str, Any]:
    status, answer = await service.request("POST", "/v1.0/calls", {"destinations": [extension(number)], **body})
    assert status == 200, answer
    call: dict[str, Any] = answer["calls"][0]
    return call
