"""Sounds to play: from an ``http(s)`` URL, or a file below the configured folder.

Anyone who may start flows chooses the URL, and the product requests it from its own network; ``docs/howto/speech.md``
describes the consequences.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import aiohttp

from bridge.audio.sound import Sound
from bridge.config.speech import SpeechConfig
from bridge.config.values import server_of
from bridge.errors import BridgeError
from bridge.files import find_below, read_regular
from bridge.outbound.gate import Gate
from bridge.outbound.http import RequestFailed, Requests, ResponseTooLarge
from bridge.speech.cache import SoundCache
from bridge.speech.decoder import SoundDecoder
from bridge.tls import Trust

MAX_REDIRECTS: Final = 3
MAX_URL_CHARACTERS: Final = 2048
LASTING_S: Final = 60.0
"""Time in seconds that a fetched sound is reused without a request: one prompt, played to many callers."""


class SoundUnavailable(BridgeError):
    """A sound could not be fetched or read; the message is the reason, without the URL's query."""


class SoundFetcher:
    """Fetches and caches sounds; concurrent requests for one sound share a fetch.

    Args:
        config: limits, and the folder.
        gate: which hosts may be connected to.
    """

    def __init__(self, config: SpeechConfig, gate: Gate | None = None) -> None:
        self._config = config
        self._gate = gate or Gate()
        self._decoder = SoundDecoder()
        self._fetched = SoundCache(config.cache_bytes // 2, lasting_s=LASTING_S)
        self._read = SoundCache(config.cache_bytes // 2)

    async def get(self, url: str, *, configured: bool = False) -> Sound:
        """Return the sound at a URL or in a file, at its own rate.

        Args:
            url: an ``http://`` or ``https://`` URL, or the name of a file below ``speech.sounds_dir``, for example
                ``welcome.wav`` or ``de/welcome.wav``.
            configured: the URL, at least its host, is in the configuration file.

        Raises:
            SoundUnavailable: the sound cannot be fetched, read or decoded.
        """
        scheme, colon, _ = url.partition(":")
        if colon and scheme.lower() in ("http", "https"):
            shown = _shown(url)
            sound = await self._fetched.get((url, configured), lambda: self._fetch(url, shown, configured))
        else:
            file, status = await asyncio.to_thread(self._find, url)
            key = (file, status.st_mtime_ns, status.st_size)  # a file that was replaced is read again
            sound = await self._read.get(key, lambda: self._load(file, url))
        return sound

    async def _fetch(self, url: str, shown: str, configured: bool) -> Sound:
        def check(response: aiohttp.ClientResponse) -> None:
            if response.status != 200:
                raise RequestFailed(f"HTTP status {response.status} {response.reason or ''}".rstrip())
            encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
            if encoding not in ("", "identity"):
                raise RequestFailed(f"the response has Content-Encoding {encoding[:40]!r}; expected identity")

        try:
            async with Requests(self._gate) as requests:  # not kept open: hours may pass between prompts
                response = await requests.fetch(
                    "GET",
                    url,
                    configured=configured,
                    trust=Trust(),
                    timeout_s=self._config.fetch_timeout_s,
                    max_bytes=self._config.max_sound_bytes,
                    check=check,
                    max_redirects=MAX_REDIRECTS,
                )
        except ResponseTooLarge:
            raise SoundUnavailable(_too_large(shown, self._config)) from None
        except RequestFailed as problem:
            raise SoundUnavailable(f"{shown}: {problem}") from None
        return await self._decoded(response.body, shown)

    def _find(self, name: str) -> tuple[Path, os.stat_result]:
        """Return the file of a name, and its current status.

        Raises:
            SoundUnavailable: no such file, or one outside the folder, for example through a symbolic link.
        """
        shown = repr(name[:200])
        if not self._config.sounds_dir:
            raise SoundUnavailable(f"{shown}: not an http(s) URL, and speech.sounds_dir is empty")
        try:
            file = find_below(self._config.sounds_dir, name)
            status = file.stat()
        except OSError:
            raise SoundUnavailable(f"{shown}: neither an http(s) URL nor a file below speech.sounds_dir") from None
        if status.st_size > self._config.max_sound_bytes:
            raise SoundUnavailable(_too_large(shown, self._config))
        return file, status

    async def _load(self, file: Path, name: str) -> Sound:
        shown = repr(name[:200])
        try:
            data = await asyncio.to_thread(read_regular, file, self._config.max_sound_bytes)
        except OSError as problem:
            raise SoundUnavailable(f"{shown}: cannot be read: {problem.strerror}") from None
        return await self._decoded(data, shown)

    async def _decoded(self, data: bytes, shown: str) -> Sound:
        try:
            sound = await self._decoder.decode(data)
        except ValueError as problem:
            raise SoundUnavailable(f"{shown}: {problem}") from None
        if not sound.pcm:
            raise SoundUnavailable(f"{shown}: holds no audio")
        return sound


def _too_large(shown: str, config: SpeechConfig) -> str:
    return f"{shown}: larger than speech.max_sound_bytes={config.max_sound_bytes}"


def _shown(url: str) -> str:
    """Return a URL for messages: without user, password and query, which may be secrets.

    Raises:
        SoundUnavailable: the string is not an http(s) URL.
    """
    server = server_of(url)
    if not server or len(url) > MAX_URL_CHARACTERS or any(character <= " " for character in url):
        raise SoundUnavailable(f"{url.partition('?')[0][:40]!r}...: not an http(s) URL")
    return server[:200]
