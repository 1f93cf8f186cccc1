"""Requests to other servers, against a real one that misbehaves; and flows of the configuration."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from bridge import __version__
from bridge.config import Config, each_error, load
from bridge.errors import ConfigError
from bridge.events.signing import signature
from bridge.flows.action_registry import DEFINITIONS
from bridge.flows.flow_config import flows_of, signing_keys
from bridge.flows.syntax import parse
from bridge.flows.voxology import TYPES
from bridge.flows.web import ServerResponse, Web, WebFailed
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Policy
from bridge.tls import Trust
from tests.fakes.virtual_time import pass_time

ANYWHERE = Gate(Policy(allow=["localhost"]))
DOCS = Path(__file__).parents[3] / "docs/reference/flows.md"


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/echo":
                said = {"method": request.method, "body": await request.text(), "agent": request.headers["User-Agent"]}
                return web.json_response({**said, "type": request.headers.get("Content-Type")})
            case "/headers":
                return web.json_response({name.lower(): value for name, value in request.headers.items()})
            case "/to":
                return web.Response(status=int(request.query["status"]), headers={"Location": request.query["to"]})
            case "/slow":
                await pass_time(30)
            case "/large":
                return web.Response(body=b"x" * 2000)
            case "/packed":
                return web.Response(body=b"\x1f\x8b not unpacked", headers={"Content-Encoding": "gzip"})
            case "/loop":
                raise web.HTTPFound("/loop")
            case "/moved":
                raise web.HTTPTemporaryRedirect("/echo")
            case "/cookie":
                answer = web.Response(text=request.headers.get("Cookie", "none"))
                answer.set_cookie("a", "b")
                return answer
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_requests_and_answers() -> None:
    asking = Web(ANYWHERE, timeout_s=5)
    async with server() as url:
        answer = await asking.ask("POST", f"{url}/echo", body=b"hi", headers={"Content-Type": "text/plain"})
        assert answer.json() == {
            "method": "POST",
            "body": "hi",
            "agent": f"asterisk-bridge/{__version__}",
            "type": "text/plain",
        }
        assert (await asking.ask("POST", f"{url}/moved", body=b"again")).json()["body"] == "again"
        missing = await asking.ask("GET", f"{url}/missing")
        assert missing.status == 404
        with pytest.raises(WebFailed, match="responded with status 404"):
            missing.json()
        assert (await asking.ask("GET", f"{url}/packed")).text.endswith("not unpacked")
        assert [(await asking.ask("GET", f"{url}/cookie")).text for _ in range(2)] == ["none", "none"]
        await asking.close()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("NaN", "NaN is not a JSON number"),
        ("1e999", "too large"),
        ("9" * 101, "more than 100 digits"),
        ('"\\ud800"', ""),
    ],
)
def test_a_flow_is_strict_json_whether_fetched_or_in_a_file(tmp_path: Path, number: str, reason: str) -> None:
    text = f'[{{"type": "variable_set", "option": {{"key": "a", "value": {number}}}}}]'
    with pytest.raises(WebFailed, match=f"not JSON: .*{reason}"):
        ServerResponse(200, text.encode()).json()
    (tmp_path / "flow.json").write_text(text)
    with pytest.raises(ConfigError, match=f"not valid JSON: .*{reason}"):
        flows_of(configured(tmp_path, f'[[flows]]\nid = "a"\nfile = "{tmp_path}/flow.json"\n'))


async def test_a_credential_is_not_taken_along_to_where_a_redirect_leads() -> None:
    asking = Web(ANYWHERE, timeout_s=5)
    async with server() as url:
        with pytest.raises(WebFailed, match="HTTP status 307: redirects are not followed") as failed:
            await asking.ask("POST", f"{url}/moved", body=b"x", secrets={"X-Api-Key": "secret"})
        assert "secret" not in str(failed.value)
        assert (await asking.ask("POST", f"{url}/echo", secrets={"X-Api-Key": "secret"})).status == 200
    await asking.close()


async def test_time_size_and_redirects_are_bounded_and_no_secret_is_told() -> None:
    asking = Web(ANYWHERE, timeout_s=0.3, max_answer_bytes=1000)
    async with server() as url:
        for place, reason in (
            ("/slow?key=secret", "no response within 0.3 s"),
            ("/large", "larger than 1000 bytes"),
            ("/loop", "redirects more than 5 times"),
        ):
            with pytest.raises(WebFailed, match=re.escape(reason)) as failed:
                await asking.ask("GET", url + place)
            assert "secret" not in str(failed.value)
    with pytest.raises(WebFailed, match=r"127\.0\.0\.1:1/"):
        await asking.ask("GET", "http://127.0.0.1:1/?key=secret")
    for wrong in ("http://[::1", "http://a:99999/", "nothing"):
        with pytest.raises(WebFailed):
            await asking.ask("GET", wrong)
    with pytest.raises(WebFailed):
        await asking.ask("GET", "https://127.0.0.1:1/", trust=Trust(ca_file="/nowhere.pem"))
    await asking.close()


def configured(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "bridge.toml"
    path.write_text(f'[ari]\nuser = "u"\npassword = "p"\n{text}')
    return load(path, {})


def test_flows_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "flow.json").write_text(json.dumps({"actions": [{"type": "SAY", "params": {"text": "hi"}}]}))
    config = configured(
        tmp_path,
        f"""
        [[flows]]
        id = "inline"
        match = ["7*", "sales"]
        actions = [{{type = "talk", option = {{text = "hi"}}}}]
        [[flows]]
        id = "file"
        file = "{tmp_path}/flow.json"
        [[flows]]
        id = "url"
        url = "https://app.example/flow"
        auth_value = "Bearer secret"
        """,
    )
    inline, file, url = flows_of(config)
    assert inline.matches(["", "750"])
    assert inline.matches(["sales"])
    assert not inline.matches(["", "850"])
    assert not file.matches(["750"])
    assert file.program is not None
    assert file.program.syntax == "voxology"
    assert url.program is None
    assert url.config.headers == {"Authorization": "Bearer secret"}
    assert "Bearer secret" not in repr(url)


WRONG = [
    ('id = "a"', "flows.0.actions", "is empty, and so are file and url"),
    ('id = "a"\nurl = "https://x/"\nfile = "f"', "flows.0.url", "is set, and so is file"),
    ('id = "a"\nurl = "https://u:pw@x/"', "flows.0.url", "auth_key"),
    ('id = "a"\nurl = "ws://x/"', "flows.0.url", "http://"),
    ('id = "a"\nactions = [{type = "tlak"}]', "flows.0", "actions[0].type: unknown action 'tlak'"),
    ('id = "a"\nactions = [1]', "flows.0", "actions[0]: expected an object"),
    ('id = "a"\nfile = "/nowhere.json"', "flows.0.file", "cannot be read"),
    (
        'id = "a"\nactions = [{type = "beep"}]\n[voxology]\nflow = "b"',
        "voxology.flow",
        "is not a flow; [[flows]] has a",
    ),
    ('id = "a"\nactions = [{type = "beep"}]\n[voxology]\napi_key = "short"', "voxology.api_key", "at least 16"),
    ('id = "a"\nactions = [{type = "beep"}]\n[[flows]]\nid = "a"\nurl = "https://x/"', "flows.1.id", "is also the id"),
]


@pytest.mark.parametrize(("text", "key", "reason"), WRONG, ids=range(len(WRONG)))
def test_wrong_flows_are_refused_with_key_and_reason(tmp_path: Path, text: str, key: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        flows_of(configured(tmp_path, f"[[flows]]\n{text}\n"))
    first = each_error(refused.value)[0]
    assert first.key == key
    assert reason in first.reason
    assert "pw" not in str(refused.value)


def test_the_documentation_names_every_action_and_its_examples_can_be_run() -> None:
    text = DOCS.read_text()
    for name, definition in DEFINITIONS.items():
        assert definition.internal or f"`{name}`" in text, name
        for option, info in {} if definition.internal else definition.options.model_fields.items():
            known = text + (DOCS.parent / "streams-in-flows.md").read_text()
            assert (info.alias or option) in known, (name, option)
    for word in TYPES:
        assert f"`{word}`" in text, word
    bodies = re.findall(r"-d '(\{.*?\})'\n```", text, re.DOTALL)
    assert bodies
    for body in bodies:
        parsed: Any = parse(json.loads(body)["actions"])
        assert parsed.actions


async def test_requests_are_signed_with_the_secret_of_their_flow(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        """
        [outbound]
        signing_secret = "a-secret-for-all-flows"
        [[flows]]
        id = "own"
        url = "https://app.example/flow"
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        [[flows]]
        id = "none"
        url = "https://app.example/flow"
        """,
    )
    assert "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" not in repr(config)
    keys = signing_keys(config)
    # The verifier's clock: it looks at the real one, whatever the test's loop does.
    asking = Web(ANYWHERE, timeout_s=5, keys=keys, clock=lambda: datetime.now(UTC).timestamp())
    own = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    every = Webhook(base64.b64encode(b"a-secret-for-all-flows").decode())
    seen = set()
    async with server() as url:
        for flow_id, verifier, other in (("own", own, every), ("none", every, own), ("", every, own)):
            for method, body in (("POST", b'{"call": 1}'), ("GET", None)):
                answer = await asking.ask(method, f"{url}/headers", body=body, flow_id=flow_id)
                headers = answer.json()
                seen.add(headers["webhook-id"])
                if body is None:
                    signed = (headers["webhook-id"], int(headers["webhook-timestamp"]), b"")
                    assert headers["webhook-signature"] == signature(keys[flow_id if flow_id == "own" else ""], *signed)
                    continue
                verifier.verify(body, headers)
                for wrong, altered in ((other, body), (verifier, body + b" ")):
                    with pytest.raises(WebhookVerificationError):
                        wrong.verify(altered, headers)
        assert len(seen) == 6
        unsigned = Web(ANYWHERE, timeout_s=5)
        assert not [name for name in (await unsigned.ask("GET", f"{url}/headers")).json() if name.startswith("webhook")]
        await unsigned.close()
        # To another server a redirect takes no signature along; nor does one that changes the request.
        async with server() as other_url:
            for to, status, expected in ((url, 307, True), (other_url, 307, False), (url, 302, False)):
                place = f"{url}/to?status={status}&to={to}/headers"
                headers = (await asking.ask("POST", place, body=b"x", headers={"Accept": "a/b"})).json()
                assert ("webhook-signature" in headers) is expected
                assert headers["accept"] == "a/b"
                moved_to = (await asking.ask("GET", place)).moved_to
                assert moved_to == (f"{to}/headers" if to == other_url else "")
    await asking.close()
