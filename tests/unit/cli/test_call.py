"""``asterisk-bridge call``: what its arguments mean, and its errors if no bridge runs."""

import asyncio
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.cli import call as dialer
from bridge.cli import main as cli
from bridge.config import Config, HttpConfig


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("1001", "extension", "1001"),
        ("alice.desk", "extension", "alice.desk"),
        ("+493012345", "tel", "+493012345"),
        ("tel:030123", "tel", "030123"),
        ("sip:alice@example.org", "sip", "sip:alice@example.org"),
        ("conference:sales", "conference", "sales"),
    ],
)
def test_destinations(text: str, kind: str, target: str) -> None:
    assert dialer.address(text) == {"type": kind, "target": target}


@pytest.mark.parametrize("text", ["", "a b", "tel:", "mailto:a@b", "+49 30", "1001;rm"])
def test_what_is_no_destination(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a destination|nothing follows"):
        dialer.address(text)


def test_actions_from_arguments_keep_their_order() -> None:
    assert [action["type"] for action in dialer.actions_of(["a", "b"], ["http://x/y.wav"], None)] == [
        "talk",
        "talk",
        "play",
    ]
    assert dialer.actions_of([], [], None) == [{"type": "talk", "option": {"text": dialer.GREETING}}]


def test_actions_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    for body in ([{"type": "answer"}], {"actions": [{"type": "answer"}]}):
        file.write_text(json.dumps(body))
        assert dialer.actions_of([], [], file) == [{"type": "answer"}]
    for wrong in ("{", '{"action": 1}', '"answer"'):
        file.write_text(wrong)
        with pytest.raises(ValueError, match=r"flow\.json"):
            dialer.actions_of([], [], file)
    with pytest.raises(ValueError, match="No such file"):
        dialer.actions_of([], [], tmp_path / "none.json")


def test_the_address_of_a_bridge_that_listens_everywhere() -> None:
    assert dialer.base_url(Config(http=HttpConfig(host="0.0.0.0", port=81))) == "http://127.0.0.1:81"
    assert dialer.base_url(Config(http=HttpConfig(host="::", port=81))) == "http://[::1]:81"


def test_a_bridge_that_is_not_there(capsys: pytest.CaptureFixture[str], unused_tcp_port: int) -> None:
    assert cli.main(["call", "1001", "--url", f"http://127.0.0.1:{unused_tcp_port}"], {}) == 1
    assert f"cannot connect to 127.0.0.1:{unused_tcp_port}" in capsys.readouterr().err


def test_the_address_and_the_token_in_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, unused_tcp_port: int
) -> None:
    environ = {"BRIDGE_URL": f"http://127.0.0.1:{unused_tcp_port}/", "BRIDGE_TOKEN": "of the environment"}
    assert cli.main(["call", "1001"], environ) == 1
    assert f"cannot connect to 127.0.0.1:{unused_tcp_port}" in capsys.readouterr().err
    file = tmp_path / "bridge.toml"
    file.write_text('[http]\nport = 1\n[ari]\nuser = "bridge"\npassword = "secret"\n')
    assert cli.main(["call", "1001", "--config", str(file)], environ) == 1
    assert "cannot connect to 127.0.0.1:1:" in capsys.readouterr().err


class Dialed:
    """A `Dialer` that records where it would send which token."""

    seen: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, url: str, token: str, *, tls: None) -> None:  # noqa: ARG002
        self.seen.append((url, token))

    async def run(self, _: object) -> int:
        return 0


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        ((), {}, ("http://127.0.0.1:8081", "of-the-container-0123")),
        ((), {"BRIDGE_TOKEN": "another"}, ("http://127.0.0.1:8081", "another")),
        ((), {"BRIDGE_URL": "http://pbx.example:8080"}, ("http://pbx.example:8080", "")),
        (("--url", "http://pbx.example:8080"), {}, ("http://pbx.example:8080", "")),
    ],
)
def test_an_instance_that_is_configured_by_environment_variables(
    arguments: Sequence[str], variables: dict[str, str], expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer, "Dialer", Dialed)
    monkeypatch.setattr(Dialed, "seen", [])
    container = {
        "ASTERISK_BRIDGE_HTTP__PORT": "8081",
        "ASTERISK_BRIDGE_HTTP__HOST": "0.0.0.0",
        "ASTERISK_BRIDGE_HTTP__TOKENS": "of-the-container-0123",
        "ASTERISK_BRIDGE_ARI__USER": "bridge",
        "ASTERISK_BRIDGE_ARI__PASSWORD": "secret",
    }
    assert cli.main(["call", "1001", *arguments], container | variables) == 0
    assert Dialed.seen == [expected]


