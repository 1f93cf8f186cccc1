"""This bridge with several AudioSocket connections in one stream: an observed call with a tap for each track, no ARI.

    python -m tests.load.peers.bridge_tracks CONFIG DIALECT TRACKS

The configuration is the bench's. The generator's UUIDs say which connections belong together; everything else is the
product's: its listener, its limits, its stream with a track for each connection.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from bridge import logs
from bridge.access import CONFIGURATION
from bridge.app.application import Application
from bridge.config import Config, load
from bridge.dialects.base import CallInfo, TrackInfo
from bridge.media.leg import MediaLeg
from bridge.media.loop import FrameLoop
from bridge.patterns import Patterns
from bridge.streams.stream import Stream
from bridge.streams.subscription import Subscription

NAMES = {"twilio": ("inbound", "outbound"), "voxology": ("caller", "callee")}
"""The generator's names of the tracks; Yeastar's are their channels, which are the UUIDs."""
LAYOUTS: dict[str, Any] = {"twilio": "both_tracks", "voxology": "both", "yeastar": "parties"}


class Together:
    """Puts connections into streams."""

    def __init__(self, bridge: Application, dialect: str, tracks: int) -> None:
        url = bridge.config.dialplan[0].url
        self._target = Subscription(
            id="bench", url=url, dialect=dialect, tracks=LAYOUTS[dialect], extensions=Patterns(("*",))
        )
        self._bridge = bridge
        self._names = NAMES.get(dialect, ())
        self._tracks = tracks
        self._streams: dict[int, Stream] = {}

    def unexpected(self, uuid: UUID) -> MediaLeg:
        """Return a leg for a connection; the first of a call begins its stream."""
        call, track = divmod(int.from_bytes(uuid.bytes[-4:]), self._tracks)
        names = self._names or (str(uuid),)
        if track == 0:
            self._streams[call] = self._bridge.streams.dial(
                "bench", CallInfo(str(call)), names, self._target, lambda *_: None, principal=CONFIGURATION
            )
        stream = self._streams[call]
        return stream.adopt(TrackInfo(names[track % len(names)], channel_id=str(uuid), channel=str(uuid)), uuid)


async def serve(config: Config, dialect: str, tracks: int) -> None:
    bridge = Application(config)
    bridge.listener.unexpected = Together(bridge, dialect, tracks).unexpected
    async with bridge:
        await asyncio.Event().wait()


if __name__ == "__main__":
    its = load(Path(sys.argv[1]), {})
    logs.set_up(its.log)
    with asyncio.Runner(loop_factory=lambda: FrameLoop(its.media.coalesce_ms)) as runner:
        runner.run(serve(its, sys.argv[2], int(sys.argv[3])))
