"""Sounds from a web server of this machine, and from a folder: what is fetched, kept and refused."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from aiohttp import web

from bridge.config.speech import SpeechConfig
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Policy
from bridge.speech import SoundFetcher, SoundUnavailable
from bridge.speech import fetch as module
from bridge.testing import judge

ANYWHERE = Gate(Policy(allow=["localhost"]))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


def wav(hz: float = 1000, seconds: float = 0.5) -> bytes:
    output = io.BytesIO()
    soundfile.write(output, judge.tone(hz, seconds, 8000), 8000, format="WAV")
    return output.getvalue()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Return a function that starts a server with a handler for every GET, and returns its address."""
    runners = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def refusal(fetcher: SoundFetcher, url: str) -> str:
    with pytest.raises(SoundUnavailable) as caught:
        await fetcher.get(url)
    return str(caught.value)


async def test_a_sound_is_fetched_once_and_asked_for_again_when_it_is_old(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(body=wav(), content_type="text/plain")  # what it is called does not matter

    base = await serve(handler)
    fetcher = SoundFetcher(SpeechConfig(), ANYWHERE)
    sounds = await asyncio.gather(*(fetcher.get(f"{base}/a.wav?x=1") for _ in range(5)))
    assert asked == ["/a.wav?x=1"]
    assert (sounds[0].rate, sounds[0].seconds) == (8000, 0.5)
    assert judge.loudest(np.frombuffer(sounds[0].pcm, "<i2"), 8000) == pytest.approx(1000, abs=2)
    await fetcher.get(f"{base}/a.wav?x=2")
    await fetcher.get(f"{base}/a.wav?x=1")
    assert len(asked) == 2
    monkeypatch.setattr(module, "LASTING_S", 0.0)
    hasty = SoundFetcher(SpeechConfig(), ANYWHERE)
    for _ in range(2):
        await hasty.get(f"{base}/a.wav")
        await asyncio.sleep(0.01)
    assert len(asked) == 4


async def test_redirects_are_followed_a_few_times(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        left = int(request.path.strip("/"))
        if left:
            raise web.HTTPFound(f"/{left - 1}")
        return web.Response(body=wav())

    base = await serve(handler)
    fetcher = SoundFetcher(SpeechConfig(), ANYWHERE)
    assert (await fetcher.get(f"{base}/3")).seconds == 0.5
    assert await refusal(fetcher, f"{base}/4") == f"{base}/4: redirects more than 3 times"


async def test_a_redirect_to_a_file_is_not_followed(serve: Serve) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "file:///etc/passwd"})

    base = await serve(handler)
    assert "redirects to an invalid target" in await refusal(SoundFetcher(SpeechConfig(), ANYWHERE), f"{base}/x")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_without_end_ends(serve: Serve, declared: bool) -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Length": str(10**12)} if declared else {})
        await response.prepare(request)
        while sent < 100_000_000:
            await response.write(bytes(65536))
            sent += 65536
        return response

    base = await serve(handler)
    fetcher = SoundFetcher(SpeechConfig(max_sound_bytes=100_000), ANYWHERE)
    assert await refusal(fetcher, f"{base}/x") == f"{base}/x: larger than speech.max_sound_bytes=100000"
    assert sent < 20_000_000