def test_variables_of_kubernetes_configure_no_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "Dialer", Dialed)
    monkeypatch.setattr(Dialed, "seen", [])
    environ = {"ASTERISK_BRIDGE_SERVICE_HOST": "10.0.0.7", "ASTERISK_BRIDGE_PORT": "tcp://10.0.0.7:8080"}
    assert cli.main(["call", "1001"], environ) == 0
    assert [url for url, _ in Dialed.seen] == ["http://127.0.0.1:8080"]


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ((), True),
        (("--url", "http://localhost:8080"), True),
        (("--url", "http://[::1]:8080"), True),
        (("--config", "FILE"), True),
        (("--config", "FILE", "--url", "http://pbx.example:8080"), False),
        (("--url", "http://pbx.example:8080"), False),
        (("--url", "not a url"), False),
    ],
)
def test_the_token_of_the_first_start_is_not_sent_elsewhere(
    url: tuple[str, ...], sent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "of-the-first-start-0123"
    (tmp_path / "asterisk-bridge").mkdir()
    (tmp_path / "asterisk-bridge" / "token").write_text(token)
    monkeypatch.setattr(dialer, "Dialer", Dialed)
    monkeypatch.setattr(Dialed, "seen", [])
    file = tmp_path / "bridge.toml"
    file.write_text('[http]\nhost = "192.0.2.1"\n[ari]\nuser = "bridge"\npassword = "secret"\n')
    url = tuple(str(file) if each == "FILE" else each for each in url)
    assert cli.main(["call", "1001", *url], {"XDG_STATE_HOME": str(tmp_path)}) == 0
    assert [sent_token for _, sent_token in Dialed.seen] == [token if sent else ""]


def test_one_flow_and_not_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["call", "1001", "--talk", "a", "--flow", "b"], {}) == 2
    assert "--talk" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("end", "line"),
    [
        ({"hangup_reason": "normal", "hangup_detail": ""}, "over: normal"),
        (
            {"hangup_reason": "failed", "hangup_detail": "no such extension: 1099"},
            "over: failed (no such extension: 1099)",
        ),
        (
            {"hangup_reason": "forwarded", "hangup_detail": "SIP response 302", "forwarded_to": "1002"},
            "over: forwarded (SIP response 302, forwarded to 1002)",
        ),
    ],
)
async def test_why_a_call_has_ended_is_told(end: dict[str, str], line: str) -> None:
    assert (await told([{"type": "call_hangup", "data": {"id": "c1", **end}}]))[-1] == line


async def test_an_action_that_failed_is_told_as_such() -> None:
    action = {"call_id": "c1", "type": "play", "index": 0}
    events: list[dict[str, Any]] = [
        {"type": "flow_action", "data": {**action, "reason": ""}},
        {"type": "flow_action", "data": {**action, "reason": "failed: x.wav: answered 404"}},
        {"type": "call_hangup", "data": {"id": "c1", "hangup_reason": "normal"}},
    ]
    assert await told(events) == [
        *("calling 1001 (c1)", "action 1: play", "action 1: play failed: x.wav: answered 404", "over: normal")
    ]


