"""One stream with nothing real around it."""

from __future__ import annotations

from typing import cast

from bridge.access import CONFIGURATION
from bridge.audio.playout import Playout
from bridge.dialects.base import CallInfo, Dialect
from bridge.media.counters import Counters
from bridge.media.dial import Backoff, LinkFailed
from bridge.media.websocket import Link
from bridge.streams.connection import Accepted, Dialed, StreamConnection
from bridge.streams.origin import Origin
from bridge.streams.stream import Stream
from bridge.taps.taps import Taps
from tests.fakes.taps import FakeTaps
from tests.fakes.wire import Wire


class OneStream:
    """A stream that has started, its WebSocket and its taps.

    Args:
        dialed: the bridge connects to the application, not the application to the bridge.
        reachable: whether an application that is dialed answers.
        give_up_s: as for `Dialed`.
    """

    def __init__(
        self, dialect: Dialect, *tracks: str, dialed: bool = True, reachable: bool = True, give_up_s: float = 0
    ) -> None:
        self.wire = Wire()
        self.taps = FakeTaps()
        self.counters = Counters()
        self.reachable = reachable
        self.sensitive = False
        self.ended: list[str] = []
        connection: StreamConnection = (
            Dialed(self._dial, Backoff(0.01, 0.01), give_up_s) if dialed else Accepted(self.wire)
        )
        self.stream = Stream(
            "1",
            Origin("test", CONFIGURATION, plays=True),
            CallInfo("call"),
            tracks or ("mix",),
            dialect=dialect,
            connection=connection,
            taps=cast(Taps, self.taps),
            counters=self.counters,
            new_playout=lambda fmt: Playout(fmt, 10_000, 0),
            window_ms=0,
            on_end=lambda _, reason: self.ended.append(reason),
            on_dtmf=lambda _: None,
            is_sensitive=lambda _: self.sensitive,
        )
        self.stream.start()

    async def _dial(self) -> Link:
        if not self.reachable:
            raise LinkFailed("not there")
        return self.wire

    async def end(self) -> None:
        """End the stream and wait until all is closed."""
        self.stream.end("the test is over")
        await self.stream.wait()
