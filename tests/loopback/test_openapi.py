"""The HTTP interface against its own document: no fault, no answer that the document does not know."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from bridge.api.events import EventSockets
from bridge.api.server import HttpServer
from bridge.app.application import Application
from bridge.config import AriConfig, AudioSocketConfig, Config, HttpConfig, StreamsConfig
from bridge.dialects.plivo import call_uuid
from bridge.dialects.telnyx import call_control_id
from bridge.dialects.twilio import call_sid
from bridge.events.hub import Events
from bridge.streams.subscription import Subscription
from bridge.streams.subscription_catalog import SubscriptionCatalog
from bridge.streams.subscription_store import SubscriptionStore
from tests.loopback.openapi import examine
from tests.unit.api.sample_cluster import FewBridges
from tests.unit.api.samples import TWILIO, VENDORS, VOXOLOGY_KEY, Pbx

TOKEN = "0123456789abcdef"
AUTH = {
    "bearer": {"bearer": TOKEN},
    "yeastar": {"api_key": TOKEN},
    "twilio": {"username": TWILIO.account_sid, "password": TWILIO.auth_token.get_secret_value()},
    "telnyx": {"bearer": VENDORS.telnyx.api_key.get_secret_value()},
    "plivo": {"username": VENDORS.plivo.auth_id, "password": VENDORS.plivo.auth_token.get_secret_value()},
    "voxology": {"api_key": VOXOLOGY_KEY},
}
IDS = {
    "/v1.0/calls": {"id": ["c1", "c2", "c3", "c1.peer"]},
    "/v1.0/groupcalls": {"id": ["group-1"]},
    "/v1.0/recordings": {"id": ["r1", "r2"]},
    "/v1.0/conferences": {"id": ["sales", "room"], "channel": ["p1", "p2"]},
    "/v1.0/cluster": {"id": ["c1", "c2"]},
    "/v1.0/flows": {"id": ["greeting", "fetched"]},
    "/v1.0/subscriptions": {"id": ["in-file", "yeastar"]},
    "/v1/Account": {"account": [VENDORS.plivo.auth_id], "call": [call_uuid("c1")]},
    "/v2/calls": {"call": [call_control_id("c1")]},
    "/2010-04-01": {"account": [TWILIO.account_sid], "call": [call_sid("c1")]},
}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Serve the whole API on a port, with a PBX of samples behind it."""
    pbx = Pbx(lasting=True)
    pbx.add("c1")
    pbx.add("c2", "ringing")
    pbx.add("c3")
    pbx.end("c3")
    configured = Subscription.model_validate(
        {"id": "in-file", "url": "wss://app.example", "dialect": "twilio", "dids": ["*"]}
    )
    sockets = EventSockets(Events())
    backend = pbx.backend(
        subscriptions=SubscriptionCatalog([configured], SubscriptionStore(":memory:")), channels=pbx,
        twilio=TWILIO, vendors=VENDORS, events=sockets.handle, cluster=FewBridges(),
    )  # fmt: skip
    server = HttpServer(HttpConfig(port=0, tokens=(SecretStr(TOKEN),)), backend, strict=True)
    await server.start()
    yield f"http://127.0.0.1:{server.port}"
    await server.stop()


async def test_schemathesis_finds_nothing(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="bridge")
    code, output = await examine(url, tmp_path, auth=AUTH, ids=IDS)
    assert code == 0, output
    assert not [record for record in caplog.records if "internal error" in record.getMessage()]


async def test_schemathesis_finds_nothing_where_there_is_no_asterisk(tmp_path: Path) -> None:
    config = Config(
        http=HttpConfig(port=0, tokens=(SecretStr(TOKEN),)),
        audiosocket=AudioSocketConfig(bind_port=0),
        ari=AriConfig(url="http://127.0.0.1:1"),
        streams=StreamsConfig(state_file=":memory:"),
    )
    async with Application(config) as bridge:
        # 503 is what it must answer, and the description states it.
        code, output = await examine(
            f"http://127.0.0.1:{bridge.http_port}", tmp_path, auth={"bearer": AUTH["bearer"]}, ids=IDS, examples=3,
            options=("--exclude-checks", "not_a_server_error"),
        )  # fmt: skip
    assert code == 0, output
    assert "[500]" not in output


async def test_what_is_not_documented_is_found(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the two above can fail."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/openapi.json") as response:
        assert response.status == 200  # its routes are loaded with the first request, which reads handlers' annotations
    monkeypatch.setattr("bridge.api.verbs.JsonResponse", _broken)
    code, output = await examine(
        url, tmp_path, auth=AUTH, ids=IDS, examples=3, options=("--include-path", "/v1.0/calls/{id}/recording_start")
    )
    assert code == 1
    assert "500" in output


def _broken(*_: object) -> None:
    raise RuntimeError("a fault made for a test")
