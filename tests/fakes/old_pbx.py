"""A fake PBX with an AudioSocket that carries 8 kHz only, as seen with Asterisk's modules of 18.26.4 and 22.5.2."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from bridge.ari.rest import Parameter
from bridge.audio.audiosocket import MessageKind, kind_of_rate
from bridge.audio.format import AudioFormat, slin
from tests.fakes.asterisk import FakeAsterisk
from tests.fakes.dialing_pbx import DialingPbx

DISCARDS, HANGS_UP, CARRIES = "discards wide audio", "hangs up at wide audio", "carries wide audio"
VERSIONS = {DISCARDS: "18.26.4", HANGS_UP: "22.5.2", CARRIES: "22.5.2+patched"}


class OldPbx(DialingPbx):
    """Treats audio above 8 kHz as old versions do.

    Args:
        port: that of the listener.
        manner: `DISCARDS`, `HANGS_UP` or `CARRIES`, by which a version is patched.
    """

    def __init__(self, port: int, manner: str) -> None:
        super().__init__(port)
        self.manner = manner
        self.version = VERSIONS[manner]
        self.heard: dict[str, bytes] = {}
        """Audio that was understood, by channel."""
        self.formats: dict[str, AudioFormat] = {}
        """The format that was requested for a channel's connection; the dialplan's is always 8 kHz."""

    def handle(self, method: str, path: str, params: Mapping[str, Parameter], body: Any = None) -> object:
        answer = super().handle(method, path, params, body)
        if path.endswith("/externalMedia"):
            name = str(params["format"])
            self.formats[str(params["channelId"])] = slin(int(name.removeprefix("slin") or 8) * 1000)
        if (method, path.rpartition("/")[2]) == ("POST", "silence"):
            task = asyncio.create_task(self._be_silent(path.split("/")[2]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return answer

    def speak(self, channel_id: str, pcm: bytes) -> None:
        """Send a channel's audio, in the format that was requested for it."""
        fmt = self.formats.get(channel_id, slin(8000))
        kind = kind_of_rate(fmt.rate) if self.manner == CARRIES else MessageKind.SLIN
        for at in range(0, len(pcm), fmt.frame_bytes):
            self.connections[channel_id].send(kind, pcm[at : at + fmt.frame_bytes])

    async def _be_silent(self, channel_id: str) -> None:
        while channel_id not in self.connections:
            await asyncio.sleep(0.001)
        self.speak(channel_id, bytes(self.formats[channel_id].frame_bytes))

    async def _connect(self, channel_id: str, uuid: UUID) -> None:
        connection = self.connections[channel_id] = await FakeAsterisk.dial(self._port, uuid)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, payload, _ = await connection.read()
                if kind == MessageKind.SLIN or self.manner == CARRIES:
                    self.heard[channel_id] = self.heard.get(channel_id, b"") + payload
                elif kind == MessageKind.HANGUP or self.manner == HANGS_UP:
                    break
        connection.writer.close()
        if channel_id in self.channels:
            self.hang_up(channel_id)
