"""What a tap costs Asterisk and the bridge: CPU-ms per call-second, for each shape of tap, in one interleaved run.

    python tests/load/tap_cost.py [--calls 20] [--seconds 20] [--rounds 3] [--only SHAPE,...] [--against CHECKOUT]

It starts the embedded lab's Asterisk and two bridges of this checkout (one uses the dialplan's entry for taps, one
does not), makes calls of two parties with a tone each, has an application listen (and speak), and reads the processes'
CPU times from /proc. 10 ms are 1 % of a core per call. The application runs in this process and is not counted; what
it receives is echoed if it sends audio. For comparison Asterisk's own chan_websocket reaches the same application.
With ``--against``, two bridges of another checkout take turns with this one's, and the ratios are printed.

A party is a SIP call to the lab's trunk (G.711): this process answers it, sends a packet every 20 ms, and takes what
comes. An observed call is two of them in a Dial() bridge; one in the bridge's application is one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[2]))

import aiohttp
from picows import WSCloseCode, WSFrame, WSInvalidStatusError, WSListener, WSMsgType, WSTransport, ws_connect

from bridge.ari.client import AriClient
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import TRUNK, free_port
from bridge.testing.processes import BackgroundProgram
from tests.load.phones import Phones
from tests.load.tap_shapes import SHAPES, Shape

ROOT = Path(__file__).parents[2]
CONTEXT = """
[load]
exten => call,1,Dial(PJSIP/5559999@trunk-a,30)
 same => n,Hangup()
