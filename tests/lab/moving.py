"""Calls whose parties move: transfers in each way that phones support, and who is heard afterwards."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from bridge.testing import judge, peer
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import RATE, Phone, PhoneError, Samples
from tests.lab.conftest import pushing
from tests.lab.desk_phone import DeskPhone, desk_phone
from tests.lab.sink import Received, Sink, open_sink
from tests.lab.target import Target
from tests.lab.waiting import until

HZ = {"1001": 500, "1002": 700, "1003": 900, "desk": 1100, "agent": 1500}
"""Each party's tone, and the agent's."""
WAV_HEADER_BYTES = 44
HEARD = 4000
ACCOUNT = {"account_sid": "AC" + "7" * 32, "auth_token": "a-token-for-the-tests"}


def tone(name: str, seconds: float = 60) -> Samples:
    """Return a party's tone."""
    return judge.tone(HZ[name], seconds, RATE)


def so_far(phone: Phone) -> Samples:
    """Return what a phone has received in a call that is still up."""
    with contextlib.suppress(PhoneError):
        data = phone.recording_path().read_bytes()[WAV_HEADER_BYTES:]
        return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.int16)
    return np.zeros(0, np.int16)


def voices(samples: Samples, seconds: float = 0.6) -> set[str]:
    """Return whose tones the end of a recording holds."""
    last = samples[-int(seconds * RATE) :]
    if len(last) < int(seconds * RATE):
        return set()
    return {name for name, hz in HZ.items() if judge.level_of(last, hz, RATE) > HEARD}


async def hears(samples: Callable[[], Samples], *names: str) -> None:
    """Wait until somebody receives exactly these."""
    try:
        await until(lambda: voices(samples()) == set(names))
    except AssertionError:
        received = samples()
        raise AssertionError(f"{set(names)} expected, {voices(received)} heard in {len(received) / RATE} s") from None


async def speak(agent: Received, seconds: float = 60) -> None:
    """Have an agent send its tone."""
    payload = base64.b64encode(peer.ulaw_bytes(tone("agent", seconds))).decode()
    await agent.send(event="media", media={"payload": payload})


@contextlib.asynccontextmanager
async def agent(lab: Lab, then: str = "hangup", **sections: Any) -> AsyncIterator[tuple[Target, Sink]]:
    """Run a bridge that connects calls to 750 with an agent."""
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": then}
        async with pushing(lab, dialplan=[route], twilio=ACCOUNT, **sections) as target:
            yield target, sink


@contextlib.asynccontextmanager
async def desk(lab: Lab) -> AsyncIterator[DeskPhone]:
    """Run the desk phone 1004."""
    assert isinstance(lab, EmbeddedLab)
    async with desk_phone(lab) as phone:
        yield phone


async def consult(phone: Phone, number: str, reached: Callable[[], object]) -> None:
    """Have a phone call somebody else by feature code while the other one waits, until that one is reached."""
    before = len(so_far(phone))
    await phone.dtmf("*2")
    await until(lambda: len(so_far(phone)) > before + 2 * RATE)  # the prompt then lasts for a second
    await phone.dtmf(number, gap_s=0.2)
    await until(reached)
