"""The dialect ``chan_websocket`` beside Asterisk's own: the same commands have the same answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from bridge.ari.client import AriClient
from bridge.audio.format import slin
from bridge.testing import judge, modem
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import Peer
from tests.agents import environment
from tests.lab.conftest import Phones
from tests.lab.encapsulations import text_of
from tests.lab.passages import heard_passages
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S
from tests.shapes import differences

RATE = 16000
FRAME = slin(RATE).silence(slin(RATE).frame_bytes)
SAME = {"event", "format", "optimal_frame_size", "ptime", "xon_level", "xoff_level", "queue_full", "bulk_media"}
SAME |= {"media_paused", "error_text", "correlation_id", "digit"}
"""Keys whose values do not depend on the call."""

Event = dict[str, Any]


class Application:
    """An application that sends commands, in one of the formats, and waits for events.

    Args:
        peer: its WebSocket.
        is_json: the format of commands and events.
        press: sends a DTMF digit.
    """

    def __init__(self, peer: Peer, press: Callable[[str], Awaitable[object]], *, is_json: bool) -> None:
        self._peer = peer
        self._is_json = is_json
        self._press = press
        self._events: list[str] = []

    async def command(self, name: str, **values: str) -> None:
        text = json.dumps({"command": name, **values}) if self._is_json else " ".join((name, *values.values()))
        await self._peer.send(text)

    async def next(self) -> Event:
        """Wait for an event that is not returned yet."""
        async with asyncio.timeout(PATIENCE_S):
            while len(texts := [each.data for each in self._peer.messages if isinstance(each.data, str)]) <= len(
                self._events
            ):
                await asyncio.sleep(0.02)
        self._events.append(texts[len(self._events)])
        return self.decoded(self._events[-1])

    def decoded(self, text: str) -> Event:
        if self._is_json:
            event: Event = json.loads(text)
            return event
        name, _, rest = text.partition(" ")
        rest, colon, error = rest.partition("error_text:")
        words = [word.partition(":") for word in rest.split()]
        found = {"event": name} | {key: value for key, colon, value in words if colon}
        ids = [key for key, colon, _ in words if not colon]
        return found | ({"correlation_id": ids[0]} if ids else {}) | ({"error_text": error} if colon else {})

    async def converse(self) -> list[Event]:
        """Send every command, and return every event."""
        events = [await self.next()]  # MEDIA_START
        for name in ("ANSWER", "GET_STATUS"):
            await self.command(name)
        events.append(await self.next())
        await self.command("START_MEDIA_BUFFERING")
        for _ in range(3):
            await self._peer.send(FRAME[:-100])
        await self.command("STOP_MEDIA_BUFFERING", correlation_id="b1")
        await self.command("MARK_MEDIA", correlation_id="m1")
        await self.command("REPORT_QUEUE_DRAINED")
        events += [await self.next() for _ in range(3)]
        await self.command("PAUSE_MEDIA")
        for _ in range(10):
            await self._peer.send(FRAME * 95)
        await self.command("GET_STATUS")
        events += [await self.next() for _ in range(2)]
        await self.command("MARK_MEDIA", correlation_id="flushed")
        await self.command("FLUSH_MEDIA")
        await self.command("CONTINUE_MEDIA")
        events.append(await self.next())
        await self.command("SET_MEDIA_DIRECTION", direction="in")
        if self._is_json:
            await self.command("MARK_MEDIA", correlation_id="m2")
            events.append(await self.next())
            await self.command("SET_MEDIA_DIRECTION", direction="sideways")
            events.append(await self.next())
            await self.command("SET_MEDIA_DIRECTION", direction="both")
            await self._peer.send("{")
        events.append(await self.next())
        await self._peer.send("MARK_MEDIA " + "x" * 120)  # too long, ignored
        await self.command("UNKNOWN")
        await self._press("5")
        events.append(await self.next())
        await self.command("GET_STATUS")
        events.append(await self.next())
        await self.command("HANGUP")
        assert await self._peer.closed(PATIENCE_S) == 1000
        return events


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Peer]:
    async with connect(url, subprotocols=["media"], max_queue=None) as connection:  # type: ignore[list-item]
        assert connection.subprotocol == "media"
        peer = Peer(connection)
        yield peer
        await peer.close()


async def asterisks(lab: Lab, target: Target, control: str) -> list[Event]:
    """Return the events of Asterisk's own channel driver."""
    with contextlib.suppress(AssertionError):  # loaded already
        await target.ari("POST", "/asterisk/modules/chan_websocket.so")
    async with AriClient(lab.ari_url, lab.ari_user, lab.ari_password, "judge", subscribe_all=False) as client:
        with client.expect("StasisStart", "judge-media") as started:
            made = await target.ari(
                "POST", "/channels/externalMedia", app="judge", channelId="judge-media", external_host="INCOMING",
                transport="websocket", encapsulation="none", connection_type="server", format="slin16",
                transport_data=f"f({control})",
            )  # fmt: skip
            identity = made["channelvars"]["MEDIA_WEBSOCKET_CONNECTION_ID"]

            async def press(digit: str) -> None:
                await target.ari("POST", "/channels/judge-media/dtmf", dtmf=digit)

            async with connected(f"{lab.ari_url.replace('http', 'ws', 1)}/media/{identity}") as peer:
                await started.wait(PATIENCE_S)
                return await Application(peer, press, is_json=control == "json").converse()