"""
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
SETTLE_S = 1.5


class Application(WSListener):
    """Receives audio, and echoes it if it sends audio."""

    def __init__(self, speaks: bool) -> None:
        self.speaks = speaks
        self.frames = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY:
            self.frames += 1
            if self.speaks:
                transport.send(WSMsgType.BINARY, frame.get_payload_as_bytes())


Stream = tuple[Application, Callable[[], Awaitable[None]]]
"""What listens, and what ends it."""


class Bench:
    """The lab, the bridges, and the calls."""

    def __init__(
        self, lab: EmbeddedLab, client: AriClient, session: aiohttp.ClientSession, python: str, media: str
    ) -> None:
        self.checkout = ""
        """Name of the checkout whose bridges reach the audio."""
        self.python = python
        self.media = media
        self.lab = lab
        self.client = client
        self.session = session
        self.bridges: dict[tuple[str, str], tuple[BackgroundProgram, int, str]] = {}
        """Process, port and application of the bridge for a checkout and a kind of tap."""
        self.numbers = iter(range(10**6))

    async def ari(self, method: str, path: str, **query: str) -> Any:
        async with self.session.request(method, f"{self.lab.ari_url}/ari{path}", params=query) as answer:
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {await answer.text()}")
            return await answer.json() if answer.content_type == "application/json" else None

    async def start_bridge(self, checkout: str, root: Path, kind: str, context: str) -> None:
        port, name = free_port(), f"{checkout}_{kind}"
        app = f"load_{name}"
        config = self.lab.folder / f"{name}.toml"
        known = (root / "examples" / "asterisk-bridge.toml").read_text()
        config.write_text(
            f"http.port = {port}\nhttp.authentication = false\naudiosocket.bind_port = {free_port()}\n"
            f"ari.url = '{self.lab.ari_url}'\nari.user = '{self.lab.ari_user}'\n"
            f"ari.password = '{self.lab.ari_password}'\nari.app = '{app}'\n"
            f"calling.context = '{context}'\nstreams.state_file = ':memory:'\n"
            f"{'media.refuse_late_ms = 0' if 'refuse_late_ms' in known else ''}\n{self.media}"
        )
        config.chmod(0o600)
        process = BackgroundProgram(f"bridge-{name}", self.lab.folder / "run", self.lab.logs / f"bridge-{name}.log")
        command = [self.python, "-P", "-m", "bridge", "serve", "--config", str(config)]
        process.start(command, outlive_us=False, environ={**os.environ, "PYTHONPATH": str(root)})
        self.bridges[checkout, kind] = (process, port, app)
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with self.session.get(f"http://127.0.0.1:{port}/health") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)

    # Calls

    async def call(self, shape: Shape) -> list[str]:
        """Make one; returns its parties' channels."""
        name = f"load-{next(self.numbers):06}"
        where = {"app": self.app(shape)} if shape.stasis else {"context": "load", "extension": "call", "priority": "1"}
        with self.client.expect("StasisStart", name) as started:
            await self.ari("POST", "/channels", endpoint="PJSIP/5550000@trunk-a", channelId=name, **where)
            if shape.stasis and shape.taps == "websocket":
                await started.wait(10)
                await self.hold(name)
        async with asyncio.timeout(20):
            while not (parties := await self.bridged(name, 1 if shape.stasis else 2)):
                await asyncio.sleep(0.05)
        return parties

    async def bridged(self, name: str, count: int) -> list[str]:
        for bridge in await self.ari("GET", "/bridges"):
            if name in bridge["channels"] and len(bridge["channels"]) == count:
                return [name, *(channel for channel in bridge["channels"] if channel != name)]
        return []

    def app(self, shape: Shape) -> str:
        return self.client.app if shape.taps == "websocket" else self.bridges[self.checkout, shape.taps or "entry"][2]

    async def hold(self, name: str) -> None:
        """Answer an originated call and put it into a bridge, as the product does."""
        bridge = f"mix-{name}"
        await self.ari("POST", f"/channels/{name}/answer")
        await self.ari("POST", f"/bridges/{bridge}", type="mixing")
        await self.ari("POST", f"/bridges/{bridge}/addChannel", channel=name)

    # Streams

    async def listen(self, shape: Shape, party: str) -> Stream:
        if shape.taps == "websocket":
            return await self.listen_by_websocket(shape, party)
        port = self.bridges[self.checkout, shape.taps][1]
        listen = "both" if shape.stasis else "in"
        speak = ("both" if shape.stasis else "out") if shape.speaks else "none"
        url = f"ws://127.0.0.1:{port}/v1.0/calls/{quote(party, safe='')}/media_stream?encapsulation=sln"
        url += f"&direction_listen={listen}&direction_speak={speak}"
        application = Application(shape.speaks)
        transport = await self.connect(application, url)
        return application, lambda: end(transport)

    async def connect(self, application: Application, url: str) -> WSTransport:
        """Open a stream; on a busy machine the bridge may not have received yet that the party has answered."""
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(WSInvalidStatusError):
                    return (await ws_connect(lambda: application, url))[0]
                await asyncio.sleep(0.2)

    async def listen_by_websocket(self, shape: Shape, party: str) -> Stream:
        """Open a tap as the product does, with chan_websocket in place of the bridge."""
        number = next(self.numbers)
        media, snoop, mix = f"wsmedia-{number:06}", f"wssnoop-{number:06}", f"wsmix-{number:06}"
        created = {"app": self.client.app, "channelId": media, "external_host": "INCOMING", "format": "slin"}
        with self.client.expect("StasisStart", media) as media_started:
            answer = await self.ari(
                "POST",
                "/channels/externalMedia",
                transport="websocket",
                encapsulation="none",
                connection_type="server",
                **created,
            )
            connection = answer["channelvars"]["MEDIA_WEBSOCKET_CONNECTION_ID"]
            application = Application(shape.speaks)
            transport, _ = await ws_connect(
                lambda: application,
                f"{self.lab.ari_url.replace('http', 'ws', 1)}/media/{connection}",
                extra_headers={"Sec-WebSocket-Protocol": "media"},
            )
            await media_started.wait(5)
        if shape.stasis:
            await self.ari("POST", f"/bridges/mix-{party}/addChannel", channel=media)
            return application, lambda: self.end_websocket(transport, media)
        with self.client.expect("StasisStart", snoop) as snoop_started:
            whisper = "out" if shape.speaks else "none"
            await self.client.channels.snoop(party, snoop_id=snoop, spy="in", whisper=whisper)
            await snoop_started.wait(5)
        await self.ari("POST", f"/bridges/{mix}", type="mixing")
        for channel in (snoop, media):
            await self.ari("POST", f"/bridges/{mix}/addChannel", channel=channel)
        return application, lambda: self.end_websocket(transport, media, snoop, mix)

    async def end_websocket(self, transport: WSTransport, media: str, snoop: str = "", mix: str = "") -> None:
        await end(transport)
        for channel in filter(None, (media, snoop)):
            await self.client.channels.hangup(channel)
        if mix:
            await self.client.bridges.destroy(mix)

    # Measuring

    def cpu_ms(self, kind: str) -> float:
        pid = self.lab._asterisk.pid if kind == "asterisk" else self.bridges[self.checkout, kind][0].pid
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * TICK_MS

    async def measure(self, shape: Shape, calls: int, seconds: float) -> tuple[float, float, int, float]:
        """CPU-ms per call-second of Asterisk and of the bridge, channels of the taps per call, part of the frames."""
        made = await asyncio.gather(*(self.call(shape) for _ in range(calls)))
        before = len(await self.ari("GET", "/channels"))
        wanted = [party for parties in made for party in parties[: shape.parties] for _ in range(shape.listeners)]
        streams = [await self.listen(shape, party) for party in wanted]
        await asyncio.sleep(SETTLE_S)
        channels = len(await self.ari("GET", "/channels")) - before
        loop = asyncio.get_running_loop()
        began, frames = loop.time(), sum(application.frames for application, _ in streams)
        bridge = shape.taps if (self.checkout, shape.taps) in self.bridges else ""
        asterisk_ms, bridge_ms = self.cpu_ms("asterisk"), self.cpu_ms(bridge) if bridge else 0.0
        await asyncio.sleep(seconds)
        asterisk_ms = self.cpu_ms("asterisk") - asterisk_ms
        bridge_ms = self.cpu_ms(bridge) - bridge_ms if bridge else 0.0
        took = loop.time() - began
        frames = sum(application.frames for application, _ in streams) - frames
        for _, close in streams:
            await close()
        for parties in made:
            await self.client.channels.hangup(parties[0])
        await self.all_gone()
        unit = calls * took
        part = frames / (took * 50 * len(streams)) if streams else 1.0
        return asterisk_ms / unit, bridge_ms / unit, round(channels / calls), part

    async def all_gone(self) -> None:
        for bridge in await self.ari("GET", "/bridges"):
            if bridge["id"].startswith(("mix-", "wsmix-")):
                await self.client.bridges.destroy(bridge["id"])
        while await self.ari("GET", "/channels"):
            await asyncio.sleep(0.1)


