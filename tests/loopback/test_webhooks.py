"""Webhooks against real HTTP servers on loopback that take, refuse, stall, redirect and vanish."""

from __future__ import annotations

import asyncio
import base64
import hmac
import itertools
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from aiohttp import web

from bridge.config import WebhookConfig
from bridge.events.hub import Events
from bridge.events.webhooks import REFUSALS, Webhooks
from bridge.media.counters import Counters
from tests.loopback.servers import Authority
from tests.loopback.webhook_receiver import KEY, SECRET, Receiver, hook
from tests.waiting import until


class Bench:
    """The part under test, with its counters."""

    def __init__(self, *configs: WebhookConfig, **options: Any) -> None:
        self.events = Events()
        self.counters = Counters()
        self.webhooks = Webhooks(configs, self.events, self.counters, **options)

    async def __aenter__(self) -> Bench:
        await self.webhooks.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.webhooks.stop(0.1)

    def publish(self, *numbers: int, type: str = "call_updated") -> None:
        for number in numbers:
            self.events.publish(type, {"n": number})


async def test_an_event_arrives_signed_as_published() -> None:
    async with Receiver().serving() as receiver, Bench(hook(receiver.port)) as bench:
        before = time.time()
        bench.events.publish("call_created", {"id": "1.2", "name": "Zoë \ud83d"})
        await receiver.got(1)
        await until(lambda: bench.counters.events_delivered == 1)
    _, headers, body = receiver.requests[0]
    assert receiver.paths == ["/hook?k=v"]
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("asterisk-bridge/")
    assert abs(int(headers["webhook-timestamp"]) - before) < 3
    event = json.loads(body)
    assert set(event) == {"id", "type", "tm_create", "data"}
    assert event["id"] == headers["webhook-id"]
    assert (event["type"], event["data"]) == ("call_created", {"id": "1.2", "name": "Zoë \ud83d"})
    # The published algorithm, written out.
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()


@pytest.mark.parametrize("secret", [SECRET, "a plain-text secret!".replace(" ", "-")])
async def test_the_specifications_own_library_accepts_it(secret: str) -> None:
    async with Receiver().serving() as receiver, Bench(hook(receiver.port, secret=secret)) as bench:
        bench.publish(1)
        await receiver.got(1)
    _, headers, body = receiver.requests[0]
    known = secret if secret.startswith("whsec_") else base64.b64encode(secret.encode()).decode()
    assert standardwebhooks.Webhook(known).verify(body, headers)["data"] == {"n": 1}
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(known).verify(body.replace(b'"n":1', b'"n":2'), headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook("whsec_" + base64.b64encode(b"x" * 32).decode()).verify(body, headers)


async def test_only_the_types_that_are_asked_for_and_none_when_switched_off() -> None:
    async with Receiver().serving() as some, Receiver().serving() as none:
        configs = [
            hook(some.port, id="a", events=["call_*", "flow_ended"]),
            hook(none.port, id="b", enabled=False),
        ]
        async with Bench(*configs) as bench:
            for type in ("stream_started", "call_created", "flow_started", "flow_ended", "call_hangup"):
                bench.publish(1, type=type)
            await some.got(3)
            await asyncio.sleep(0.05)
    assert [event["type"] for event in some.events] == ["call_created", "flow_ended", "call_hangup"]
    assert none.requests == []


async def test_a_failed_attempt_is_repeated_and_the_order_is_kept() -> None:
    answers = [500, 503, 200, 429, 200]
    receiver = Receiver(lambda n: web.Response(status=answers[n] if n < len(answers) else 200))
    async with receiver.serving(), Bench(hook(receiver.port)) as bench:
        bench.publish(1, 2, 3, 4)
        await receiver.got(7)
        await until(lambda: bench.counters.events_delivered == 4)
    assert receiver.numbers == [1, 1, 1, 2, 2, 3, 4]
    ids = [headers["webhook-id"] for _, headers, _ in receiver.requests]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert len({body for _, _, body in receiver.requests[:3]}) == 1
    assert (bench.counters.event_attempts_failed, bench.counters.events_dropped) == (3, 0)


@pytest.mark.parametrize(
    ("jitter", "low", "high"), [(0.0, [0.2, 0.4, 0.5, 0.5], 0.15), (1.0, [0.1, 0.2, 0.25, 0.25], 0.15)]
)
async def test_the_wait_doubles_up_to_its_end_and_jitter_shortens_it(
    jitter: float, low: list[float], high: float
) -> None:
    receiver = Receiver(lambda n: web.Response(status=200 if n == 4 else 500))
    async with receiver.serving():
        config = hook(receiver.port, retry_first_s=0.2, retry_last_s=0.5)
        async with Bench(config, jitter=lambda: jitter) as bench:
            bench.publish(1)
            await receiver.got(5)
    times = [moment for moment, _, _ in receiver.requests]
    for gap, expected in zip((b - a for a, b in itertools.pairwise(times)), low, strict=True):
        assert expected - 0.01 <= gap < expected + high


async def test_retry_after_is_honoured() -> None:
    receiver = Receiver(lambda n: web.Response(status=503, headers={"Retry-After": "1"}) if n == 0 else web.Response())
    async with receiver.serving(), Bench(hook(receiver.port)) as bench:
        bench.publish(1)
        await receiver.got(2)
    assert 1.0 <= receiver.requests[1][0] - receiver.requests[0][0] < 1.6


async def test_410_ends_it_and_the_other_webhook_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        Receiver(lambda _: web.Response(status=410)).serving() as gone,
        Receiver().serving() as other,
        Bench(hook(gone.port, id="gone"), hook(other.port, id="other")) as bench,
    ):
        bench.publish(1, 2, 3)
        await other.got(3)
        await until(lambda: bench.counters.events_dropped == 3)
        bench.publish(4)
        await other.got(4)
        await asyncio.sleep(0.2)
        assert bench.webhooks.queued == 0
    assert gone.numbers == [1]
    assert other.numbers == [1, 2, 3, 4]
    assert "webhook disabled until restart webhook=gone status=410" in caplog.text


