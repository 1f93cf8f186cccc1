"""The clients that VoIPBIN's page prints, as printed, on real calls: what they save, what the phone receives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from bridge.app.application import Application
from bridge.config import HttpConfig, MediaConfig
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import Samples, samples_of, ulaw_bytes, ulaw_samples
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones, configuration, synchronized
from tests.lab.driving import action, client_of, seconds_of
from tests.lab.exact import MOST_STALLED, assert_exact, copies, noise, runs
from tests.lab.seed_programs import SEEDS, node, python, seed
from tests.lab.sink import open_sink
from tests.lab.target import Target
from tests.lab.waiting import sends, until

RATE = 8000
TOKEN = "a-token-for-seeds-0123456789"
PRINTED_HOST = "wss://api.voipbin.net"
PRINTED_ID = "652af662-eb45-11ee-b1a5-6fde165f9226"
PRINTED_TOKEN = "<YOUR_AUTH_TOKEN>"
PRINTED_CONFERENCE = "1ed12456-eb4b-11ee-bba8-1bfb2838807a"
CONFERENCE_URL = (
    "wss://api.voipbin.net/v1.0/conferences/1ed12456-eb4b-11ee-bba8-1bfb2838807a/media_stream?encapsulation=rtp"
    "&token=<YOUR_AUTH_TOKEN>"
)
"""As printed, but for the scheme."""
MAX_QUEUED_MS = 6000
"""Soon full where a client sends faster than it plays."""
PHONES_HZ = (500.0, 900.0)


@pytest.fixture
async def seeded(lab: Lab) -> AsyncIterator[Target]:
    """A bridge that wants a token, as the page's does."""
    media = MediaConfig(max_queued_ms=MAX_QUEUED_MS)
    config = configuration(lab, media=media, calling={"tel_endpoint": "PJSIP/{number}", "context": "media-tap"})
    http = HttpConfig(port=0, tokens=(SecretStr(TOKEN),))
    async with Application(config.model_copy(update={"http": http})) as bridge:
        target = Target(lab, f"http://127.0.0.1:{bridge.http_port}", TOKEN, bridge)
        await synchronized(target)
        yield target
        await target.nothing_left()


def replaced(target: Target, call_id: str) -> dict[str, str]:
    """Return the printed text with the replacements."""
    host = f"ws{target.url.removeprefix('http')}"
    return {PRINTED_HOST: host, PRINTED_ID: call_id, PRINTED_TOKEN: TOKEN}


async def called(target: Target, alice: Phone, play: Samples) -> str:
    """Have a phone call the application of the bridge; return the call's id."""
    await alice.call("750", play=play)
    await alice.answered()
    return str((await target.call_from("1001"))["id"])


def pcm(samples: Samples) -> bytes:
    return samples.astype("<i2").tobytes()


@pytest.mark.parametrize("name", [path.name for path in (SEEDS / "indented").iterdir()])
def test_the_indented_programs_have_the_printed_lines(name: str) -> None:
    indented = (SEEDS / "indented" / name).read_text().splitlines()
    assert sorted(line.strip() for line in indented) == sorted((SEEDS / name).read_text().splitlines())


async def test_the_node_client_saves_what_the_phone_says_as_bare_audio(
    seeded: Target, phones: Phones, tmp_path: Path
) -> None:
    """``received_audio.pcm`` is 16-bit audio from its first byte, and ``audio.pcm`` is played whole."""
    (alice,) = await phones("1001")
    speech = noise(3, RATE)
    (tmp_path / "audio.pcm").write_bytes(pcm(speech))
    call_id = await called(seeded, alice, noise(60, RATE, seed=2))
    async with node(tmp_path, seed("voipbin-audiosocket-client.js", replaced(seeded, call_id))) as client:
        await client.prints("AudioSocket connected")
        await sends(alice, 5)
        await alice.hangup()
        assert await client.ended() == 0
    assert set(client.output.splitlines()) == {"AudioSocket connected", "Received 320 bytes", "AudioSocket closed"}
    assert_exact(alice.sent(), samples_of((tmp_path / "received_audio.pcm").read_bytes()), 4)
    assert_exact(speech, alice.recording(), 3)


