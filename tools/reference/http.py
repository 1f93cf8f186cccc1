"""The operations of the HTTP API, from the OpenAPI document. Each example is a request that is really made.

The API is the product's; behind it is the PBX of the unit tests, which keeps the pages the same in every run.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BasicAuth, web
from aiohttp.test_utils import TestClient, TestServer

from bridge import __version__
from bridge.api.document import CHAPTERS
from bridge.api.events import EventSockets
from bridge.api.server import build
from bridge.dialects.plivo import call_uuid
from bridge.dialects.telnyx import call_control_id
from bridge.dialects.twilio import call_sid
from bridge.events.hub import Events
from bridge.flows.recording_callbacks import recording_sid
from bridge.streams.subscription_catalog import SubscriptionCatalog
from bridge.streams.subscription_store import SubscriptionStore
from tests.unit.api.sample_cluster import FewBridges
from tests.unit.api.samples import TOKEN, TWILIO, UPGRADE, VENDORS, VOXOLOGY_KEY, Pbx

WIDTH = 110
CALL, CONFERENCE = "/v1.0/calls/c1", "/v1.0/conferences/sales"
PHONE = {"type": "extension", "target": "1002"}
SUBSCRIPTION = {"id": "speech", "extensions": ["1001"], "url": "wss://app.example.org/calls", "dialect": "yeastar"}
TWILIO_CALLS = f"/2010-04-01/Accounts/{TWILIO.account_sid}/Calls.json"
TWILIO_RECORDING = f"/2010-04-01/Accounts/{TWILIO.account_sid}/Recordings/{recording_sid('r1')}.wav"
TWILIO_PATH = f"/2010-04-01/Accounts/{TWILIO.account_sid}/Calls/{call_sid('c1')}.json"


@dataclass(frozen=True)
class Example:
    """A request: its path with the query, and its body."""

    path: str
    body: object = None
    form: Mapping[str, str] = field(default_factory=dict)


EXAMPLES = {
    "GET /2010-04-01/Accounts/{account}/Calls.json": Example(f"{TWILIO_CALLS}?PageSize=1"),
    "POST /2010-04-01/Accounts/{account}/Calls.json": Example(
        TWILIO_CALLS, form={"To": "client:1001", "From": "4711", "Url": "https://agent.example.org/voice"}
    ),
    "POST /2010-04-01/Accounts/{account}/Calls/{call}/Streams.json": Example(
        TWILIO_PATH.removesuffix(".json") + "/Streams.json",
        form={"Url": "wss://agent.example.org/ears", "Name": "ears", "Track": "both_tracks"},
    ),
    "POST /2010-04-01/Accounts/{account}/Calls/{call}/Streams/{stream}.json": Example(
        TWILIO_PATH.removesuffix(".json") + "/Streams/ears.json", form={"Status": "stopped"}
    ),
    "POST /2010-04-01/Accounts/{account}/Calls/{call}/Recordings.json": Example(
        TWILIO_PATH.removesuffix(".json") + "/Recordings.json",
        form={"RecordingStatusCallback": "https://agent.example.org/recording"},
    ),
    "POST /2010-04-01/Accounts/{account}/Calls/{call}/Recordings/{recording}.json": Example(
        TWILIO_PATH.removesuffix(".json") + "/Recordings/Twilio.CURRENT.json", form={"Status": "stopped"}
    ),
    "GET /2010-04-01/Accounts/{account}/Recordings/{recording}": Example(TWILIO_RECORDING),
    "GET /v1.0/calls": Example("/v1.0/calls?page_size=1"),
    "POST /v1.0/calls": Example(
        "/v1.0/calls",
        {
            "source": {"type": "tel", "target": "+4930123456"},
            "destinations": [{"type": "extension", "target": "1001"}],
            "actions": [{"type": "talk", "option": {"text": "Hello", "language": "en-US"}}],
        },
    ),
    "POST /v1.0/calls/{id}/mute": Example(f"{CALL}/mute", {"direction": "in"}),
    "POST /v1.0/calls/{id}/unmute": Example(f"{CALL}/unmute", {"direction": "in"}),
    "POST /v1.0/calls/{id}/talk": Example(f"{CALL}/talk", {"text": "One moment, please", "language": "en-US"}),
    "POST /v1.0/calls/{id}/play": Example(f"{CALL}/play", {"stream_urls": ["https://sounds.example/welcome.wav"]}),
    "POST /v1.0/calls/{id}/dtmf": Example(f"{CALL}/dtmf", {"digits": "12#"}),
    "POST /v1.0/calls/{id}/transfer": Example(
        f"{CALL}/transfer", {"destination": {"type": "extension", "target": "1003"}}
    ),
    "POST /v1.0/calls/{id}/recording_start": Example(f"{CALL}/recording_start", {"direction": "both"}),
    "POST /v1.0/calls/{id}/sensitive": Example(f"{CALL}/sensitive", {"timeout_s": 120}),
    "POST /v1.0/calls/{id}/tickets": Example(f"{CALL}/tickets", {"direction": "listen"}),
    "GET /v1.0/calls/{id}/media_stream": Example(f"{CALL}/media_stream?encapsulation=sln"),
    "POST /v1/Dials/Connect": Example("/v1/Dials/Connect", {"call": {"no": "+15551234567"}}),
    "POST /v1.0/conferences": Example("/v1.0/conferences", {"id": "daily", "name": "Daily", "auto_delete": True}),
    "POST /v1.0/conferences/{id}/tickets": Example(f"{CONFERENCE}/tickets", {"direction": "both"}),
    "GET /v1.0/conferences/{id}/media_stream": Example(f"{CONFERENCE}/media_stream?encapsulation=sln"),
    "POST /v1.0/subscriptions": Example("/v1.0/subscriptions", SUBSCRIPTION | {"id": "new"}),
    "PUT /v1.0/subscriptions/{id}": Example("/v1.0/subscriptions/speech", SUBSCRIPTION | {"extensions": ["*"]}),
    "PATCH /v1.0/subscriptions/{id}": Example("/v1.0/subscriptions/speech", {"enabled": False}),
    "POST /openapi/v1.0/websocketaudiostream/update": Example(
        f"/openapi/v1.0/websocketaudiostream/update?access_token={TOKEN}",
        {"websocket_url": "wss://app.example.org/", "enable": 1, "enable_ext": 0},
    ),
    "GET /openapi/v1.0/websocketaudiostream/get": Example(
        f"/openapi/v1.0/websocketaudiostream/get?access_token={TOKEN}"
    ),
    "POST /2010-04-01/Accounts/{account}/Calls/{call}.json": Example(TWILIO_PATH, form={"Status": "completed"}),
    "GET /2010-04-01/Accounts/{account}/Calls/{call}.json": Example(TWILIO_PATH),
    "POST /v2/calls/{call}/actions/hangup": Example(f"/v2/calls/{call_control_id('c1')}/actions/hangup"),
    "DELETE /v1/Account/{account}/Call/{call}/": Example(
        f"/v1/Account/{VENDORS.plivo.auth_id}/Call/{call_uuid('c1')}/"
    ),
    "GET /v1.0/events": Example("/v1.0/events?types=call_*"),
}
"""Requests of operations that need more than the ids of `IDS`."""
IDS = {
    "calls": "c1", "groupcalls": "group-2", "recordings": "r1", "flows": "greeting", "conferences": "sales",
    "subscriptions": "speech", "cluster": "c2",
}  # fmt: skip
UNSHOWN = {
    "GET /openapi.json": "the OpenAPI document",
    "GET /docs": "a page",
    "GET /": "a page",
    "GET /metrics": "[metrics](metrics.md) in the text format of Prometheus",
}
"""What operations return whose response is too long to print."""
CHANGING = [
    (r'"date_updated": "[^"]*"', '"date_updated": "Sat, 31 Jan 2026 11:00:00 +0000"'),
    (r'"ticket": "[^"]+"', '"ticket": "WyJjMSIsImxpc3RlbiJd..."'),
    (re.escape(f'"version": "{__version__}"'), '"version": "0.2.0"'),
    (r'"tm_expire": "[^"]+"', '"tm_expire": "2026-01-31T11:00:30.000Z"'),
]
"""What differs from run to run, and what is printed in its place."""


def operations() -> str:
    """Return all operations by chapter, with an example of each."""
    return asyncio.run(_operations())


async def served(method: str, path: str) -> str:
    """Return the response to one request as text."""
    async with _client() as client, client.request(method, path, headers=_headers(path)) as response:
        return await response.text()


@asynccontextmanager
async def _client() -> AsyncIterator[TestClient[web.Request, web.Application]]:
    pbx = Pbx(lasting=True)
    pbx.add("c1", recording_id="r1", recording_ids=["r1"])
    sockets = EventSockets(Events())
    backend = pbx.backend(
        subscriptions=SubscriptionCatalog([], SubscriptionStore(":memory:")),
        channels=pbx,
        twilio=TWILIO,
        vendors=VENDORS,
        cluster=FewBridges(),
        events=sockets.handle,
    )
    async with TestClient(TestServer(build(backend, [TOKEN], strict=True))) as client:
        for path, body in (
            ("/v1.0/subscriptions", SUBSCRIPTION),
            ("/v1.0/calls", {"destinations": [PHONE], "answer_method": "hangup_others"}),
        ):
            async with client.post(path, json=body, headers=_headers(path)) as response:
                assert response.ok, await response.text()
        yield client
        await sockets.close()


def _headers(path: str) -> dict[str, str]:
    if path.startswith("/2010"):
        return {"Authorization": BasicAuth(TWILIO.account_sid, TWILIO.auth_token.get_secret_value()).encode()}
    if path.startswith("/v1/Account/"):
        account = BasicAuth(VENDORS.plivo.auth_id, VENDORS.plivo.auth_token.get_secret_value())
        return {"Authorization": account.encode()}
    if path.startswith("/v2/"):
        return {"Authorization": f"Bearer {VENDORS.telnyx.api_key.get_secret_value()}"}
    if path.startswith("/v1/"):
        return {"x-api-key": VOXOLOGY_KEY}
    return {} if path.startswith("/openapi/") else {"Authorization": f"Bearer {TOKEN}"}


async def _operations() -> str:
    document = json.loads(await served("GET", "/openapi.json"))
    listed = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts = []
    for chapter in CHAPTERS:
        parts.append(f"## {chapter}")
        for method, path, operation in listed:
            if operation["tags"][0] == chapter:
                parts += [*_described(method, path, operation, document), await _tried(method, path)]
    return "\n\n".join(parts)


def _described(method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {operation['summary']}"
    scopes = {scope for way in operation.get("security", []) for each in way.values() for scope in each}
    scope = f" · scope `{'`, `'.join(sorted(scopes))}`" if scopes else ""
    yield f"`{method} {path}` · `{operation['operationId']}`{scope}"
    if "description" in operation:
        yield re.sub(r"\s*Scope: `[\w:]+`\.\s*$", "", str(operation["description"]))
    fields = [
        (each["name"], each.get("description", ""), each["schema"])
        for each in operation.get("parameters", [])
        if each["in"] == "query"
    ]
    fields += [
        (name, each.get("description", ""), each)
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for name, each in _resolved(content["schema"], document).get("properties", {}).items()
    ]
    if fields:
        rows = [f"| `{name}` | {_type(schema)} | {_cell(text)} |" for name, text, schema in fields]
        yield "\n".join(["| parameter or key | type | meaning |", "|---|---|---|", *rows])
    reasons = {
        reason
        for status, response in operation["responses"].items()
        if status >= "400"
        for reason in re.findall(r"- `([A-Z_]+)`", response.get("description", ""))
    } - COMMON
    if reasons:
        yield f"Errors: {', '.join(f'`{each}`' for each in sorted(reasons))}."


COMMON = {
    *("AUTHENTICATION_REQUIRED", "INVALID_CREDENTIALS", "SCOPE_MISSING", "HOST_NOT_LOCAL", "PROXY_NOT_ALLOWED"),
    *("ORIGIN_NOT_ALLOWED", "TOO_MANY_FAILURES", "REQUEST_TIMEOUT", "REQUEST_ENTITY_TOO_LARGE", "JSON_REQUIRED"),
    *("CONTENT_ENCODING_UNSUPPORTED", "INVALID_JSON", "INVALID_BODY", "INVALID_QUERY"),
}
"""Reasons that nearly every operation has; the page names them once."""


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][reference] if reference else schema


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return "object"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


async def _tried(method: str, path: str) -> str:
    """Make the example's request of an operation, and return it with its response as they are printed."""
    name = f"{method} {path}"
    kind = path.split("/")[2] if path.count("/") > 1 else ""
    plain = Example(path.replace("{id}", IDS.get(kind, "")).replace("{channel}", "p1"))
    example = EXAMPLES.get(name, plain)
    headers = _headers(example.path)
    if path.endswith("media_stream") or path == "/v1.0/events":
        command = f'websocat -H "Authorization: Bearer $TOKEN" "ws://127.0.0.1:8080{example.path}"'
        headers |= UPGRADE
    else:
        command = _curl(method, example)
    body: dict[str, Any] = {} if example.body is None else {"json": example.body}
    if example.form:
        body = {"data": example.form}
    async with _client() as client, client.request(method, example.path, headers=headers, **body) as response:
        if response.status >= 400:
            raise AssertionError(f"{name}: {response.status} {await response.text()}")
        text = "" if response.status == 101 else await response.text()
        return f"```sh\n{command}\n```\n\n{_response(name, response.status, response.content_type, text)}"


