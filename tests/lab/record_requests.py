"""Records what a real Asterisk answers to ARI requests, with the events that each causes, into tests/wire/ari_requests.

    .venv/bin/python -m tests.lab.record_requests [SCENARIO...]

`tests/fakes/pbx.py` is held against the transcripts (tests/unit/test_fake_pbx.py). Lines, in order:

    {"request": [METHOD, PATH, PARAMETERS, BODY]}    then {"response": [STATUS, BODY]} and the events that it causes
    {"act": [WHAT, ...]}                             what a phone does
    {"event": {...}}                                 as Asterisk sends it

``party`` stands for the id of the channel that a phone has opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp

from bridge.ari.client import NOISE
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import Lab
from tests.lab.record_ari import silent_server

FOLDER = Path(__file__).resolve().parents[1] / "wire" / "ari_requests"
QUIET_S = 0.6
"""This long without an event means that all events of a request have arrived."""
UUID_1 = str(UUID(int=1))


class Recorder:
    """Sends requests one by one, and writes down what comes back."""

    def __init__(self, lab: Lab, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self.lab = lab
        self.app = lab.ari_app
        self.lines: list[dict[str, Any]] = []
        self.party = ""
        self._session = session
        self._socket = socket
        self._reading = asyncio.create_task(self._read())
        self._last = 0.0

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def ask(self, method: str, path: str, body: object = None, **params: str) -> None:
        """Send a request and wait for what it causes."""
        self.lines.append({"request": [method, path, params, body]})
        at = len(self.lines)
        url = f"{self.lab.ari_url}/ari{path.replace('party', self.party) if self.party else path}"
        real = {name: self.party if value == "party" else value for name, value in params.items()}
        async with self._session.request(method, url, params=real, json=body) as response:
            text = await response.text()
        answer = json.loads(text) if text.startswith(("{", "[")) else None
        self.lines.insert(at, {"response": [response.status, answer]})
        await self.quiet()

    async def act(self, *what: str) -> None:
        """Have a phone do something: ``call PHONE NUMBER``, ``press PHONE DIGITS``, ``hangup PHONE``."""
        self.lines.append({"act": list(what)})
        verb, name, *more = what
        if verb == "call":
            await self.lab.phone(name).call(more[0])
        elif verb == "press":
            await self.lab.phone(name).dtmf(more[0])
        elif verb == "hangup":
            await self.lab.phone(name).hangup()
        await self.quiet(1.5)

    async def quiet(self, at_least_s: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        self._last = max(self._last, loop.time() + max(0.0, at_least_s - QUIET_S))
        while (rest_s := self._last + QUIET_S - loop.time()) > 0:
            await asyncio.sleep(rest_s)

    async def _read(self) -> None:
        async for message in self._socket:
            self._last = asyncio.get_running_loop().time()
            event = json.loads(message.data)
            channel = event.get("channel", {})
            if not self.party and channel.get("name", "").startswith("PJSIP/1001"):
                self.party = channel["id"]
            self.lines.append({"event": event})


async def call_in_stasis(rec: Recorder) -> None:
    await rec.act("call", "1001", "750")
    await rec.ask("POST", "/channels/party/ring")
    await rec.ask("DELETE", "/channels/party/ring")
    await rec.ask("POST", "/channels/party/answer")
    await rec.ask("GET", "/channels/party/variable", variable="CHANNEL(linkedid)")
    await rec.ask("GET", "/channels/party/variable", variable="UNSET")
    await rec.ask("POST", "/channels/party/variable", variable="NAME", value="value")
    await rec.ask("GET", "/channels/party/variable", variable="NAME")
    await rec.ask("POST", "/bridges", bridgeId="b1", type="mixing", name="b1")
    await rec.ask("POST", "/bridges/b1/addChannel", channel="party")
    await rec.ask("GET", "/bridges/b1")
    await rec.ask("GET", "/channels/party")
    for what in ("hold", "moh", "silence"):
        await rec.ask("POST", f"/channels/party/{what}")
        await rec.ask("DELETE", f"/channels/party/{what}")
    await rec.ask("POST", "/channels/party/mute", direction="in")
    await rec.ask("DELETE", "/channels/party/mute", direction="in")
    await rec.ask("POST", "/channels/party/dtmf", dtmf="12")
    await rec.act("press", "1001", "1")
    await rec.ask("POST", "/bridges/b1/removeChannel", channel="party")
    await rec.ask("POST", "/channels/party/record", name="r1", format="wav", ifExists="overwrite", terminateOn="none")
    await rec.ask("POST", "/recordings/live/r1/pause")
    await rec.ask("DELETE", "/recordings/live/r1/pause")
    await rec.ask("POST", "/recordings/live/r1/stop")
    await rec.ask("GET", "/recordings/stored/r1")
    await rec.ask("DELETE", "/recordings/stored/r1")
    await rec.ask("POST", "/bridges/b1/removeChannel", channel="party")
    await rec.ask("DELETE", "/bridges/b1")
    await rec.ask("DELETE", "/channels/party", reason="normal")


async def party_hangs_up(rec: Recorder) -> None:
    await rec.act("call", "1001", "750")
    await rec.ask("POST", "/channels/party/answer")
    await rec.ask("POST", "/bridges", bridgeId="b1", type="mixing", name="b1")
    await rec.ask("POST", "/bridges/b1/addChannel", channel="party")
    await rec.act("hangup", "1001")
    await rec.ask("DELETE", "/bridges/b1")


async def dialed_out(rec: Recorder) -> None:
    await rec.ask(
        "POST", "/channels/create", {"variables": {"NAME": "value"}},
        endpoint="PJSIP/1002", app=rec.app, channelId="out1",
    )  # fmt: skip
    await rec.ask("POST", "/channels/out1/dial", timeout="20")
    await rec.quiet(2)
    await rec.ask("POST", "/bridges", bridgeId="b1", type="mixing", name="b1")
    await rec.ask("POST", "/bridges/b1/addChannel", channel="out1")
    await rec.act("hangup", "1002")
    await rec.ask("DELETE", "/bridges/b1")


async def continued(rec: Recorder) -> None:
    await rec.act("call", "1001", "750")
    await rec.ask("POST", "/channels/party/answer")
    await rec.ask("POST", "/bridges", bridgeId="b1", type="mixing", name="b1")
    await rec.ask("POST", "/bridges/b1/addChannel", channel="party")
    await rec.ask("POST", "/bridges", bridgeId="b2", type="mixing", name="b2")
    await rec.ask("POST", "/bridges/b2/addChannel", channel="party")
    await rec.ask(
        "POST", "/channels/party/continue", context="from-internal", extension="600", priority="1"
    )  # fmt: skip
    await rec.act("hangup", "1001")
    await rec.ask("DELETE", "/bridges/b1")
    await rec.ask("DELETE", "/bridges/b2")


async def tapped(rec: Recorder) -> None:
    await rec.act("call", "1001", "600")
    await rec.ask("POST", "/channels/party/snoop", app=rec.app, snoopId="s1", spy="in", whisper="none")
    await rec.ask(
        "POST", "/channels/externalMedia", app=rec.app, channelId="m1", data=UUID_1, format="slin16",
        external_host=f"{rec.lab.audiosocket_bind}:{rec.lab.audiosocket_port}", encapsulation="audiosocket",
        transport="tcp",
    )  # fmt: skip
    await rec.ask("POST", "/bridges", bridgeId="b1", type="mixing", name="b1")
    await rec.ask("POST", "/bridges/b1/addChannel", channel="s1")
    await rec.ask("POST", "/bridges/b1/addChannel", channel="m1")
    await rec.ask("DELETE", "/channels/m1")
    await rec.ask("DELETE", "/channels/s1")
    await rec.ask("DELETE", "/bridges/b1")
    await rec.act("hangup", "1001")


async def refused(rec: Recorder) -> None:
    """Send requests that Asterisk rejects: unknown ids, ids that are taken, channels outside the application."""
    await rec.ask("GET", "/channels/nobody")
    await rec.ask("DELETE", "/channels/nobody")
    for what in ("answer", "ring", "hold", "moh", "silence", "mute", "continue", "dial"):
        await rec.ask("POST", f"/channels/nobody/{what}")
    await rec.ask("POST", "/channels/nobody/dtmf", dtmf="1")
    await rec.ask("POST", "/channels/nobody/variable", variable="A", value="1")
    await rec.ask("GET", "/channels/nobody/variable", variable="A")
    await rec.ask("POST", "/channels/nobody/snoop", app=rec.app, snoopId="s1", spy="in")
    await rec.ask("POST", "/channels/nobody/record", name="r1", format="wav")
    await rec.ask("GET", "/bridges/none")
    await rec.ask("DELETE", "/bridges/none")
    await rec.ask("POST", "/bridges/none/addChannel", channel="nobody")
    await rec.ask("POST", "/bridges/none/removeChannel", channel="nobody")
    await rec.ask("POST", "/recordings/live/none/stop")
    await rec.ask("GET", "/recordings/stored/none")
    await rec.ask("DELETE", "/recordings/stored/none")
    await rec.ask("POST", "/bridges", bridgeId="b1", type="mixing", name="b1")
    await rec.ask("POST", "/bridges/b1/addChannel", channel="nobody")
    await rec.ask("POST", "/bridges/b1/removeChannel", channel="nobody")
    await rec.act("call", "1001", "600")
    await rec.ask("POST", "/bridges/b1/addChannel", channel="party")
    await rec.ask("POST", "/channels/party/answer")
    await rec.ask("POST", "/channels/party/mute", direction="in")
    await rec.ask("POST", "/channels/party/continue")
    await rec.act("press", "1001", "1")
    await rec.ask("POST", "/bridges/b1/removeChannel", channel="party")
    await rec.ask("POST", "/channels/party/record", name="r1", format="wav")
    await rec.ask("POST", "/channels/party/variable", variable="A", value="1")
    await rec.ask("POST", "/channels/party/snoop", app="no-such-application", snoopId="s1", spy="in")
    await rec.ask("POST", "/channels/create", endpoint="PJSIP/nobody", app=rec.app, channelId="out1")
    await rec.ask("POST", "/channels/create", endpoint="PJSIP/1002", app=rec.app, channelId="party")
    await rec.ask("DELETE", "/bridges/b1")
    await rec.act("hangup", "1001")


SCENARIOS: dict[str, Callable[[Recorder], Awaitable[None]]] = {
    each.__name__: each for each in (call_in_stasis, party_hangs_up, dialed_out, continued, tapped, refused)
}


@contextlib.asynccontextmanager
async def recorder(lab: Lab) -> AsyncIterator[Recorder]:
    headers = {"Authorization": aiohttp.encode_basic_auth(lab.ari_user, lab.ari_password)}
    async with aiohttp.ClientSession(headers=headers) as session:
        params = {"app": lab.ari_app, "subscribeAll": "false"}
        async with session.ws_connect(f"{lab.ari_url}/ari/events", params=params, decode_text=True) as socket:
            path = f"{lab.ari_url}/ari/applications/{lab.ari_app}"
            disallowed = {"disallowed": [{"type": name} for name in NOISE]}
            async with session.put(f"{path}/eventFilter", json=disallowed) as response:
                assert response.status == 200, await response.text()
            subscribed = {"eventSource": "channel:,bridge:"}
            async with session.post(f"{path}/subscription", params=subscribed) as response:
                assert response.status == 200, await response.text()
            it = Recorder(lab, session, socket)
            try:
                yield it
            finally:
                await it.close()


async def main(names: list[str]) -> None:

    with tempfile.TemporaryDirectory(prefix="ari-req-") as folder:
        lab = EmbeddedLab(Path(folder))
        await lab.start()
        server = await asyncio.start_server(silent_server, lab.audiosocket_bind, lab.audiosocket_port)
        try:
            for name in ("1001", "1002"):
                await lab.phone(name).start()
            for name in names or SCENARIOS:
                async with recorder(lab) as it:
                    await SCENARIOS[name](it)
                text = "".join(json.dumps(line) + "\n" for line in it.lines)
                text = text.replace(it.party, "party") if it.party else text
                text = re.sub(r'"asterisk_id": "[^"]*"', '"asterisk_id": "00:00:00:00:00:01"', text)
                text = text.replace(f"{lab.audiosocket_bind}:{lab.audiosocket_port}", "127.0.0.1:9092")
                FOLDER.mkdir(exist_ok=True)
                (FOLDER / f"{name}.jsonl").write_text(text)
                print(f"{name}: {len(it.lines)} lines", flush=True)
                await asyncio.sleep(1)
        finally:
            server.close()
            await lab.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
