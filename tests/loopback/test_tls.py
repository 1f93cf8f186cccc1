"""One TLS context for every client: the same ``ca_file`` works, or fails in the same words, wherever it is named."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from bridge.ari.resources import Recordings
from bridge.ari.rest import Rest
from bridge.cluster.store import ClusterStore, StoreUnavailable
from bridge.config import ClusterConfig, WebhookConfig
from bridge.errors import AriError
from bridge.events.hub import Events
from bridge.events.webhooks import Webhooks
from bridge.flows.web import Web, WebFailed
from bridge.media.counters import Counters
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Policy
from bridge.patterns import Patterns
from bridge.streams.subscription import Subscription
from bridge.streams.subscription_catalog import SubscriptionCatalog
from bridge.streams.subscription_store import SubscriptionStore
from bridge.tls import Trust, TrustError, build_context, client_context

from .dialling import dialed
from .servers import Authority, serving, third_party
from .webhook_receiver import Receiver


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Python check certificates as strictly as 3.13 does, where it does not."""
    make = ssl.create_default_context

    def create_default_context(*args: Any, **options: Any) -> ssl.SSLContext:
        context = make(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", create_default_context)


@pytest.fixture
async def https(authority: Authority) -> AsyncIterator[tuple[int, Path]]:
    """Run a server with a self-signed certificate, and yield its port and the certificate's file."""

    async def handle(request: web.Request) -> web.Response:
        return web.json_response({"path": request.path})

    tls, file = authority.by_hand("DNS:localhost")
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    yield runner.addresses[0][1], file
    await runner.cleanup()


async def test_an_authority_made_by_hand_is_accepted_by_every_client(https: tuple[int, Path]) -> None:
    port, file = https
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file, file.with_suffix(".key"))
    async with third_party(ssl=tls) as wss:
        (await dialed(f"wss://localhost:{wss}/", ca_file=str(file))).abort(1000, "")
    asking = Web(Gate(Policy(allow=["localhost"])))
    assert (await asking.ask("GET", f"https://localhost:{port}/", trust=Trust(ca_file=str(file)))).status == 200
    with pytest.raises(WebFailed):
        await asking.ask("GET", f"https://localhost:{port}/")
    await asking.close()
    async with Rest(f"https://localhost:{port}", "u", "p", str(file)) as rest:
        assert b"/ari/asterisk/info" in await rest.request("GET", "/asterisk/info")
        recordings = Recordings(rest)
        assert await recordings.size("one") > 0
        assert b"/file" in b"".join([block async for block in recordings.read("one")])
    async with Rest(f"https://localhost:{port}", "u", "p") as rest:
        with pytest.raises(AriError, match="certificate"):
            await rest.request("GET", "/asterisk/info")
    events, counters = Events(), Counters()
    hook = WebhookConfig(
        id="a", url=f"https://localhost:{port}/", secret=SecretStr("a-secret-of-16-characters"), ca_file=str(file)
    )
    webhooks = Webhooks([hook], events, counters)
    await webhooks.start()
    events.publish("call_created", {})
    await webhooks.stop()
    assert (counters.events_delivered, counters.event_attempts_failed) == (1, 0)


async def test_the_store_of_a_cluster_trusts_the_file_too(authority: Authority) -> None:
    met: list[bytes] = []

    async def redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(await reader.read(100))
        writer.close()

    tls, file = authority.by_hand("DNS:localhost")
    async with serving(redis, tls) as port:
        for ca_file, accepted in ((str(file), True), ("", False)):
            met.clear()
            store = ClusterStore(ClusterConfig(store=SecretStr(f"rediss://localhost:{port}"), ca_file=ca_file), 3.0)
            with pytest.raises(StoreUnavailable):  # this Redis hangs up at the first command
                await store.ask([("PING",)])
            await store.close()
            assert any(met) is accepted


async def test_a_context_is_built_once_until_its_file_changes(authority: Authority, tmp_path: Path) -> None:
    trust = Trust(ca_file=str(authority.file))
    first = await client_context(trust)
    assert first is await client_context(trust) is await client_context(Trust(ca_file=str(authority.file)))
    assert first.check_hostname
    authority.file.write_bytes(Authority(tmp_path).file.read_bytes() + b"\n")
    assert await client_context(trust) is not first
    lax = await client_context(Trust(verify=False))
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)
    assert (await client_context(Trust())).verify_mode == ssl.CERT_REQUIRED


def test_an_empty_file_does_not_mean_the_authorities_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("# nothing here yet: \u00e9\n")
    with pytest.raises(TrustError, match=r"empty.pem' cannot be used: contains no PEM certificate"):
        build_context(Trust(ca_file=str(tmp_path / "empty.pem")))


async def test_files_named_over_http_lie_in_one_directory_and_failures_are_alike(
    authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / "good.pem").write_bytes(authority.file.read_bytes())
    (folder / "out.pem").symlink_to(authority.file)
    (folder / "text").write_text("no certificate")
    (folder / "large").write_bytes(authority.file.read_bytes() + b"\n" * (1 << 20))
    (folder / "unreadable").mkdir()
    os.mkfifo(folder / "fifo")
    catalog = SubscriptionCatalog([], SubscriptionStore(":memory:"), gate=Gate(ca_dir=str(folder)))

    def subscription(ca_file: str) -> Subscription:
        return Subscription(
            id="a",
            url="wss://app.example/",
            dialect="yeastar",
            extensions=Patterns(("1",)),
            source="api",
            ca_file=ca_file,
        )

    await catalog.put(subscription("good.pem"))
    words = set()
    for name in (
        *("out.pem", "text", "large", "unreadable", "fifo", "missing", "../good.pem", str(authority.file)),
        *("/dev/stderr", "/dev/stdin", "/etc/shadow"),
    ):
        with pytest.raises(ValueError, match="ca_file") as refused:
            await asyncio.wait_for(catalog.put(subscription(name)), 60)
        words.add(str(refused.value).replace(repr(name), "NAME"))
    assert words == {"ca_file: NAME is not a PEM file with a certificate below [outbound] ca_dir"}
    closed = SubscriptionCatalog([], SubscriptionStore(":memory:"))
    with pytest.raises(ValueError, match="which is not set"):
        await closed.put(subscription("good.pem"))


@pytest.mark.parametrize("trusted", ["ca_file", "nothing"])
async def test_a_redirect_takes_no_trust_along_to_another_server(trusted: str, tmp_path: Path) -> None:
    """The administrator trusts the configured server's certificate; where it leads, a usual one is needed."""
    authority = Authority(tmp_path)
    tls = authority.server("IP:127.0.0.1")
    trust = Trust(ca_file=str(authority.file)) if trusted == "ca_file" else Trust(verify=False)
    other, place = Receiver(), ""
    first = Receiver(
        lambda number: (
            web.Response(status=302, headers={"Location": place}) if not number else web.Response(text="here")
        )
    )
    asking = Web(Gate(Policy(allow=("localhost",))))
    async with first.serving(tls), other.serving(tls):
        place = "/again"
        answer = await asking.ask("GET", f"https://127.0.0.1:{first.port}/", trust=trust, configured=True)
        assert answer.text == "here"
        first.requests.clear()
        place = f"https://127.0.0.1:{other.port}/"
        with pytest.raises(WebFailed, match="certificate"):
            await asking.ask("GET", f"https://127.0.0.1:{first.port}/", trust=trust, configured=True)
        assert other.requests == []
    await asking.close()