async def test_the_browser_client_receives_rtp_and_its_zeros_are_not_heard(
    seeded: Target, phones: Phones, tmp_path: Path
) -> None:
    (alice,) = await phones("1001")
    call_id = await called(seeded, alice, noise(60, RATE))
    script = seed("voipbin-browser-client.js", replaced(seeded, call_id))
    async with node(tmp_path, script, browser=True) as client:
        await client.prints("Media stream connected")
        await sends(alice, 2)
        await alice.hangup()
        assert await client.ended() == 0
    assert set(client.output.splitlines()) == {"Media stream connected", "Received 172 bytes", "Media stream closed"}
    assert np.abs(alice.recording()).max() < 50


async def test_the_python_client_saves_the_payload_of_rtp(seeded: Target, phones: Phones, tmp_path: Path) -> None:
    (alice,) = await phones("1001")
    frame = noise(0.02, RATE, seed=3)
    (tmp_path / "audio_to_inject.raw").write_bytes(ulaw_bytes(frame))
    call_id = await called(seeded, alice, noise(60, RATE))
    async with python(tmp_path, seed("indented/voipbin-rtp-client.txt", replaced(seeded, call_id))) as client:
        await client.prints("Media stream connected")
        await sends(alice, 4)
        await alice.hangup()
        assert await client.ended() == 0
    lines = {"Media stream connected", "Received 172 bytes of audio", f"Error: {LAST_WORDS}", "Connection closed: 1000"}
    assert set(client.output.splitlines()) == lines
    assert_exact(alice.sent(), ulaw_samples((tmp_path / "received_audio.raw").read_bytes()), 3)
    assert [run.samples for run in runs(frame, alice.recording())] == [len(frame)]


CONNECTION = """const WebSocket = require('ws');
const fs = require('fs');
const ws = new WebSocket('wss://api.voipbin.net/v1.0/calls/652af662-eb45-11ee-b1a5-6fde165f9226/media_stream?encapsulation=audiosocket&token=<YOUR_AUTH_TOKEN>');
"""
"""What the page's excerpts for Node.js leave out; its AudioSocket client has the same."""


def excerpt(target: Target, call_id: str, script: str, before: str = "") -> str:
    connection = CONNECTION
    for printed, ours in replaced(target, call_id).items():
        connection = connection.replace(printed, ours)
    return connection + before + script


async def test_the_audio_injection_is_played_whole(seeded: Target, phones: Phones, tmp_path: Path) -> None:
    """A prompt in one bare message."""
    (alice,) = await phones("1001")
    prompt = noise(4, RATE)
    (tmp_path / "welcome.pcm").write_bytes(pcm(prompt))
    call_id = await called(seeded, alice, judge.silence(60, RATE))
    async with node(tmp_path, excerpt(seeded, call_id, seed("voipbin-audio-injection.js"))):
        await until(lambda: alice.in_call)
        await sends(alice, 6)
        await alice.hangup()
    assert_exact(prompt, alice.recording(), 4)


async def test_the_hold_music_plays_one_whole_copy_after_the_other(
    seeded: Target, phones: Phones, tmp_path: Path
) -> None:
    """A file of 4 s every second: it is always played from its beginning to its end."""
    (alice,) = await phones("1001")
    music = noise(4, RATE)
    (tmp_path / "hold_music.pcm").write_bytes(pcm(music))
    call_id = await called(seeded, alice, judge.silence(60, RATE))
    async with node(tmp_path, excerpt(seeded, call_id, seed("voipbin-hold-music.js"))):
        await sends(alice, 15)
        (stream,) = (await seeded.get("/v1.0/streams"))[1]["result"]
        await alice.hangup()
    assert stream["dropped_from_application_ms"] >= 12_000  # three copies at least
    played = copies(music, alice.recording())
    assert len(played) >= 3
    assert min(played[:-1]) >= (1 - MOST_STALLED) * len(music), played


async def test_the_voice_assistant_answers_what_it_receives(seeded: Target, phones: Phones, tmp_path: Path) -> None:
    (alice,) = await phones("1001")
    call_id = await called(seeded, alice, noise(60, RATE))
    functions = "const extractAudio = d => d, aiProcess = async a => a, textToSpeech = a => a;\n"
    script = seed("voipbin-voice-assistant.js", {"function(data)": "async function(data)"})
    async with node(tmp_path, excerpt(seeded, call_id, script, functions)):
        await sends(alice, 4)
        await alice.hangup()
    assert_exact(alice.sent(), alice.recording(), 2)  # its own voice