async def test_an_event_that_is_refused_again_and_again_lets_the_next_one_pass() -> None:
    receiver = Receiver()
    receiver.answer = lambda n: web.Response(status=400 if receiver.numbers[n] == 1 else 200)
    async with receiver.serving(), Bench(hook(receiver.port)) as bench:
        bench.publish(1, 2)
        await receiver.got(REFUSALS + 1)
        await until(lambda: bench.counters.events_delivered == 1)
    assert receiver.numbers == [1] * REFUSALS + [2]
    assert bench.counters.events_dropped == 1


async def test_an_event_that_is_too_old_is_given_up() -> None:
    receiver = Receiver(lambda _: web.Response(status=500))
    async with receiver.serving(), Bench(hook(receiver.port, give_up_s=0.3)) as bench:
        bench.publish(1)
        await until(lambda: bench.counters.events_dropped == 1)
        assert 3 <= len(receiver.requests) <= 9
        receiver.answer = lambda _: web.Response()
        bench.publish(2)
        await until(lambda: bench.counters.events_delivered == 1)


async def test_a_server_that_does_not_answer_in_time_is_asked_again() -> None:
    async def stall(number: int) -> web.StreamResponse:
        await asyncio.sleep(5 if number == 0 else 0)
        return web.Response()

    receiver = Receiver(stall)
    async with receiver.serving(), Bench(hook(receiver.port, timeout_s=0.3)) as bench:
        bench.publish(1)
        await receiver.got(2)
        await until(lambda: bench.counters.events_delivered == 1)
    assert 0.3 <= receiver.requests[1][0] - receiver.requests[0][0] < 1.0


async def test_an_answer_whose_body_never_ends_counts_and_holds_nothing_up() -> None:
    class Endless(web.StreamResponse):
        async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002
            await asyncio.sleep(5)

    receiver = Receiver(lambda _: Endless(headers={"Content-Length": "100000"}))
    async with receiver.serving(), Bench(hook(receiver.port)) as bench:
        started = time.monotonic()
        bench.publish(1, 2, 3)
        await until(lambda: bench.counters.events_delivered == 3)
    assert time.monotonic() - started < 1
    assert receiver.numbers == [1, 2, 3]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with Receiver().serving() as elsewhere:
        place = f"http://127.0.0.1:{elsewhere.port}/stolen"
        receiver = Receiver(lambda _: web.Response(status=status, headers={"Location": place}))
        async with receiver.serving(), Bench(hook(receiver.port)) as bench:
            bench.publish(1)
            await receiver.got(2)
    assert elsewhere.requests == []
    assert "a redirect, which is not followed" in caplog.text
    assert bench.counters.events_delivered == 0


