"""Records calls: a snoop that Asterisk writes to a file of its own, fetched over ARI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(slots=True)
class Recording:
    """One recording; times are seconds since 1970."""

    id: str
    call_id: str
    channel_id: str
    format: str
    status: str
    """``recording``, ``ended`` or ``failed``."""
    tm_start: float
    tm_end: float | None = None
    duration_s: float = 0.0
    trouble: str = ""

    async def finished(self) -> None:
        """Wait until it has ended and its file is whole."""
        raise NotImplementedError


class Recordings:
    """Starts and ends recordings, and reads them."""

    async def start(
        self,
        channel_id: str,
        *,
        format: str = "wav",
        max_silence_s: int = 0,
        max_duration_s: int = 0,
        terminate_on: str = "",
        beep: bool = False,
    ) -> Recording:
        """Record what a channel says and hears; returns when it records."""
        raise NotImplementedError

    async def stop(self, recording_id: str) -> Recording:
        """End one; returns when its file is whole. KeyError if there is none."""
        raise NotImplementedError

    def list(self) -> list[Recording]:
        """Those that run, and those that ended lately."""
        raise NotImplementedError

    def get(self, recording_id: str) -> Recording:
        """KeyError if there is none."""
        raise NotImplementedError

    def read(self, recording_id: str) -> AsyncIterator[bytes]:
        """The file, in blocks. KeyError if there is none, AriError 404 if Asterisk has no file."""
        raise NotImplementedError