def _curl(method: str, example: Example) -> str:
    """Return a request as a command of curl, which sends POST by itself when there is a body."""
    sent = example.body is not None or example.form
    verb = "" if method == ("POST" if sent else "GET") else f" -X {method}"
    form = "".join(f" -d {key}={value}" for key, value in example.form.items())
    body = "" if example.body is None else f" --json '{pretty(example.body)}'"
    url = example.path.replace(TOKEN, "$TOKEN")
    return f'curl -s{verb}{_shown_headers(example.path)}{form} "$BRIDGE{url}"{body}'


def _response(name: str, status: int, kind: str, text: str) -> str:
    if status == 101:
        return "Response: 101, then WebSocket messages."
    if name in UNSHOWN:
        return f"Response: {status}, {UNSHOWN[name]}."
    if kind != "application/json":
        return f"Response: {status}, {f'`{kind}`' if text else 'empty'}."
    value = json.loads(_steady(text))
    if "mute_direction" in value and name != "GET /v1.0/calls/{id}":
        return f"Response: {status}, the call as `GET /v1.0/calls/{{id}}` shows it."
    return f"Response: {status}\n\n```json\n{pretty(value)}\n```"


def _shown_headers(path: str) -> str:
    if path.startswith("/2010"):
        return ' -u "$ACCOUNT:$AUTH_TOKEN"'
    if path.startswith("/v1/"):
        return ' -H "x-api-key: $API_KEY"'
    return "" if path.startswith("/openapi/") else ' -H "Authorization: Bearer $TOKEN"'


def _steady(text: str) -> str:
    for pattern, instead in CHANGING:
        text = re.sub(pattern, instead, text)
    return text


def pretty(value: object, indent: int = 0) -> str:
    """Return JSON in which what fits into a line is in one line."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + indent <= WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    pad = " " * (indent + 1)
    if isinstance(value, list):
        inner = [pad + pretty(each, indent + 1) for each in value]
        return "[\n" + ",\n".join(inner) + "\n" + " " * indent + "]"
    inner, line = [], ""
    for key, each in value.items():
        part = f"{json.dumps(key)}: {pretty(each, indent + 1)}"
        if "\n" in part:
            inner += [line] if line else []
            inner.append(part)
            line = ""
        elif line and len(line) + len(part) + 2 + indent > WIDTH:
            inner.append(line)
            line = part
        else:
            line = f"{line}, {part}" if line else part
    inner += [line] if line else []
    return "{\n" + ",\n".join(pad + each for each in inner) + "\n" + " " * indent + "}"
