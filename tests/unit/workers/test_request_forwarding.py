"""What a worker does with a request before it has found the worker that answers it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridge.access import Principal
from bridge.api.ports import SharedPort
from bridge.api.server import HttpServer, build
from bridge.api.tokens import hash_of
from bridge.config import HttpConfig, TokenConfig
from bridge.dialects.base import CallRequest
from bridge.dialects.twilio import call_sid
from bridge.streams.origin import Origin
from bridge.streams.registry import OnRequest
from bridge.workers.peer_workers import PeerWorker, PeerWorkers
from bridge.workers.request_forwarding import RequestForwarder
from tests.fakes.virtual_time import until
from tests.unit.api.open_stream import OpenStream
from tests.unit.api.samples import TWILIO, UPGRADE, Pbx, make_call

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"id":' + b"[" * 90_000, "INVALID_JSON"),
        (b'{"id":' * 1000 + b"0" + b"}" * 1000, "INVALID_JSON"),
        (b"\xff", "INVALID_JSON"),
        (b"[]", "INVALID_JSON"),
        (b'{"name": "' + b"x" * 300_000 + b'"}', "REQUEST_ENTITY_TOO_LARGE"),
    ],
)
async def test_a_body_that_is_none_is_answered_here(body: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    view = PeerWorkers("bridge", 1, 2)
    view.workers = {number: PeerWorker(number, number, f"/nowhere/http-{number}") for number in (1, 2)}
    application = build(Pbx().backend(), [TOKEN], middlewares=[RequestForwarder(view, lambda _: 1).middleware])
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with (
        TestClient(TestServer(application)) as client,
        client.post("/v1.0/conferences", data=body, headers=headers) as response,
    ):
        assert (await response.json())["error"]["reason"] == reason
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@contextlib.asynccontextmanager
async def workers(folder: Path, token: TokenConfig, **more: Any) -> AsyncIterator[Mapping[int, tuple[str, Pbx]]]:
    """Two workers, each with a port and a PBX of its own, by number; the first leads."""
    peers = {number: PeerWorker(number, number, str(folder / f"http-{number}")) for number in (1, 2)}
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for number in peers:
            view, pbx = PeerWorkers("bridge", number, 2), Pbx()
            view.workers = peers
            others = RequestForwarder(view, lambda _: 1)

            async def claim(_: str) -> bool:
                return True

            shared = SharedPort(0, folder / f"http-{number}", others.middleware, b"k" * 32, claim, others.operate)
            backend = pbx.backend(channels=pbx, twilio=TWILIO, **more)
            server = HttpServer(HttpConfig(port=0), backend, tables=[token], shared=shared)
            await server.start()
            stack.push_async_callback(server.stop)
            stack.push_async_callback(others.close)
            found[number] = f"http://127.0.0.1:{server.port}", pbx
        yield found


async def test_a_request_in_a_stream_is_executed_by_the_worker_of_the_call(tmp_path: Path) -> None:
    """The stream is at the second worker, the call is controlled by the first."""
    token = TokenConfig(id="crm", hash=f"sha256:{hash_of(TOKEN)}", scopes=("admin",))
    accepted: list[OnRequest] = []

    async def accept(_: web.Request, *how: Any) -> web.StreamResponse:
        accepted.append(how[-1])
        return web.Response()

    async with (
        workers(tmp_path, token, accept_stream=accept) as both,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):
        for _, pbx in both.values():
            pbx.add("c1")
        async with session.get(f"{both[2][0]}/v1.0/calls/c1/media_stream?encapsulation=sln", headers=UPGRADE):
            pass
        stream = OpenStream(Origin("client", Principal("crm", token=hash_of(TOKEN)), party_id="c1"))
        for destination in ({"type": "extension", "target": "1002"}, {"type": "pigeon", "target": "1002"}):
            count = len(stream.answers)
            accepted[0](stream, CallRequest("transfer", destination=destination))  # type: ignore[arg-type]
            await until(lambda count=count: len(stream.answers) > count)  # type: ignore[misc]
        (_, done, nothing), (_, failed, why) = stream.answers
        assert (done, nothing) == ({"call_id": "transfer-1", "status": "dialing"}, "")
        assert failed == {"reason": "INVALID_BODY"}
        assert "destination.type" in why
        accepted[0](stream, CallRequest("hangup"))  # type: ignore[arg-type]
        await until(lambda: len(both[1][1].done) == 2)
        assert [what[:2] for what in both[1][1].done] == [("transfer", "c1"), ("hangup", "c1")]
        assert not both[2][1].done


async def test_one_worker_counts_the_calls_of_a_token_whichever_is_asked(tmp_path: Path) -> None:
    token = TokenConfig(id="crm", hash=f"sha256:{hash_of(TOKEN)}", scopes=("calls:originate",), max_calls=2)
    body = {"destinations": [{"type": "extension", "target": "1001"}]}
    async with (
        workers(tmp_path, token) as both,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):

        async def originate(number: int) -> int:
            async with session.post(f"{both[number][0]}/v1.0/calls", json=body) as response:
                return response.status

        assert [await originate(number) for number in (1, 2, 1, 2)] == [200, 200, 503, 503]
        both[1][1].end("placed-1")
        assert [await originate(number) for number in (2, 1)] == [200, 503]
        assert not both[2][1].done


async def test_a_vendors_list_and_ids_name_the_calls_of_all_workers(tmp_path: Path) -> None:
    token = TokenConfig(id="crm", hash=f"sha256:{hash_of(TOKEN)}", scopes=("calls:read",))
    login = aiohttp.encode_basic_auth(TWILIO.account_sid, TWILIO.auth_token.get_secret_value())
    async with (
        workers(tmp_path, token) as both,
        aiohttp.ClientSession(headers={"Authorization": login}) as session,
    ):
        calls = [f"c{index}" for index in range(7)]
        for index, call in enumerate(calls):
            both[1 + index % 2][1].add(call)
        account = f"/2010-04-01/Accounts/{TWILIO.account_sid}"

        async def get(number: int, path: str) -> Any:
            async with session.get(both[number][0] + path) as response:
                assert response.status == 200, await response.text()
                return await response.json()

        for number in both:
            found, path = [], f"{account}/Calls.json?PageSize=2"
            while path:
                body = await get(number, path)
                found += [call["sid"] for call in body["calls"]]
                assert body["end"] == len(found) - 1
                path = body["next_page_uri"]
            assert sorted(found) == sorted(map(call_sid, calls))
            for call in calls[::2]:  # of the first worker; the second one does not know them
                assert (await get(number, f"{account}/Calls/{call_sid(call)}.json"))["sid"] == call_sid(call)
            async with session.get(f"{both[number][0]}{account}/Calls/{call_sid('c9')}.json") as response:
                assert (response.status, (await response.json())["code"]) == (404, 20404)
        both[2][1].connected = False
        assert (await get(2, f"{account}/Calls.json"))["calls"], "of the worker that is connected"


@pytest.mark.parametrize("slash", ["", "/"])  # some clients have a base address that ends with one
async def test_a_call_is_controlled_by_its_own_worker_also_by_a_vendors_id(tmp_path: Path, slash: str) -> None:
    token = TokenConfig(id="crm", hash=f"sha256:{hash_of(TOKEN)}", scopes=("calls:read",))
    login = aiohttp.encode_basic_auth(TWILIO.account_sid, TWILIO.auth_token.get_secret_value())
    async with (
        workers(tmp_path, token) as both,
        aiohttp.ClientSession(headers={"Authorization": login}) as session,
    ):
        for _, pbx in both.values():
            pbx.calls["c1"] = make_call("c1")
        url = f"{both[2][0]}{slash}/2010-04-01/Accounts/{TWILIO.account_sid}/Calls/{call_sid('c1')}.json"
        async with session.post(url, data={"Status": "completed"}) as response:
            assert response.status == 200, await response.text()
        assert both[1][1].done == [("hangup", "c1")]
        assert both[2][1].done == []
