"""A pipecat serializer for jambonz, written from the documentation of the verb ``listen``: pipecat 1.14 has none.

What it sends is encoded by `AudioStream` of the vendor's unmodified SDK for Python.
"""

from __future__ import annotations

import json

from jambonz_sdk.websocket.audio_stream import AudioStream
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
)
from pipecat.serializers.base_serializer import FrameSerializer


class JambonzSerializer(FrameSerializer):
    """Converts between frames of pipecat and messages of a call.

    Args:
        rate: sampling rate in Hz of the call and the pipeline.
    """

    def __init__(self, rate: int) -> None:
        super().__init__()
        self._rate = rate
        self._sent: str | bytes | None = None
        self._stream = AudioStream(self)

    async def send(self, message: str | bytes) -> None:
        """Receive a message from the SDK, instead of its WebSocket."""
        self._sent = message

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """Return the message for a frame."""
        self._sent = None
        if isinstance(frame, InterruptionFrame):
            await self._stream.kill_audio()
        elif isinstance(frame, EndFrame):
            await self._stream.disconnect()
        elif isinstance(frame, OutputAudioRawFrame):
            await self._stream.send_audio(frame.audio)
        return self._sent

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """Return the frame for a message."""
        if isinstance(data, bytes):
            return InputAudioRawFrame(audio=data, num_channels=1, sample_rate=self._rate)
        message = json.loads(data)
        return InputDTMFFrame(KeypadEntry(message["dtmf"])) if message.get("event") == "dtmf" else None