@pytest.mark.parametrize("control", ["json", "plain-text"])
async def test_commands_have_the_answers_of_asterisks_own(
    lab: Lab, target: Target, phones: Phones, control: str
) -> None:
    (alice,) = await phones("1001")
    await alice.call("600")
    await alice.answered()
    call = await target.call_from("1001")
    options: dict[str, str | int] = {"dialect": "chan_websocket", "rate": RATE, "control_message_format": control}
    async with connected(target.stream_url(call["id"], **options)) as peer:
        ours = await Application(peer, alice.dtmf, is_json=control == "json").converse()
    theirs = await asterisks(lab, target, control)
    for mine, real in zip(ours, theirs, strict=True):
        assert {key: mine.get(key) for key in SAME & real.keys()} == {key: real[key] for key in SAME & real.keys()}
        assert list(mine) == list(real)
        assert not differences(real, mine, free={"channel_variables"})
    await target.streams_gone()
    await alice.hangup()
    await target.nothing_left()


async def test_galcymedia_as_a_client_holds_a_conversation(target: Target, phones: Phones) -> None:
    """Its `connect` opens the WebSocket, as to Asterisk's ``/media/``; digits and a hang-up of the agent."""
    text = text_of(1, 31)
    said = np.concatenate(
        [
            judge.silence(15, 8000),  # the agent is starting
            modem.modulate(text, 8000),
        ]
    )
    alice, _ = await phones("1001", "1002")
    await alice.call("1002", play=said)
    await alice.answered()
    call = await target.call_from("1001")
    url = target.stream_url(
        call["id"], dialect="chan_websocket", rate=RATE, direction_listen="in", direction_speak="out"
    )
    interpreter = await environment.python(environment.ASTERISK_REQUIREMENTS)
    agent = await asyncio.create_subprocess_exec(
        *(str(interpreter), "-m", "tests.agents.galcy", "0"),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(environment.ROOT), "STREAM_URL": url},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        greeting, answer = await heard_passages(alice, 2, 60)
        await alice.dtmf("*")
        output, _ = await asyncio.wait_for(agent.communicate(), PATIENCE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            agent.kill()
        await agent.wait()
    assert modem.demodulate(greeting, 8000) == "Hello 1001"
    assert modem.demodulate(answer, 8000) == f"You said: {text}"
    assert output.decode().split("\n")[:2] == ["pressed *", "played"]
    await target.streams_gone()
    assert alice.in_call  # the stream has ended, not the call
    await alice.hangup()
    await target.nothing_left()
