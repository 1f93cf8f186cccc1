"""``asterisk-bridge try`` with real applications: valid ones pass, and each mistake fails its own check."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bridge import dialects
from bridge.audio import tones
from bridge.audio.g711 import ulaw_decode, ulaw_encode
from bridge.dialects.base import CallInfo, Setting
from bridge.media.destination import Destination
from bridge.trial import script
from bridge.trial.checks import Check
from bridge.trial.script import Plan
from bridge.trial.trial import Trial

SPEECH = tones.tone(440, 0.5)
LONG = ulaw_encode(tones.tone(800, 8.0).pcm)

Handler = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for what these applications never do."""
    monkeypatch.setattr(script, "GREETING_S", 0.3)
    monkeypatch.setattr(script, "MAX_TURN_S", 1.0)


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    """Serve an application; yield its URL."""
    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/"


async def tried(handler: Handler, dialect: str = "twilio", *, answer_s: float = 5.0) -> dict[str, Check]:
    """Try an application; return the checks by name."""
    async with served(handler) as url:
        kind = dialects.find(dialect)
        wire = kind.create({}, Setting(kind.default_layout, two_way=True))
        plan = Plan(SPEECH, "5", answer_s, wire.two_way)
        checks = await Trial(wire, Destination(url, configured=True), CallInfo("trial"), plan).run()
    return {check.name: check for check in checks}


def outcomes(checks: dict[str, Check]) -> dict[str, str]:
    """Return the outcome of each check."""
    return {name: check.outcome for name, check in checks.items()}


class Agent:
    """A voice agent in Twilio's format: answers when the caller has spoken.

    Args:
        clears: whether to clear the audio when the caller interrupts.
        answers_digits: whether to respond to DTMF digits.
        answer: audio of the answer, mu-law at 8 kHz.
    """

    def __init__(self, *, clears: bool = True, answers_digits: bool = True, answer: bytes = LONG) -> None:
        self._clears = clears
        self._answers_digits = answers_digits
        self._payload = base64.b64encode(answer).decode()

    async def __call__(self, socket: ServerConnection) -> None:
        """Serve one call."""
        sid, spoke, answered = "", False, False
        async for text in socket:
            message = json.loads(text)
            sid = message.get("streamSid", sid)
            if message["event"] == "dtmf" and self._answers_digits:
                await socket.send(json.dumps({"event": "mark", "streamSid": sid, "mark": {"name": "digit"}}))
            if message["event"] != "media":
                continue
            pcm = ulaw_decode(base64.b64decode(message["media"]["payload"]))
            loud = max(memoryview(pcm).cast("h")) > 1000
            if spoke and not loud and not answered:
                answered = True
                media = {"event": "media", "streamSid": sid, "media": {"payload": self._payload}}
                await socket.send(json.dumps(media))
            elif answered and loud and self._clears:
                await socket.send(json.dumps({"event": "clear", "streamSid": sid}))
            spoke = loud


async def echo(socket: ServerConnection, *, times: int = 1) -> None:
    """Return each message's audio, as often as requested in one payload."""
    async for text in socket:
        message = json.loads(text)
        if message["event"] == "media":
            audio = base64.b64decode(message["media"]["payload"]) * times
            answer = {"event": "media", "streamSid": message["streamSid"]}
            await socket.send(json.dumps(answer | {"media": {"payload": base64.b64encode(audio).decode()}}))


async def test_a_good_agent_passes_every_check() -> None:
    checks = await tried(Agent())
    # Its answer is sent ahead of time in one message, so its rate cannot be judged.
    assert outcomes(checks) == dict.fromkeys(checks, "passed") | {"rate": "not judged"}
    assert "cleared" in checks["interruption"].text


async def test_an_agent_that_talks_on_fails_the_interruption() -> None:
    checks = await tried(Agent(clears=False))
    assert checks["answer"].outcome == "passed"
    assert checks["interruption"].outcome == "failed"
    assert "clear" in checks["interruption"].text


async def test_an_answer_that_ends_by_itself_is_no_reaction_to_the_interruption() -> None:
    checks = await tried(Agent(clears=False, answer=LONG[: 2 * 8000]))
    assert checks["answer"].outcome == "passed"
    assert checks["interruption"].outcome == "not judged"


async def test_an_agent_that_ignores_digits_fails_dtmf() -> None:
    checks = await tried(Agent(answers_digits=False), answer_s=1.5)
    assert checks["dtmf"].outcome == "failed"


