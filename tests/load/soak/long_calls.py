"""Calls that stay up for the whole soak, each way of each judged frame by frame.

- *agent*: an originated call whose flow streams to an application, which listens and speaks, as a voice agent.
- *observed*: two parties in a Dial() bridge, and for each a stream that listens in. What they receive of each other
  passes Asterisk only: what is lost there is not lost by asterisk-bridge.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.errors import BridgeError
from bridge.tasks import BackgroundTasks
from bridge.testing.bridge_program import BridgeProgram
from bridge.testing.lab_engine import Lab
from tests.lab import ari_requests
from tests.load.soak.ears import FRAME_S, Ear, Encoding, Fault, Noise
from tests.load.soak.far_end import LONG

AHEAD_FRAMES = 50
"""An application sends a second ahead: how busy its own process is cannot tear what is heard."""
MESSAGE_FRAMES = 10
START_S = 60.0
SETTLE_S = 3.0
"""What the start of a call or stream interrupts in Asterisk is over by then."""


class SoakFailed(BridgeError):
    """The soak could not run; the message gives the reason."""


class LongCalls:
    """The calls, and the application that they are streamed to.

    Args:
        lab: its Asterisk.
    """

    program: BridgeProgram
    """The asterisk-bridge under test; its configuration holds `url`."""

    def __init__(self, lab: Lab) -> None:
        self.ears: list[Ear] = []
        self.faults: list[Fault] = []
        self.url = ""
        """Of the application; below ``short/`` it discards what it receives."""
        self.connections = 0
        """How many streams have reached the application."""
        self._lab = lab
        self._noises: dict[str, Noise] = {}
        self._ears: dict[str, Ear] = {}
        """By what they belong to: a party's number, ``/`` and the number for an application."""
        self._ends: list[tuple[str, str]] = []
        """Kind and id of each call."""
        self._arrived: dict[str, asyncio.Event] = {}
        self._tasks = BackgroundTasks("long calls")
        self._ending = False

    def of(self, number: str) -> tuple[Noise, Ear | None]:
        """Return what the party of a number sends, and what judges what it receives."""
        return self._noises[number], self._ears.get(number)

    async def open(self, host: str) -> None:
        """Listen as the application."""
        self._server = await serve(self._serve, host, 0, compression=None, max_queue=64)
        self.url = f"ws://{host}:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def start(self, count: int) -> None:
        """Make calls, agents and observed ones in turn; return when all are judged.

        Raises:
            SoakFailed: asterisk-bridge rejected a call.
        """
        for index in range(count):
            await (self._observe(index) if index % 2 else self._agent(index))
        await asyncio.sleep(SETTLE_S)
        for ear in self.ears:
            ear.judging = True
        async with asyncio.timeout(START_S):
            while any(ear.began is None for ear in self.ears):
                await asyncio.sleep(0.1)

    def stop_judging(self) -> None:
        """Ignore what is received from now on."""
        self._ending = True
        for ear in self.ears:
            ear.judging = False

    async def end(self) -> None:
        """Hang up every call, and stop listening."""
        self.stop_judging()
        for kind, name in self._ends:
            if kind == "agent":
                await self.program.request("POST", f"/v1.0/calls/{name}/hangup")
            else:
                with contextlib.suppress(AssertionError):  # it has ended
                    await self.ari("DELETE", f"/channels/{name}")

    async def close(self) -> None:
        """End the application."""
        self._ending = True
        await self._tasks.stop()
        self._server.close()
        await self._server.wait_closed()

    async def ari(self, method: str, path: str, **query: str) -> Any:
        """Send a request to Asterisk, past asterisk-bridge."""
        return await ari_requests.send(self._lab, method, path, **query)

    def _ear(self, key: str, name: str, noise: Noise, encoding: Encoding, *, through_snoop: bool = False) -> None:
        ear = Ear(
            name,
            noise,
            encoding,
            through_snoop=through_snoop,
            others=lambda: list(self._noises.values()),
            clock=time.monotonic,
            report=self.faults.append,
        )
        self._ears[key] = ear
        self.ears.append(ear)

    async def _agent(self, index: int) -> None:
        number = f"{LONG}{index:03}"
        party, application = Noise(4 * index + 1), Noise(4 * index + 2)
        self._noises |= {number: party, f"/{number}": application}
        self._ear(number, f"agent {index} to party", application, "ulaw")
        self._ear(f"/{number}", f"agent {index} to application", party, "slin")
        arrived = self._arrived[f"/{number}"] = asyncio.Event()
        stream = {
            "url": f"{self.url}/{number}",
            "encapsulation": "sln",
            "direction_listen": "both",
            "direction_speak": "both",
        }
        status, answer = await self.program.request(
            "POST",
            "/v1.0/calls",
            {
                "source": {"type": "tel", "target": "4711"},
                "destinations": [{"type": "tel", "target": number}],
                "actions": [{"type": "external_media_start", "option": stream}],
            },
        )
        if status != 200:
            raise SoakFailed(f"call not created: {status} {answer}")
        self._ends.append(("agent", answer["calls"][0]["id"]))
        async with asyncio.timeout(START_S):
            await arrived.wait()

    async def _observe(self, index: int) -> None:
        numbers = [f"{LONG}{index:03}", f"{LONG}{index + 500:03}"]
        noises = [Noise(4 * index + 1), Noise(4 * index + 2)]
        for way, (number, noise, other) in enumerate(zip(numbers, noises, reversed(noises), strict=True)):
            self._noises[number] = noise
            self._ear(number, f"observed {index}, Asterisk to party {way}", other, "ulaw")
            self._ear(f"/{number}", f"observed {index}, party {way} to application", noise, "slin", through_snoop=True)
        channel = f"soak-{index:03}"
        await self.ari(
            "POST",
            "/channels",
            endpoint=f"PJSIP/{numbers[0]}@trunk-a",
            channelId=channel,
            context="from-internal",
            extension=f"9{numbers[1]}",
            priority="1",
        )
        self._ends.append(("observed", channel))
        async with asyncio.timeout(START_S):
            while not (parties := await self._bridged(channel)):
                await asyncio.sleep(0.1)
            for number, party in zip(numbers, parties, strict=True):
                await self._listen(number, party)

    async def _bridged(self, channel: str) -> list[str]:
        for bridge in await self.ari("GET", "/bridges"):
            if channel in bridge["channels"] and len(bridge["channels"]) == 2:
                return [channel, *(each for each in bridge["channels"] if each != channel)]
        return []

    async def _listen(self, number: str, party: str) -> None:
        url = self.program.stream_url(party, encapsulation="sln", direction_listen="in", direction_speak="none")
        while True:
            try:
                socket = await connect(url, compression=None, proxy=None, max_queue=64)
                break
            except InvalidStatus:  # asterisk-bridge does not know yet that the party has answered
                await asyncio.sleep(0.2)
        self._tasks.spawn(self._receive(socket, self._ears[f"/{number}"]))

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.connections += 1
        path = socket.request.path
        ear = self._ears.get(path)
        if ear is None:
            await self._discard(socket)
            return
        self._arrived[path].set()
        speaking = asyncio.create_task(self._speak(socket, self._noises[path]))
        try:
            await self._receive(socket, ear)
        finally:
            speaking.cancel()

    @staticmethod
    async def _discard(socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv()

    async def _receive(self, socket: Connection, ear: Ear) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                data = await socket.recv()
                if isinstance(data, bytes):
                    ear.take(data)
        if not self._ending:
            self.faults.append(Fault(time.monotonic(), ear.name, "ended", 0))

    @staticmethod
    async def _speak(socket: Connection, noise: Noise) -> None:
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.send(noise.frames("slin", sent, MESSAGE_FRAMES))
                sent += MESSAGE_FRAMES
                await asyncio.sleep(max(0.0, began + (sent - AHEAD_FRAMES) * FRAME_S - loop.time()))
