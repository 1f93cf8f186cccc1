"""A model whose script is a test: a server of Realtime's events, and the bridge that connects calls with it."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import RATE, Samples
from tests.lab.conftest import pushing
from tests.lab.moving import HZ
from tests.lab.sink import Received, Sink, open_sink
from tests.lab.target import Target
from tests.lab.waiting import until


class ScriptedModel:
    """The model's side of one conversation.

    Args:
        connection: of the bridge.
    """

    def __init__(self, connection: Received) -> None:
        self.connection = connection
        self._items = 0

    @property
    def tools(self) -> list[str]:
        """The names of the tools that it may call."""
        updates = self.connection.of(type="session.update")
        return [tool["name"] for tool in updates[-1]["session"]["tools"]]

    @property
    def heard(self) -> Samples:
        """The caller's audio so far."""
        appended = self.connection.of(type="input_audio_buffer.append")
        return peer.ulaw_samples(b"".join(base64.b64decode(message["audio"]) for message in appended))

    async def say(self, samples: Samples) -> None:
        """Send audio, faster than it is played."""
        self._items += 1
        response = {"id": f"resp_{self._items}"}
        await self.connection.send(type="response.created", response=response)
        for at in range(0, len(samples), RATE):
            delta = base64.b64encode(peer.ulaw_bytes(samples[at : at + RATE])).decode()
            ids = {"response_id": response["id"], "item_id": f"item_{self._items}"}
            await self.connection.send(type="response.output_audio.delta", delta=delta, **ids)
        await self.connection.send(type="response.done", response=response | {"status": "completed"})

    async def say_tone(self, seconds: float) -> None:
        """Send the agent's tone."""
        await self.say(judge.tone(HZ["agent"], seconds, RATE))

    async def begin(self, name: str, /, **arguments: Any) -> str:
        """Call a tool; return the id of the call."""
        call_id = f"call_{len(self.connection.messages)}"
        fields = {"call_id": call_id, "name": name, "arguments": json.dumps(arguments)}
        await self.connection.send(type="response.function_call_arguments.done", **fields)
        return call_id

    async def result(self, call_id: str, timeout_s: float = 30.0) -> str:
        """Wait for the result of a tool."""

        def found() -> list[str]:
            items = [message["item"] for message in self.connection.of(type="conversation.item.create")]
            return [item["output"] for item in items if item.get("call_id") == call_id]

        return (await until(found, timeout_s))[0]

    async def use(self, name: str, /, **arguments: Any) -> str:
        """Call a tool, and wait for its result."""
        return await self.result(await self.begin(name, **arguments))


async def _answer(connection: Received, message: Mapping[str, Any]) -> None:
    if message["type"] == "session.update":
        await connection.send(type="session.updated", session=message["session"])


class Models:
    """The server: its conversations in the order of the calls."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        sink.on_message = _answer

    async def answering(self, number: int = 0) -> ScriptedModel:
        """Wait for a conversation, until the caller's audio arrives."""
        connection = (await self._sink.connected(number + 1))[number]
        await connection.send(type="session.created", session={})
        model = ScriptedModel(connection)
        await until(lambda: len(model.heard) > RATE // 2)
        return model


@contextlib.asynccontextmanager
async def models(lab: Lab, agent: Mapping[str, Any], **sections: Any) -> AsyncIterator[tuple[Target, Models]]:
    """Run a bridge that connects calls to 750 with a model.

    Args:
        agent: keys of the route's table ``agent``.
        sections: of the configuration.
    """
    async with served(agent) as (route, server), pushing(lab, dialplan=[route], **sections) as target:
        yield target, server


@contextlib.asynccontextmanager
async def served(agent: Mapping[str, Any]) -> AsyncIterator[tuple[dict[str, Any], Models]]:
    """Run the server; return the route that leads calls to 750 to it as well."""
    async with open_sink() as sink:
        route = {"id": "model", "match": "750", "url": sink.url, "dialect": "openai_realtime", "then": "hangup"}
        yield route | {"agent": dict(agent)}, Models(sink)
