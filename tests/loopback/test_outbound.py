"""Connections that the bridge opens, against real servers: what is denied is never connected to, redirects included."""

from __future__ import annotations

import ast
import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bridge.config import Config, OutboundConfig, WebhookConfig
from bridge.config.speech import SpeechConfig
from bridge.events.hub import Events
from bridge.events.webhooks import Webhooks
from bridge.flows.web import Web, WebFailed
from bridge.media.counters import Counters
from bridge.media.dial import Destination, LinkRefused, dial
from bridge.media.loop import FrameLoop
from bridge.outbound.gate import Gate
from bridge.outbound.http import RequestFailed, Requests
from bridge.outbound.policy import Policy
from bridge.outbound.resolver import Resolver
from bridge.speech import SoundFetcher, SoundUnavailable
from bridge.tls import Trust

from .servers import Authority, third_party

BRIDGE = Path(__file__).parents[2] / "bridge"


class Server:
    """A web server of this machine that counts its requests and redirects to the target in the query."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[str, str, str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.raw_path, await request.text(), headers))
        if to := "/loop" if request.path == "/loop" else request.query.get("to"):
            return web.Response(status=int(request.query.get("status", "302")), headers={"Location": to})
        return web.Response(text="inner")


async def _serve(server: Server, **options: Any) -> web.AppRunner:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, **options).start()
    server.port = runner.addresses[0][1]
    return runner


@pytest.fixture
async def inner() -> AsyncIterator[Server]:
    """Run a server that nobody from outside may reach."""
    server = Server()
    runner = await _serve(server)
    yield server
    await runner.cleanup()


@pytest.fixture
def unanswering() -> Iterator[int]:
    """Yield a port at which every attempt to connect waits."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, socket.socket() as waiting:
        waiting.connect(listening.getsockname())  # nothing accepts it: there is room for no other
        yield listening.getsockname()[1]


@pytest.fixture
async def public() -> AsyncIterator[Server]:
    """Run a third party's server."""
    server = Server()
    runner = await _serve(server)
    yield server
    await runner.cleanup()


def named(**names: str) -> Resolver:
    """Return a resolver of names that no DNS server has, ``_`` for a dot."""
    table = {name.replace("_", "."): address for name, address in names.items()}

    def look_up(host: str) -> list[str]:
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [table[host]]

    return Resolver(look_up)


async def test_urls_of_flows_do_not_reach_this_machine_in_any_form(inner: Server) -> None:
    names = named(rebinding_example="127.0.0.1", mapped_example="::ffff:127.0.0.1", six_example="::1")
    asking = Web(Gate(names=names))
    sounds = SoundFetcher(SpeechConfig(), Gate(names=names))
    for host in (
        *("127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST.", "a.localhost", "[::1]", "[::ffff:127.0.0.1]"),
        *("[::127.0.0.1]", "0.0.0.0", "[::]", "rebinding.example", "mapped.example", "six.example"),
        *(
            "[2002:7f00:1::]",
            "[64:ff9b::7f00:1]",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "\uff11\uff12\uff17.0.0.1",
        ),
        *("169.254.169.254", "[fe80::1]", "224.0.0.1", "255.255.255.255"),
    ):
        url = f"http://{host}:{inner.port}/"
        with pytest.raises(WebFailed):
            await asking.ask("GET", url)
        with pytest.raises(SoundUnavailable):
            await sounds.get(url)
    assert inner.requests == []
    assert (await asking.ask("GET", f"{inner.url}/", configured=True)).text == "inner"
    await asking.close()