async def test_a_server_that_is_down_and_comes_back_gets_what_is_queued(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    receiver = Receiver()
    async with Bench(hook(port)) as bench:
        bench.publish(*range(20))
        await until(lambda: bench.counters.event_attempts_failed >= 3)
        assert bench.webhooks.queued == 20
        async with receiver.serving(port=port):
            await receiver.got(20)
            await until(lambda: bench.webhooks.queued == 0)
    assert receiver.numbers == list(range(20))
    assert caplog.text.count("delivery failed") == 1
    assert "k=v" not in caplog.text


async def test_a_full_queue_drops_the_oldest_and_counts() -> None:
    receiver = Receiver(lambda _: web.Response(status=503))
    async with receiver.serving(), Bench(hook(receiver.port, max_queued_events=3)) as bench:
        bench.publish(0)
        await receiver.got(1)
        bench.publish(*range(1, 11))
        assert bench.counters.events_dropped == 7
        receiver.answer = lambda _: web.Response()
        await until(lambda: bench.counters.events_delivered == 4)
    assert list(dict.fromkeys(receiver.numbers)) == [0, 8, 9, 10]


async def test_a_queue_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.events.webhooks.MAX_QUEUED_BYTES", 50_000)
    receiver = Receiver(lambda _: web.Response(status=503))
    async with receiver.serving(), Bench(hook(receiver.port)) as bench:
        bench.publish(0)
        await receiver.got(1)
        for number in range(1, 11):
            bench.events.publish("call_updated", {"n": number, "text": ["x" * 400] * 37})
        assert (bench.webhooks.queued, bench.counters.events_dropped) == (4, 7)
        bench.events.publish("call_updated", {"n": 11, "text": ["x" * 400] * 150})
        assert (bench.webhooks.queued, bench.counters.events_dropped) == (1, 11)
        bench.publish(12)
        receiver.answer = lambda _: web.Response()
        await until(lambda: bench.counters.events_delivered == 2)
    assert list(dict.fromkeys(receiver.numbers)) == [0, 12]


async def test_a_stop_delivers_what_is_queued() -> None:
    receiver = Receiver()
    async with receiver.serving():
        bench = Bench(hook(receiver.port))
        await bench.webhooks.start()
        bench.publish(*range(50))
        await bench.webhooks.stop()
        bench.publish(50)
    assert receiver.numbers == list(range(50))
    assert bench.counters.events_dropped == 0


@pytest.mark.parametrize("stalls", [False, True])
async def test_a_stop_does_not_wait_long_for_a_server_that_does_not_take(
    stalls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_: int) -> web.StreamResponse:
        await asyncio.sleep(5 if stalls else 0)
        return web.Response(status=500)

    receiver = Receiver(answer)
    async with receiver.serving():
        bench = Bench(hook(receiver.port, retry_first_s=30.0, retry_last_s=30.0, timeout_s=20.0))
        await bench.webhooks.start()
        bench.publish(1, 2, 3)
        await receiver.got(1)
        started = time.monotonic()
        await bench.webhooks.stop(0.5)
        assert time.monotonic() - started < 1
    # The one that waited for its next attempt made it immediately.
    assert receiver.numbers == ([1] if stalls else [1, 1])
    assert bench.counters.events_dropped == 3
    assert "stopped before all events were delivered webhook=a dropped=3" in caplog.text


@pytest.mark.parametrize(
    ("verify", "trusts", "delivered"), [(True, True, True), (True, False, False), (False, False, True)]
)
async def test_the_servers_certificate_is_verified(
    tmp_path: Path, verify: bool, trusts: bool, delivered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    tls = authority.server("IP:127.0.0.1")
    keys = {"verify_tls": verify, "ca_file": str(authority.file) if trusts else ""}
    async with Receiver().serving(tls) as receiver, Bench(hook(receiver.port, "https", **keys)) as bench:
        bench.publish(1)
        await until(lambda: bench.counters.events_delivered + bench.counters.event_attempts_failed > 0)
        assert bool(bench.counters.events_delivered) == delivered
    assert bool(receiver.requests) == delivered
    assert ("certificate is rejected" in caplog.text) != delivered


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.server("DNS:somebody.example")
    config = {"ca_file": str(authority.file)}
    async with Receiver().serving(tls) as receiver, Bench(hook(receiver.port, "https", **config)) as bench:
        bench.publish(1)
        await until(lambda: bench.counters.event_attempts_failed > 0)
    assert receiver.requests == []


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
async def test_a_server_that_speaks_no_http_is_tried_again(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Bench(hook(server.sockets[0].getsockname()[1])) as bench:
        bench.publish(1)
        await until(lambda: bench.counters.event_attempts_failed >= 2)
        assert bench.counters.events_delivered == 0
    assert "delivery failed" in caplog.text


async def test_a_slow_webhook_holds_up_neither_the_publisher_nor_another_webhook() -> None:
    async def stall(_: int) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    async with Receiver(stall).serving() as slow, Receiver().serving() as quick:
        async with Bench(hook(slow.port, id="slow", timeout_s=5.0), hook(quick.port, id="quick")) as bench:
            started = time.perf_counter()
            bench.publish(*range(500))
            took = time.perf_counter() - started
            await quick.got(500, 10)
        assert took < 0.1, "200 microseconds for an event is much more than it needs"
    assert quick.numbers == list(range(500))
    assert len(slow.requests) == 1


async def test_nothing_is_left_after_a_stop() -> None:
    before = asyncio.all_tasks()
    async with Receiver().serving() as receiver:
        bench = Bench(hook(receiver.port))
        await bench.webhooks.start()
        bench.publish(1)
        await receiver.got(1)
        await bench.webhooks.stop()
        await bench.webhooks.stop()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_configuring_again_keeps_what_has_not_changed_and_finishes_what_is_gone() -> None:
    goes_on = asyncio.Event()

    async def slow(_: int) -> web.Response:
        await goes_on.wait()
        return web.Response(status=204)

    async with Receiver(slow).serving() as stays, Receiver(slow).serving() as goes, Receiver().serving() as comes:
        named = zip((stays, goes, comes), ("stays", "goes", "comes"), strict=True)
        kept, gone, new = (hook(each.port, id=name) for each, name in named)
        async with Bench(kept, gone) as bench:
            bench.publish(1, 2)
            await asyncio.gather(stays.got(1), goes.got(1))
            await bench.webhooks.configure((kept, new))
            bench.publish(3)
            goes_on.set()
            await until(lambda: bench.counters.events_delivered == 6)
            assert [each.numbers for each in (stays, goes, comes)] == [[1, 2, 3], [1, 2], [3]]