LAST_WORDS = "Connection closed normally (code 1000): call ended"
"""What websocket-client calls an error."""
PYTHON_CONNECTION = """import websocket
conference_id = 'lobby'
texts = []
extract_audio = lambda message: message[12:]
speech_to_text = lambda audio: str(len(audio))
save_transcription = texts.append
analyze_emotion = measure_quality = len
detect_keyword = lambda audio, words: not texts and not texts.append(words)
alert_supervisor = lambda: print('alert')
"""
"""What the page's excerpts for Python leave to the reader."""


def python_excerpt(name: str, url: str) -> str:
    """Return an excerpt with what it takes to run on a stream."""
    run = f"app = websocket.WebSocketApp({url!r}, on_message=on_message, on_error=lambda _, error: print(error))\n"
    return PYTHON_CONNECTION + seed(f"indented/voipbin-{name}.txt") + run + "app.run_forever()\n"


@pytest.mark.parametrize(("name", "printed"), [("speech-recognition", "Recognized: 160"), ("audio-analysis", "alert")])
async def test_the_excerpts_for_python_run(
    seeded: Target, phones: Phones, tmp_path: Path, name: str, printed: str
) -> None:
    (alice,) = await phones("1001")
    call_id = await called(seeded, alice, noise(60, RATE))
    script = python_excerpt(name, seeded.stream_url(call_id, encapsulation="rtp"))
    async with python(tmp_path, script) as client:
        await sends(alice, 3)
        await alice.hangup()
        assert await client.ended() == 0
    assert set(client.output.splitlines()) - {printed} == {LAST_WORDS}
    assert printed in client.output


async def test_the_conference_recording_saves_what_everybody_says(
    seeded: Target, phones: Phones, tmp_path: Path
) -> None:
    started = await phones("1001", "1002")
    for phone, hz in zip(started, PHONES_HZ, strict=True):
        phone.play_next(judge.tone(hz, 60, RATE))
    async with client_of(seeded) as client:
        conference = (await client.done("POST", "/v1.0/conferences", {"name": "lobby"}))["id"]
        for phone in started:
            await client.call(phone.name, action("conference_join", conference_id=conference))
        await client.until("conference_joined", count=2)
        url = CONFERENCE_URL
        for printed, ours in {**replaced(seeded, ""), PRINTED_CONFERENCE: conference}.items():
            url = url.replace(printed, ours)
        async with python(tmp_path, python_excerpt("conference-recording", url)) as recorder:
            await until(lambda: (tmp_path / "conference_lobby.raw").exists())
            await sends(started[0], 3)
            await client.done("DELETE", f"/v1.0/conferences/{conference}")
            assert await recorder.ended() == 0
    saved = ulaw_samples((tmp_path / "conference_lobby.raw").read_bytes())
    assert all(seconds_of(saved, hz) > 2 for hz in PHONES_HZ)


async def test_the_connection_is_upgraded_as_the_page_shows(seeded: Target, phones: Phones) -> None:
    """The page's request line and the lines of the answer."""
    (alice,) = await phones("1001")
    call_id = await called(seeded, alice, judge.silence(60, RATE))
    host = seeded.url.removeprefix("http://")
    path = f"/v1.0/calls/{call_id}/media_stream?encapsulation=rtp&token={TOKEN}"
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    writer.write("\r\n".join((f"GET {path} HTTP/1.1", f"Host: {host}", *head, key, "", "")).encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    writer.close()
    assert answer[0] == "HTTP/1.1 101 Switching Protocols"
    assert {"upgrade: websocket", "connection: upgrade"} <= {line.lower() for line in answer}
    await alice.hangup()


async def test_the_request_for_external_media_plays_what_the_server_sends(seeded: Target, phones: Phones) -> None:
    """The page's curl command, with the numbers of the lab."""
    (alice,) = await phones("1001")
    speech = noise(3, RATE)
    async with open_sink() as sink:
        command = seed(
            "voipbin-external-media.sh",
            {
                "https://api.voipbin.net": seeded.url,
                PRINTED_TOKEN: TOKEN,
                "+15559876543": "1001",
                "wss://your-media-server.com/audio-stream": sink.url,
            },
        )
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        answer, errors = await process.communicate()
        assert process.returncode == 0, errors
        assert b'"calls"' in answer, answer
        (received,) = await sink.connected(1)
        await received.socket.send(pcm(speech))  # bare: "PCM format for AudioSocket"
        await alice.answered()
        await sends(alice, 4)
        await received.socket.close()
        heard = await alice.heard()
    assert received.binary == []  # one way
    assert_exact(speech, heard, 3)