async def test_a_redirect_leads_nowhere_that_the_request_itself_may_not_go(inner: Server, public: Server) -> None:
    names = named(app_example="127.0.0.1", other_example="127.0.0.1")
    asking = Web(Gate(Policy(deny=["other.example"]), names=names))
    known = f"http://app.example:{public.port}"
    for place in (f"{inner.url}/", f"http://localhost:{inner.port}/", f"http://other.example:{inner.port}/"):
        for status in (301, 302, 303, 307, 308):
            with pytest.raises(WebFailed, match="denied"):
                await asking.ask("POST", f"{known}/?status={status}&to={place}", body=b"x", configured=True)
        with pytest.raises(SoundUnavailable, match="denied"):
            await SoundFetcher(SpeechConfig(), Gate(names=names)).get(f"{known}/?to={place}", configured=True)
    assert inner.requests == []
    for place, words in (
        ("http://u:pw@app.example/", "user name"),
        ("file:///etc/passwd", "not an http"),
        ("http://[::1", "not a URL"),
        ("gopher://app.example/", "not an http"),
    ):
        with pytest.raises(WebFailed, match=words):
            await asking.ask("GET", f"{known}/?to={place}", configured=True)
    # The administrator's own server may send on within itself.
    assert (await asking.ask("GET", f"{known}/?to=/there", configured=True)).text == "inner"
    assert public.requests[-1][1] == "/there"
    await asking.close()


async def test_what_a_redirect_does_to_a_request(public: Server) -> None:
    asking = Web(Gate(Policy(allow=["localhost"])))
    for status, method, body in (
        (301, "GET", ""),
        (302, "GET", ""),
        (303, "GET", ""),
        (307, "POST", "x"),
        (308, "POST", "x"),
    ):
        await asking.ask("POST", f"{public.url}/?status={status}&to=/there", body=b"x", headers={"Content-Type": "a/b"})
        got, path, text, headers = public.requests[-1]
        assert (got, path, text) == (method, "/there", body)
        assert (headers.get("content-type") == "a/b") is (method == "POST")
    with pytest.raises(WebFailed, match="redirects more than 5 times"):
        await asking.ask("GET", f"{public.url}/loop")
    await asking.close()


async def test_a_redirect_from_https_to_http_is_not_followed(authority: Authority, public: Server) -> None:
    secure = Server()
    runner = await _serve(secure, ssl_context=authority.server("DNS:localhost"))
    asking = Web(Gate(Policy(allow=["localhost"])))
    try:
        with pytest.raises(WebFailed, match="redirects to plain HTTP"):
            await asking.ask(
                "GET",
                f"https://localhost:{secure.port}/?to={public.url}/",
                trust=Trust(ca_file=str(authority.file)),
            )
    finally:
        await asking.close()
        await runner.cleanup()
    assert public.requests == []


async def test_a_kept_connection_to_a_configured_server_is_not_lent_to_a_flow(public: Server) -> None:
    asking = Web(Gate(names=named(app_example="127.0.0.1")))
    url = f"http://app.example:{public.port}/"
    assert (await asking.ask("GET", url, configured=True)).status == 200
    with pytest.raises(WebFailed, match="loopback"):
        await asking.ask("GET", url)
    await asking.close()


