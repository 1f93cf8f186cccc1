"""What the API needs of the rest of the bridge, handed to it by ``app.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from bridge.calls.model import Call, Party
from bridge.media.counters import Counters
from bridge.streams.clients import MediaStreamOptions


class CallSource(Protocol):
    """The calls that go on now (`bridge.calls.tracker.CallTracker`)."""

    @property
    def calls(self) -> Mapping[str, Call]:
        """Calls by id."""

    def find(self, identity: str, /) -> tuple[Call, Party] | None:
        """A call with its caller by the call's id, or with one party by that channel's id."""


class AcceptStream(Protocol):
    """Turns a request that was found good into a stream (`bridge.streams.clients.Clients.accept`)."""

    async def __call__(
        self, request: web.Request, call: Call, party: Party, options: MediaStreamOptions, /
    ) -> web.StreamResponse:
        """Upgrade and start.

        Returns:
            A response for aiohttp's sake; not sent when the connection was taken over.

        Raises:
            Overloaded: before the upgrade; answered with 503.
            AriError: before the upgrade; answered with 404 or 503.
        """


@dataclass(frozen=True, slots=True)
class Backend:
    """The parts behind the routes.

    Args:
        calls: the call tracker.
        streams: describes each open stream; every description has at least ``id`` and ``call_id``.
        accept_stream: takes over a WebSocket request.
        counters: the process's counters.
        ari_connected: whether ARI is connected and the calls of the PBX are known.
        listening: whether Asterisk can connect to the AudioSocket port.
        ari_trouble: why ARI is not connected, in words for an administrator, if that is known.
    """

    calls: CallSource
    streams: Callable[[], Iterable[Mapping[str, object]]]
    accept_stream: AcceptStream
    counters: Counters
    ari_connected: Callable[[], bool]
    listening: Callable[[], bool]
    ari_trouble: Callable[[], str | None] = lambda: None


BACKEND = web.AppKey("backend", Backend)
TRUSTED = web.RequestKey("trusted", bool)
"""Whether the request came with a good token; on public paths it need not."""