async def test_an_echo_passes() -> None:
    async def once(socket: ServerConnection) -> None:
        await echo(socket)

    checks = await tried(once, answer_s=1.5)
    assert "echo" in checks["answer"].text
    assert checks["rate"].outcome == "passed"
    assert checks["interruption"].outcome == "not judged"


async def test_audio_of_twice_the_rate_is_detected() -> None:
    async def twice(socket: ServerConnection) -> None:
        await echo(socket, times=2)  # as much as 16 kHz has

    checks = await tried(twice, answer_s=1.5)
    assert checks["rate"].outcome == "failed"
    assert "8000 Hz" in checks["rate"].text


async def test_a_silent_application_fails_the_answer() -> None:
    async def listen(socket: ServerConnection) -> None:
        async for _ in socket:
            pass

    checks = await tried(listen, answer_s=0.5)
    assert checks["answer"].outcome == "failed"
    assert checks["hangup"].outcome == "passed"


async def test_invalid_messages_are_reported_with_what_is_expected() -> None:
    async def confused(socket: ServerConnection) -> None:
        await socket.send(b"\0" * 320)
        async for _ in socket:
            pass

    checks = await tried(confused, answer_s=0.5)
    assert checks["messages"].outcome == "failed"
    assert "320 bytes" in checks["messages"].text
    assert "media.payload" in checks["messages"].text


async def test_an_application_that_leaves_is_reported() -> None:
    async def leave(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(4000, "no thanks")

    checks = await tried(leave)
    assert checks["answer"].outcome == "failed"
    assert "4000 no thanks" in checks["answer"].text
    assert checks["hangup"].outcome == "not judged"


async def test_an_application_that_ignores_the_close_fails_the_hangup() -> None:
    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import websockets.utils

        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in request.splitlines() if line.lower().startswith("sec-websocket-key"))
        accept = websockets.utils.accept_key(key)
        head = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade")
        writer.write("\r\n".join((*head, f"Sec-WebSocket-Accept: {accept}", "", "")).encode())
        while await reader.read(65536):
            pass
        writer.close()

    server = await asyncio.start_server(stay, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        wire = dialects.find("twilio").create({}, Setting("inbound_track", two_way=True))
        destination = Destination(f"ws://127.0.0.1:{port}/", configured=True)
        checks = await Trial(wire, destination, CallInfo("trial"), Plan(SPEECH, "5", 0.3)).run()
    assert {check.name: check.outcome for check in checks}["hangup"] == "failed"


async def test_a_dialect_of_one_way_is_judged_without_answers() -> None:
    async def listen(socket: ServerConnection) -> None:
        async for _ in socket:
            pass

    checks = await tried(listen, dialect="yeastar")
    judged = dict.fromkeys(("connect", "messages", "hangup"), "passed")
    assert outcomes(checks) == dict.fromkeys(checks, "not judged") | judged


async def command(*arguments: str) -> tuple[int | None, str, str]:
    """Run the command; return its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "try", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode, out.decode(), err.decode()


async def test_the_command_prints_the_exchange_and_the_verdict(tmp_path: Path) -> None:
    sound = tmp_path / "caller.wav"
    import wave

    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(SPEECH.pcm)
    async with served(Agent(clears=False)) as url:
        code, out, err = await command(url, "--dialect", "twilio", "--play", str(sound))
        skipped, _, _ = await command(
            url, "--dialect", "twilio", "--play", str(sound), "--skip", "interruption", "--quiet"
        )
    assert (code, err) == (1, "")
    assert '-> {"event":"start"' in out
    assert "1 message with 8000 ms of audio" in out
    assert "1 of 7 checks failed: interruption" in out
    assert skipped == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("ws://127.0.0.1:9/", "--dialect", "morse"), "unknown dialect 'morse'"),
        (("ftp://127.0.0.1/", "--dialect", "twilio"), "must begin with ws:// or wss://"),
        (("ws://127.0.0.1:9/", "--dialect", "twilio", "--option", "hue=red"), "is not an option"),
        (("ws://127.0.0.1:9/", "--dialect", "twilio", "--play", "/no.wav"), "bridge: /no.wav: No such file"),
        (("ws://127.0.0.1:9/", "--dialect", "twilio", "--digits", "x"), "not a DTMF digit"),
    ],
)
async def test_invalid_arguments_are_explained(arguments: Sequence[str], reason: str) -> None:
    code, _, err = await command(*arguments)
    assert code == 2
    assert reason in err


async def test_an_unavailable_application_fails() -> None:
    code, out, _ = await command("ws://127.0.0.1:9/", "--dialect", "twilio", "--quiet")
    assert code == 1
    assert "connect      failed" in out