async def test_only_the_time_of_a_request_bounds_connecting(unanswering: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp.client.DEFAULT_TIMEOUT", aiohttp.ClientTimeout(total=0.05, sock_connect=0.05))
    began = time.monotonic()
    async with Requests(Gate(Policy(["127.0.0.1"]))) as requests:
        with pytest.raises(RequestFailed, match="no response within"):
            await requests.fetch(
                "GET",
                f"http://127.0.0.1:{unanswering}/",
                configured=True,
                trust=Trust(),
                timeout_s=0.5,
                max_bytes=0,
            )
    assert time.monotonic() - began > 0.4


async def test_streams_are_dialed_at_the_address_that_was_checked() -> None:
    answers = [["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"]]
    asked: list[str] = []

    def rebinding(host: str) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    async def dialed(gate: Gate, url: str, *, configured: bool) -> None:
        link = await dial(
            Destination(url, configured=configured),
            Counters(),
            gate=gate,
            connect_timeout_s=3,
            max_unsent_ms=1000,
            ping_interval_s=20,
            max_message_bytes=1 << 20,
        )
        link.abort(1000, "")

    async with third_party() as port:
        gate = Gate(names=Resolver(rebinding))
        await dialed(gate, f"ws://app.example:{port}/", configured=True)
        assert len(asked) == 1, "a second lookup could answer with something else"
        with pytest.raises(LinkRefused, match=r"app\.example \(host metadata\) denied"):
            await dialed(gate, f"ws://app.example:{port}/", configured=True)
        with pytest.raises(LinkRefused, match=r"app\.example \(loopback\) denied"):
            await dialed(gate, f"ws://app.example:{port}/", configured=False)
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
            with pytest.raises(LinkRefused, match="loopback"):
                await dialed(Gate(), f"ws://{host}:{port}/", configured=False)
        await dialed(Gate(Policy(allow=["localhost"])), f"ws://localhost:{port}/", configured=False)


async def test_a_lookup_that_hangs_delays_no_other_application() -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(_: str) -> list[str]:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    gate = Gate(names=Resolver(hang))

    async def dialed(url: str) -> None:
        link = await dial(
            Destination(url, configured=True),
            Counters(),
            gate=gate,
            connect_timeout_s=3,
            max_unsent_ms=1000,
            ping_interval_s=20,
            max_message_bytes=1 << 20,
        )
        link.abort(1000, "")

    stuck = [asyncio.create_task(dialed(f"wss://hang{n % 50}.example/")) for n in range(200)]
    try:
        async with third_party() as port:
            for _ in range(5):
                await dialed(f"ws://localhost:{port}/")
        await asyncio.wait_for(asyncio.to_thread(lambda: None), 60)  # store, sounds and speech have their threads
    finally:
        release.set()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_webhooks_obey_deny(inner: Server) -> None:
    config = WebhookConfig.model_validate(
        {"id": "a", "url": f"{inner.url}/", "secret": "a-secret-of-16-characters", "retry_last_s": 1.0}
    )
    for deny, delivered in ((["127.0.0.0/8"], 0), ([], 1)):
        events, counters = Events(), Counters()
        webhooks = Webhooks([config], events, counters, gate=Gate(Policy(deny=deny)))
        await webhooks.start()
        events.publish("call_created", {})
        await webhooks.stop()
        assert counters.events_delivered == delivered
    assert len(inner.requests) == 1


def test_libraries_that_connect_by_themselves_use_no_thread_of_the_pool() -> None:
    loop = FrameLoop()
    try:

        async def look_up() -> list[Any]:
            closed = ThreadPoolExecutor(1)
            closed.shutdown()
            loop.set_default_executor(closed)
            return await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)

        assert [info[4][0] for info in loop.run_until_complete(look_up())] == ["127.0.0.1", "::1"]
    finally:
        loop.close()


def test_only_these_modules_open_http_connections() -> None:
    """A new client uses `bridge.outbound`, or is listed here with the reason why it need not."""
    own = {
        "outbound/http.py",
        "ari/rest.py",  # ari.url
        "cli/call.py",  # the command line, to a running bridge
        "doctor/machine.py",  # our own port
        "workers/request_forwarding.py",  # Unix sockets of our own
    }
    found = set()
    for path in BRIDGE.rglob("*.py"):
        name = str(path.relative_to(BRIDGE))
        if name.startswith("testing/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("ClientSession", "urlopen"):
                found.add(name)
    assert found - own - {"api/server.py"} == set()


def test_the_configuration_checks_rules() -> None:
    config = Config(outbound=OutboundConfig(allow=("localhost",), deny=("10.0.0.0/8", "*.internal")))
    assert config.outbound.deny == ("10.0.0.0/8", "*.internal")
    with pytest.raises(ValueError, match="is not an address"):
        OutboundConfig(deny=("10.0.0.0/99",))
