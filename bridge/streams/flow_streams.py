"""Streams that a flow starts and stops: ``external_media_start`` and ``STREAM``."""

from __future__ import annotations

from collections.abc import Collection

from bridge.ari.client import AriClient
from bridge.calls.facts import Naming
from bridge.calls.ids import OwnIds
from bridge.calls.legs import Leg
from bridge.calls.tap import Taps
from bridge.streams.dialplan import Calls
from bridge.streams.flow_options import ExternalMedia, StreamOptions
from bridge.streams.outgoing import Outgoing
from bridge.streams.pushed import PushedStream
from bridge.streams.room import Room


class FlowStreams:
    """All streams that flows have started, by leg."""

    def __init__(
        self,
        *,
        client: AriClient,
        ids: OwnIds,
        calls: Calls,
        naming: Naming,
        outgoing: Outgoing,
        taps: Taps,
        room: Room,
    ) -> None:
        raise NotImplementedError

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all channels and bridges that belong to external media which other servers get; for the sweep."""
        raise NotImplementedError

    async def external_media_start(self, leg: Leg, options: ExternalMedia) -> None:
        """Open an external media; returns when it is on its way.

        Raises:
            Overloaded: the call has 5 already, or ``media.max_streams`` is reached.
            LegGone, AriError
        """
        raise NotImplementedError

    async def external_media_stop(self, leg: Leg) -> None:
        """End all external media of a leg, and wait until they have ended."""
        raise NotImplementedError

    async def stream_start(self, leg: Leg, options: StreamOptions) -> PushedStream:
        """Start a stream, or add tracks to the one that goes to the same URL.

        Its ``wait()`` returns when it has ended: for ``connect``.

        Raises:
            Overloaded: ``media.max_streams`` is reached.
            LegGone, AriError
        """
        raise NotImplementedError

    async def stream_stop(self, leg: Leg, options: StreamOptions) -> None:
        """Stop tracks of a stream (all if none is named), and end it when none is left; returns when that is done."""
        raise NotImplementedError

    def transfer_joined(self, leg: Leg, other: Leg) -> None:
        """``other`` was called for ``leg`` and has answered: tracks named ``transfer`` begin."""
        raise NotImplementedError

    def transfer_left(self, leg: Leg) -> None:
        """Whoever was connected with ``leg`` has left: tracks named ``transfer`` stop."""
        raise NotImplementedError

    def moved(self, channel_id: str) -> None:
        """A leg is in another bridge now, or in none: what reached it there follows (`Legs.on_moved`)."""
        raise NotImplementedError

    async def stop(self, leg: Leg, reason: str = "the flow ended") -> None:
        """End everything that was started for a leg, and wait until it has ended."""
        raise NotImplementedError
