"""``serve`` as a process: its output, how it ends. None of this needs an Asterisk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bridge.api.tokens import hash_of
from tests.fakes.dialed import dial

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}

TOKEN = "a-token-nobody-guesses"
OTHER = "another-token-nobody-guesses"
ENV = {
    "ASTERISK_BRIDGE_ARI__URL": "http://127.0.0.1:9",
    "ASTERISK_BRIDGE_ARI__USER": "bridge",
    "ASTERISK_BRIDGE_ARI__PASSWORD": "a secret word",
    "ASTERISK_BRIDGE_HTTP__PORT": "0",
    "ASTERISK_BRIDGE_AUDIOSOCKET__BIND_PORT": "0",
    "ASTERISK_BRIDGE_STREAMS__STATE_FILE": ":memory:",
}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory in which it keeps its state."""
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setitem(ENV, "STATE_DIRECTORY", str(folder))
    return folder


@contextlib.asynccontextmanager
async def serving(*arguments: str, **changes: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "serve", *arguments), env=ENV | changes, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def read_until(process: asyncio.subprocess.Process, words: str) -> str:
    """Return its standard error up to the line that contains ``words``."""
    assert process.stderr
    text = ""
    async with asyncio.timeout(20):
        while words not in text:
            line = await process.stderr.readline()
            assert line, f"ended without saying {words!r}: {text}"
            text += line.decode()
    return text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_listens_and_ends_at_a_signal(number: signal.Signals) -> None:
    async with serving() as process:
        said = await read_until(process, "no token configured")
        port = re.search(r"listening url=http://127\.0\.0\.1:([0-9]+)", said)
        assert port
        reader, writer = await dial("127.0.0.1", int(port[1]))
        writer.write(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert b" 503 " in await reader.readline()
        writer.close()
        process.send_signal(number)
        said += await read_until(process, "stopped")
        assert await process.wait() == 0
    assert "Traceback" not in said
    assert "secret" not in said


async def test_tokens_are_counted_not_shown() -> None:
    async with serving(ASTERISK_BRIDGE_HTTP__TOKENS=TOKEN) as process:
        said = await read_until(process, "tokens accepted count=1")
    assert TOKEN not in said


@pytest.mark.parametrize(("streams", "warns"), [("1", False), ("100000", True)])
async def test_it_warns_when_it_may_open_too_few_files(streams: str, warns: bool) -> None:
    async with serving(
        ASTERISK_BRIDGE_MEDIA__MAX_STREAMS=streams, ASTERISK_BRIDGE_HTTP__MAX_CONNECTIONS="1"
    ) as process:
        said = await read_until(process, "no token configured")
    assert ("too few open files allowed" in said) == warns


@pytest.mark.parametrize("key", ["HTTP__PORT", "AUDIOSOCKET__BIND_PORT"])
async def test_a_port_that_is_taken(key: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        async with serving(**{f"ASTERISK_BRIDGE_{key}": port}) as process:
            assert process.stderr
            said = (await process.stderr.read()).decode()
            assert await process.wait() == 1
    assert f"asterisk-bridge: {key.lower().replace('__', '.')}: 127.0.0.1:{port} is already in use" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("key", ["HTTP__PORT", "AUDIOSOCKET__BIND_PORT"])
async def test_a_port_that_is_taken_ends_all_workers(key: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        async with serving(**{"ASTERISK_BRIDGE_WORKERS__COUNT": "2", f"ASTERISK_BRIDGE_{key}": port}) as process:
            assert process.stderr
            said = (await asyncio.wait_for(process.stderr.read(), 30)).decode()
            assert await process.wait() == 1
    assert f"asterisk-bridge: {key.lower().replace('__', '.')}: 127.0.0.1:{port} is already in use" in said
    assert "Traceback" not in said


async def test_a_worker_that_dies_is_started_again() -> None:
    async with serving(ASTERISK_BRIDGE_WORKERS__COUNT="2") as process:
        said = await read_until(process, "no token configured")
        (pid,) = re.findall(r"worker started worker=2 pid=(\d+)", said)
        os.kill(int(pid), signal.SIGKILL)
        said = await read_until(process, "worker started worker=2 pid=")
        assert f'worker ended worker=2 pid={pid} reason="signal SIGKILL"' in said
        process.send_signal(signal.SIGTERM)
        said += await read_until(process, "INFO bridge.cli stopped")
        assert await process.wait() == 0
    assert "Traceback" not in said


def port_in(said: str) -> int:
    found = re.search(r"listening url=https?://127\.0\.0\.1:([0-9]+)", said)
    assert found
    return int(found[1])


async def status(port: int, token: str, path: str = "/v1.0/streams") -> int:
    """Return the status of a request, over a connection of its own."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as response,
    ):
        return response.status


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_first_start_creates_a_token_and_the_next_one_finds_it(state: Path, workers: str) -> None:
    async with serving(ASTERISK_BRIDGE_WORKERS__COUNT=workers) as process:
        said = await read_until(process, "no token configured")
        token = (state / "token").read_text().strip()
        assert str(state / "token") in said
        assert token not in said  # it is not a terminal
        assert (state / "token").stat().st_mode & 0o777 == 0o600
        assert len(token) == 43
        port = port_in(said)
        assert [await status(port, each) for each in (token, "", TOKEN)] == [200, 401, 401]
    async with serving() as process:
        port = port_in(await read_until(process, "no token configured"))
        assert await status(port, token) == 200
    assert (state / "token").read_text().strip() == token


async def test_where_no_token_can_be_kept_it_says_what_to_do(state: Path) -> None:
    state.parent.joinpath("file").write_text("")
    async with serving(STATE_DIRECTORY=str(state.parent / "file" / "below")) as process:
        assert process.stderr
        said = (await process.stderr.read()).decode()
        assert await process.wait() == 2
    assert "http.tokens: is empty, and a token cannot be stored in" in said
    assert "STATE_DIRECTORY" in said


async def test_a_file_that_holds_no_token_is_named(state: Path) -> None:
    (state / "token").write_text("aaaaaaaaaaaaaaaaaaaaaaaaaa\n")
    async with serving() as process:
        assert process.stderr
        said = (await process.stderr.read()).decode()
        assert await process.wait() == 2
    assert f"{state / 'token'}: does not contain a token" in said


async def test_authentication_can_be_switched_off_on_loopback() -> None:
    async with serving(ASTERISK_BRIDGE_HTTP__AUTHENTICATION="false") as process:
        port = port_in(await read_until(process, "http.authentication is false"))
        assert await status(port, "") == 200


def written(file: Path, *tokens: str, wrong: str = "") -> None:
    """Write the configuration of a bridge with some tokens, each with its first letters for an id."""
    tables = "".join(
        f'[[tokens]]\nid = "{each.partition("-")[0]}"\nhash = "sha256:{hash_of(each)}"\nscopes = ["admin"]\n'
        for each in tokens
    )
    file.write_text(wrong + tables)


async def open_events(session: aiohttp.ClientSession, port: int, token: str) -> aiohttp.ClientWebSocketResponse:
    headers = {"Authorization": f"Bearer {token}"}
    return await session.ws_connect(f"http://127.0.0.1:{port}/v1.0/events", headers=headers)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sighup_reloads_tokens_and_only_what_a_revoked_one_opened_ends(tmp_path: Path, workers: str) -> None:
    file = tmp_path / "bridge.toml"
    written(file, TOKEN, OTHER)
    async with (
        serving("--config", str(file), ASTERISK_BRIDGE_WORKERS__COUNT=workers) as process,
        aiohttp.ClientSession() as session,
    ):
        port = port_in(await read_until(process, "tokens accepted count=2"))
        stays, ends = await open_events(session, port, TOKEN), await open_events(session, port, OTHER)

        written(file, TOKEN, wrong="[htpp]\n")
        process.send_signal(signal.SIGHUP)
        said = await read_until(process, "reload failed, nothing has changed")
        assert "htpp" in said
        assert [await status(port, each) for each in (TOKEN, OTHER)] == [200, 200]

        new = "third-token-nobody-guesses"
        written(file, TOKEN, new)
        process.send_signal(signal.SIGHUP)
        said = await read_until(process, "tokens reloaded")
        while said.count("tokens reloaded") < int(workers):
            said += await read_until(process, "tokens reloaded")
        assert "revoked=another" in said
        for _ in range(4):  # whichever worker gets it
            assert [await status(port, each) for each in (TOKEN, OTHER, new)] == [200, 401, 200]
        async with asyncio.timeout(60):
            message = await ends.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)
        await stays.ping()
        assert not stays.closed
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert (await stays.receive()).data == 1001
        assert await process.wait() == 0


async def test_sighup_without_a_file_is_harmless() -> None:
    async with serving(ASTERISK_BRIDGE_HTTP__TOKENS=TOKEN) as process:
        port = port_in(await read_until(process, "tokens accepted count=1"))
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
        await read_until(process, "tokens reloaded count=1 revoked=none")
        assert await status(port, TOKEN) == 200


def limited(file: Path) -> None:
    """Write the configuration of a bridge with a token for one extension, and one for everything."""
    file.write_text(
        f'[[tokens]]\nid = "few"\nhash = "sha256:{hash_of(OTHER)}"\nscopes = ["calls:read", "events"]\n'
        f'extensions = ["1001"]\n'
        f'[[tokens]]\nid = "all"\nhash = "sha256:{hash_of(TOKEN)}"\nscopes = ["admin"]\n'
    )


async def test_workers_pass_on_whose_a_request_is(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    limited(file)
    async with serving("--config", str(file), ASTERISK_BRIDGE_WORKERS__COUNT="2") as process:
        port = port_in(await read_until(process, "tokens accepted count=2"))
        url, answered = f"http://127.0.0.1:{port}/v1.0/subscriptions", set[str]()
        body = {"url": "wss://app.example/x", "dialect": "yeastar", "extensions": ["9"], "enabled": False}
        for number in range(24):  # changed by one of them, whichever gets it
            async with aiohttp.ClientSession() as session:
                headers = {"Authorization": f"Bearer {TOKEN}"}
                async with session.post(url, json=body | {"id": f"s-{number}"}, headers=headers) as response:
                    assert response.status == 201, await response.text()
                    answered.add(response.headers["X-Worker"])
                # Only another worker may name the principal of a request.
                forged = {"X-Bridge-Principal": "config 127.0.0.1"}
                async with session.get(url, headers=forged) as response:
                    assert response.status == 401
                async with session.get(url, headers=forged | {"Authorization": f"Bearer {OTHER}"}) as response:
                    assert (response.status, (await response.json())["error"]["reason"]) == (403, "SCOPE_MISSING")
        assert answered == {"1", "2"}
        assert await status(port, OTHER) == 200  # asked of both


async def test_a_ticket_is_good_once_at_any_worker(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    limited(file)
    async with serving("--config", str(file), ASTERISK_BRIDGE_WORKERS__COUNT="2") as process:
        port = port_in(await read_until(process, "tokens accepted count=2"))
        base = f"http://127.0.0.1:{port}"
        issuers = set[str]()
        for _ in range(20):
            async with aiohttp.ClientSession() as session:
                headers = {"Authorization": f"Bearer {OTHER}"}
                async with session.post(f"{base}/v1.0/events/tickets", headers=headers) as response:
                    issuers.add(response.headers["X-Worker"])
                    ticket = (await response.json())["ticket"]
            outcomes = await asyncio.gather(*(opens(f"{base}/v1.0/events?ticket={ticket}") for _ in range(6)))
            assert sorted(outcomes) == [False] * 5 + [True]
        assert issuers == {"1", "2"}


async def opens(url: str) -> bool:
    """Return whether a WebSocket can be opened, over a connection of its own."""
    async with aiohttp.ClientSession() as session, session.get(url, headers=UPGRADE) as response:
        assert response.status in (101, 401)
        return response.status == 101


async def called(port: int, *arguments: str) -> str:
    """Return what ``asterisk-bridge call`` writes to standard error; there is no Asterisk to call anyone."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "call", "1001", "--url", f"http://127.0.0.1:{port}", *arguments),
        env=ENV,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    return said.decode()


async def test_the_call_command_finds_the_token_of_the_first_start(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(TOKEN)
    async with serving() as process:
        port = port_in(await read_until(process, "no token configured"))
        assert "not connected to Asterisk" in await called(port)
        assert "this one is invalid" in await called(port, "--token-file", str(wrong))


RELOADED = """
[http]
tokens = ["a-token-nobody-guesses"]
port = {port}
[log]
level = "{level}"
[pbx.groups]
sales = ["{member}"]
[[subscriptions]]
id = "{name}"
url = "wss://app.example/x"
dialect = "yeastar"
extensions = ["@sales"]
[[dialplan]]
id = "{name}"
match = "*"
url = "wss://app.example/y"
dialect = "twilio"
[[flows]]
id = "{name}"
file = "{flow}"
[[webhooks]]
id = "{name}"
url = "https://hooks.example/"
secret = "sixteen-characters-long"
"""


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sighup_applies_what_can_change_and_names_the_rest(tmp_path: Path, workers: str) -> None:
    file, flow, wrong_flow = tmp_path / "bridge.toml", tmp_path / "flow.json", tmp_path / "wrong.json"
    flow.write_text('[{"type": "answer"}]')
    wrong_flow.write_text('[{"type": "dance"}]')
    values = {"level": "info", "name": "old", "flow": flow, "member": "1001", "port": 0}
    file.write_text(RELOADED.format(**values))
    environ = {name: value for name, value in ENV.items() if not name.endswith("HTTP__PORT")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "serve", "--config", str(file)),
        env=environ | {"ASTERISK_BRIDGE_WORKERS__COUNT": workers},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        port = port_in(await read_until(process, "tokens accepted count=1"))

        async def ids(what: str) -> set[str]:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.get(f"http://127.0.0.1:{port}/v1.0/{what}") as response,
            ):
                return {each["id"] for each in (await response.json())["result"]}

        async def reloaded(words: str, **changes: object) -> str:
            file.write_text(RELOADED.format(**(values | changes)))
            process.send_signal(signal.SIGHUP)
            said = await read_until(process, words)
            while said.count(words) < int(workers):
                said += await read_until(process, words)
            return said

        # An action that does not exist is found in the file of the flow only.
        said = await reloaded("reload failed, nothing has changed", name="new", flow=wrong_flow)
        assert "dance" in said
        for what in ("subscriptions", "flows"):
            assert await ids(what) == {"old"}

        said = await reloaded("require a restart", name="new", port=1, level="debug", member="1002")
        assert "http.port" in said
        assert "log.level" not in said
        for _ in range(4):  # whichever worker responds
            for what in ("subscriptions", "flows"):
                assert await ids(what) == {"new"}
        await read_until(process, " DEBUG ")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def has_loaded(process: asyncio.subprocess.Process, library: str) -> bool:
    """Return whether a process has a library in its memory."""
    return library in Path(f"/proc/{process.pid}/maps").read_text()


async def test_sighup_while_it_starts_is_harmless() -> None:
    async with serving(ASTERISK_BRIDGE_HTTP__TOKENS=TOKEN) as process:
        starting = asyncio.create_task(read_until(process, "tokens accepted count=1"))
        async with asyncio.timeout(20):
            while not has_loaded(process, "pydantic_core"):  # importing: long before the service handles signals
                await asyncio.sleep(0.005)
        while not starting.done():
            process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.02)
        assert await status(port_in(await starting), TOKEN) == 200
