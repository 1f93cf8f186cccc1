"""The stream between a model and its caller, as tools use it."""

from __future__ import annotations

from typing import Protocol

from bridge.dialects.base import CallInfo


class Voice(Protocol):
    """The audio between a model and its caller: that of a stream (`bridge.streams.stream.Stream`)."""

    stream_id: str
    call: CallInfo

    @property
    def channel_id(self) -> str:
        """The caller's channel; empty before the first track."""

    @property
    def queued_ms(self) -> float:
        """Audio that waits to be played to the caller, in milliseconds."""

    @property
    def playout_rate(self) -> int:
        """Sampling rate of that audio in Hz; 0: nothing can be played."""

    def play(self, pcm: bytes) -> None:
        """Queue audio for the caller, s16le mono at ``playout_rate``."""
