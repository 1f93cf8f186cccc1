"""An agent made for Twilio (`tests.agents.webhook`), the bridge that gives it calls, and what phones hear of it."""

from __future__ import annotations

import contextlib
import io
import json
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import Samples
from bridge.testing.phone import RATE, Phone
from tests.agents import environment
from tests.lab.conftest import pushing
from tests.lab.target import Target
from tests.lab.waiting import until

ACCOUNT = {"account_sid": "AC" + "7" * 32, "auth_token": "a-token-for-the-tests", "originate": True}
HZ = {"menu": 600, "chosen": 800, "redirected": 1300, "stream": 1500, "bye": 1700, "alice": 500, "bob": 1000}
"""What each document plays (`tests.agents.webhook`), and what each phone sends."""
LOUD = 3000


@dataclass
class Agent:
    """The agent, and the bridge that gives it calls."""

    target: Target
    log: Path
    url: str

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Return what the agent has printed of a kind."""
        found = [line.removeprefix(f"{kind} ") for line in self.log.read_text().splitlines() if line.startswith(kind)]
        return [json.loads(line) for line in found]

    def requests(self, path: str) -> list[dict[str, str]]:
        """Return the parameters of the requests to a path, all of which the vendor's validator has accepted."""
        found = [line for line in self.lines("REQUEST") if line["path"] == path]
        assert all(line["valid"] for line in found), found
        return [line["form"] for line in found]

    async def do(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Have the agent use the vendor's client."""
        body = {"what": what, "arguments": arguments}
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}/do", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())


@contextlib.asynccontextmanager
async def running(target: Target, port: int) -> AsyncIterator[Agent]:
    """Run the agent of a bridge at a port."""
    environ = {
        "BRIDGE_URL": target.url,
        "TWILIO_ACCOUNT_SID": str(ACCOUNT["account_sid"]),
        "TWILIO_AUTH_TOKEN": str(ACCOUNT["auth_token"]),
    }
    async with environment.running("webhook", environ, port=port) as log:
        yield Agent(target, log, f"http://localhost:{port}")


@contextlib.asynccontextmanager
async def agent(lab: Lab, then: str = "hangup", path: str = "menu", **route: Any) -> AsyncIterator[Agent]:
    """Run an agent, and a bridge that gives it the calls to 750."""
    port = environment.agent_port()
    url = f"http://localhost:{port}"
    table = {"id": "agent", "match": "750", "twiml_url": f"{url}/voice/{path}", "then": then, **route}
    table.setdefault("status_callback", f"{url}/status")
    twilio = ACCOUNT | {"public_url": "http://bridge.example"}
    async with pushing(lab, dialplan=[table], twilio=twilio) as target, running(target, port) as made:
        yield made


def tone(name: str) -> Samples:
    """Return what a phone sends, or a document plays."""
    return judge.tone(HZ[name], 60, RATE)


def heard(samples: Samples) -> set[str]:
    """Return whose tones there are in the last 0.3 s."""
    last = samples[-RATE * 3 // 10 :]
    return {name for name, hz in HZ.items() if len(last) and judge.level_of(last, hz, RATE) > LOUD}


async def hears(phone: Phone, *names: str) -> None:
    """Wait until a phone receives exactly these tones."""
    await until(lambda: heard(phone.heard_so_far()) == set(names))


def all_heard(samples: Samples) -> set[str]:
    """Return whose tones there are anywhere."""
    blocks = {name: judge.block_levels(samples, RATE, hz) for name, hz in HZ.items()}
    return {name for name, levels in blocks.items() if (levels > LOUD).sum() * judge.BLOCK_S > 0.3}


async def download(target: Target, path: str) -> Samples:
    """Return a recording, by the account's credential."""
    login = aiohttp.encode_basic_auth(str(ACCOUNT["account_sid"]), str(ACCOUNT["auth_token"]))
    async with (
        aiohttp.ClientSession(headers={"Authorization": login}) as session,
        session.get(target.url + path) as answer,
    ):
        assert answer.status == 200, await answer.text()
        with wave.open(io.BytesIO(await answer.read())) as file:
            return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