@pytest.mark.parametrize(
    ("status", "found", "line"),
    [
        (200, {"id": "c1", "status": "hangup", "hangup_reason": "busy"}, "over: busy"),
        (404, {}, "over: unknown"),
        (200, {"id": "c1", "status": "ringing"}, "over: normal"),
        (503, {}, "over: normal"),
    ],
)
async def test_a_call_is_followed_when_the_bridge_is_restarted(
    status: int, found: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer, "RETRY_S", 0.0)
    end = {"type": "call_hangup", "data": {"id": "c1", "hangup_reason": "normal"}}
    ringing = {"type": "call_ringing", "data": {"id": "c1"}}
    lines = await told([ringing], again=[end], found=(status, found))
    assert lines == ["calling 1001 (c1)", "ringing", "connection lost, connecting again", "connected again", line]


@pytest.mark.parametrize("failure", [503, 500, None])
async def test_a_call_that_ended_during_a_restart_is_over_when_the_bridge_knows_its_calls(
    failure: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It responds with 503 until it has queried Asterisk, and sends no event about a call that ended before."""
    monkeypatch.setattr(dialer, "RETRY_S", 0.0)
    async with asyncio.timeout(30):
        lines = await told([], again=[], unavailable=2, failure=failure)
    assert lines[-2:] == ["connected again", "over: unknown"]


async def test_a_bridge_that_closes_each_connection_immediately_is_not_asked_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialer, "RETRY_S", 0.2)
    end = {"type": "call_hangup", "data": {"id": "c1", "hangup_reason": "normal"}}
    time = asyncio.get_running_loop().time
    began = time()
    lines = await told([], again=[end], found=(200, {"id": "c1", "status": "ringing"}), closed=5)
    assert lines.count("connection lost, connecting again") == 6
    assert time() - began >= 6 * 0.2


async def test_a_bridge_that_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "RETRY_S", 0.0)
    monkeypatch.setattr(dialer, "RECONNECT_S", 0.1)
    with pytest.raises(dialer.CallFailed, match="the call may continue"):
        await told([], again=None)


async def told(
    events: list[dict[str, Any]],
    *,
    again: Sequence[dict[str, Any]] | None = (),
    found: tuple[int, dict[str, Any]] = (404, {}),
    unavailable: int = 0,
    failure: int | None = 503,
    closed: int = 0,
) -> list[str]:
    """Return what the command prints while a bridge sends these events about its call.

    Args:
        again: what it sends over a second connection; None: it refuses that. By default the first one stays.
        found: status and body of the call after that.
        unavailable: how many requests for it fail before.
        failure: the status of these; None: the connection breaks.
        closed: how many connections after the first are closed immediately.
    """
    connections, looks, placed, looked = 0, 0, asyncio.Event(), asyncio.Event()

    async def get(request: web.Request) -> web.Response:
        nonlocal looks
        looks += 1
        looked.set()
        if looks <= unavailable:
            if failure is None:
                assert request.transport is not None
                request.transport.close()
            return web.Response(status=failure or 500)
        return web.json_response(found[1], status=found[0])

    async def place(_: web.Request) -> web.Response:
        asyncio.get_running_loop().call_later(0.1, placed.set)
        return web.json_response({"calls": [{"id": "c1", "destination": {"target": "1001"}}]})

    async def tell(request: web.Request) -> web.WebSocketResponse:
        nonlocal connections
        connections += 1
        if connections > 1 and again is None:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if 1 < connections <= 1 + closed:
            return socket
        if connections > 1:
            await looked.wait()
        for event in events if connections == 1 else again or ():
            await socket.send_json(event)
        if connections > 1 or again == ():
            await socket.receive()
        else:
            await placed.wait()
        return socket

    application = web.Application()
    application.add_routes(
        [web.post("/v1.0/calls", place), web.get("/v1.0/calls/c1", get), web.get("/v1.0/events", tell)]
    )
    out = io.StringIO()
    async with TestServer(application) as server:
        assert await dialer.Dialer(str(server.make_url("")), "", out).run({}) == 1
    return [line.partition(" s  ")[2] for line in out.getvalue().splitlines()]


def test_a_destination_that_is_none_is_an_error_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["call", "a b"], {}) == 2
    assert "'a b'" in capsys.readouterr().err