async def end(transport: WSTransport) -> None:
    transport.send_close(WSCloseCode.OK)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            await transport.wait_disconnected()


@contextlib.asynccontextmanager
async def bench(checkouts: dict[str, Path], python: str, media: str) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="tap-cost-") as folder:
        lab = EmbeddedLab(Path(folder), progress=lambda *_: None)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(lab.stop)
            await lab.start()
            dialplan = lab.folder / "asterisk" / "etc" / "extensions.conf"
            with dialplan.open("a") as file:
                file.write(CONTEXT)
            await lab.cli("dialplan reload")
            await lab.cli("module load chan_websocket.so")
            client = await stack.enter_async_context(
                AriClient(lab.ari_url, lab.ari_user, lab.ari_password, "load_websocket", subscribe_all=False)
            )
            auth = aiohttp.encode_basic_auth(lab.ari_user, lab.ari_password)
            session = await stack.enter_async_context(aiohttp.ClientSession(headers={"Authorization": auth}))
            loop = asyncio.get_running_loop()
            address = (lab.settings.host, lab.phone_port(TRUNK))
            _, phones = await loop.create_datagram_endpoint(Phones, local_addr=address)
            stack.callback(phones.close)
            made = Bench(lab, client, session, python, media)
            for checkout, root in checkouts.items():
                for kind, context in (("media", ""), ("entry", "media-tap")):
                    await made.start_bridge(checkout, root, kind, context)
                    stack.push_async_callback(made.bridges[checkout, kind][0].stop)
            print((await lab.cli("core show version")).split(" built")[0], end=", ")
            yield made


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--calls", 20), ("--seconds", 20), ("--rounds", 3)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--only", default="", help="names of shapes, with commas")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the bridges")
    parser.add_argument("--coalesce-ms", type=float, help="media.coalesce_ms of the bridges, if not the default")
    parser.add_argument("--against", type=Path, help="another checkout, whose bridges are measured too")
    options = parser.parse_args()
    media = "" if options.coalesce_ms is None else f"media.coalesce_ms = {options.coalesce_ms}\n"
    only = set(filter(None, options.only.split(",")))
    shapes = [shape for shape in SHAPES if not only or shape.name in only]
    checkouts = {"new": ROOT} if options.against is None else {"old": options.against.resolve(), "new": ROOT}
    results: dict[tuple[str, str], list[tuple[float, float, int, float]]] = {}
    async with bench(checkouts, options.python, media) as made:
        print(f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores")
        for round_ in range(options.rounds):
            for shape in shapes:
                for made.checkout in checkouts:
                    result = await made.measure(shape, options.calls, options.seconds)
                    results.setdefault((made.checkout, shape.name), []).append(result)
                    print(f"  round {round_ + 1} {made.checkout} {shape.name}: {result}", file=sys.stderr)
    print(f"{options.calls} calls, {options.seconds:g} s, medians of {options.rounds} rounds; CPU-ms per call-second")
    for checkout in checkouts:
        print(
            f"\n| {checkout if options.against else ''} | channels of taps per call | Asterisk | bridge | together |",
            end="",
        )
        print(" frames that came |\n|---|---|---|---|---|---|")
        for shape in shapes:
            asterisk, bridge, channels, part = map(median, zip(*results[checkout, shape.name], strict=True))
            row = f"| {shape.text} | {channels:.0f} | {asterisk:.1f} | {bridge:.1f} | {asterisk + bridge:.1f} |"
            print(f"{row} {part:.1%} |")
    if options.against is None:
        return
    print("\nThe bridge, new / old, median of the rounds' ratios:")
    for shape in shapes:
        pairs = zip(results["old", shape.name], results["new", shape.name], strict=True)
        if ratios := [new[1] / old[1] for old, new in pairs if old[1]]:
            print(f"{shape.name}: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    asyncio.run(main())