async def test_what_takes_too_long_is_given_up(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:  # a byte now and then: no single read takes long
            await response.write(b"R")
            await asyncio.sleep(0.05)

    base = await serve(handler)
    began = asyncio.get_running_loop().time()
    fetcher = SoundFetcher(SpeechConfig(fetch_timeout_s=0.5), ANYWHERE)
    assert await refusal(fetcher, f"{base}/x?secret=1") == f"{base}/x: no response within 0.5 s"
    assert asyncio.get_running_loop().time() - began < 3


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b"", "/x: HTTP status 404 Not Found"),
        (500, b"secret", "/x: HTTP status 500 Internal Server Error"),
        (204, b"", "/x: HTTP status 204 No Content"),
        (200, b"<html>secret", "/x: is not a WAV, FLAC, Ogg or MP3 file"),
        (200, b"", "/x: is not a WAV, FLAC, Ogg or MP3 file"),
        (200, wav(seconds=0), "/x: holds no audio"),
    ],
)
async def test_other_answers_are_no_sounds(serve: Serve, status: int, body: bytes, words: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    base = await serve(handler)
    said = await refusal(SoundFetcher(SpeechConfig(), ANYWHERE), f"{base}/x?token=abc")
    assert said == base + words


async def test_an_address_that_nobody_answers_at() -> None:
    fetcher = SoundFetcher(SpeechConfig(), ANYWHERE)
    said = await refusal(fetcher, "http://127.0.0.1:1/x.wav?token=abc")
    assert said.startswith("http://127.0.0.1:1/x.wav: cannot be reached: ")
    assert "abc" not in said


async def test_a_password_in_the_address_is_not_sent() -> None:
    said = await refusal(SoundFetcher(SpeechConfig(), ANYWHERE), "http://user:hush@127.0.0.1:1/x.wav")
    assert said == "http://127.0.0.1:1/x.wav: the URL contains a user name or password, which is not sent"


@pytest.mark.parametrize(
    "url", ["http://", "http:", "http:///x", "http://[::1", "http://h:99999/", "http://h/ x", "http://h/" + "x" * 2048]
)
async def test_what_is_no_address(url: str) -> None:
    assert "not an http(s) URL" in await refusal(SoundFetcher(SpeechConfig(), ANYWHERE), url)


async def test_a_file_is_read_once_until_it_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "de").mkdir()
    file = tmp_path / "de" / "welcome.wav"
    file.write_bytes(wav(500))
    fetcher = SoundFetcher(SpeechConfig(sounds_dir=str(tmp_path)), ANYWHERE)
    first = await fetcher.get("de/welcome.wav")
    assert await fetcher.get("de/welcome.wav") is first
    file.write_bytes(wav(700))
    os.utime(file, ns=(1, 1))
    second = await fetcher.get("de/welcome.wav")
    assert judge.loudest(np.frombuffer(second.pcm, "<i2"), 8000) == pytest.approx(700, abs=2)
    file.write_bytes(b"text")
    assert await refusal(fetcher, "de/welcome.wav") == "'de/welcome.wav': is not a WAV, FLAC, Ogg or MP3 file"


async def test_only_files_of_the_folder_are_played(tmp_path: Path) -> None:
    folder = tmp_path / "sounds"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.wav").write_bytes(wav())
    (tmp_path / "sounds-too").mkdir()
    (tmp_path / "sounds-too" / "x.wav").write_bytes(wav())
    (folder / "inside.wav").write_bytes(wav())
    (folder / "link.wav").symlink_to(tmp_path / "outside.wav")
    (folder / "beside.wav").symlink_to(tmp_path / "sounds-too" / "x.wav")
    (folder / "up").symlink_to(tmp_path)
    (folder / "good.wav").symlink_to("inside.wav")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    fetcher = SoundFetcher(SpeechConfig(sounds_dir=str(folder)), ANYWHERE)
    assert (await fetcher.get("inside.wav")).seconds == (await fetcher.get("good.wav")).seconds == 0.5
    for name in ("", ".", "sub", "../outside.wav", "sub/../inside.wav", "/etc/passwd", str(folder / "inside.wav")):
        assert "below speech.sounds_dir" in await refusal(fetcher, name)
    for name in ("link.wav", "beside.wav", "up/outside.wav", "circle", "pipe", "no.wav", "a\0b", "x" * 5000):
        assert "below speech.sounds_dir" in await refusal(fetcher, name)
    for url in (f"file://{folder}/inside.wav", "ftp://127.0.0.1/x.wav", "data:audio/wav;base64,AAAA"):
        assert "below speech.sounds_dir" in await refusal(fetcher, url)
    (folder / "large.wav").write_bytes(wav() + bytes(2000))
    small = SoundFetcher(SpeechConfig(sounds_dir=str(folder), max_sound_bytes=2048), ANYWHERE)
    assert await refusal(small, "large.wav") == "'large.wav': larger than speech.max_sound_bytes=2048"


async def test_without_a_folder_no_file_is_played() -> None:
    said = await refusal(SoundFetcher(SpeechConfig(), ANYWHERE), "welcome.wav")
    assert said == "'welcome.wav': not an http(s) URL, and speech.sounds_dir is empty"
