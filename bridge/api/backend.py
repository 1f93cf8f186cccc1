"""What the API needs of the rest of the bridge, handed to it by ``app.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from bridge.calls.model import Call, Party
from bridge.dialects.base import Dialect
from bridge.media.counters import Counters
from bridge.media.websocket import Link
from bridge.streams.clients import MediaStreamOptions


class CallSource(Protocol):
    """The calls that go on now (`bridge.calls.tracker.CallTracker`)."""

    @property
    def calls(self) -> Mapping[str, Call]:
        """Calls by id."""

    def find(self, identity: str, /) -> tuple[Call, Party] | None:
        """A call with its caller by the call's id, or with one party by that channel's id."""


class StreamView(Protocol):
    """What the API says about one open stream (`bridge.streams.stream.Stream`)."""

    @property
    def stream_id(self) -> str:
        """Short id, as in the log."""

    @property
    def call_id(self) -> str:
        """The call that it is on."""

    @property
    def party_id(self) -> str:
        """The party that it is on."""

    @property
    def dialect(self) -> Dialect:
        """How it speaks."""

    @property
    def link(self) -> Link:
        """Its WebSocket."""

    @property
    def live(self) -> bool:
        """Whether audio flows."""

    @property
    def opened_at(self) -> float:
        """When it was opened, in seconds since 1970."""

    @property
    def queued_ms(self) -> float:
        """Audio of the application that waits to be played, in milliseconds."""


class StreamSource(Protocol):
    """The open streams (`bridge.streams.registry.Streams`)."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[StreamView]: ...


class AcceptStream(Protocol):
    """Turns a request that was found good into a stream (`bridge.streams.clients.Clients.accept`)."""

    def __call__(self, request: web.Request, call: Call, party: Party, options: MediaStreamOptions, /) -> None:
        """Take the request's connection over and start the stream; whatever aiohttp answers afterwards is not sent.

        Raises:
            Overloaded: before the upgrade; answered with 503.
        """


@dataclass(frozen=True, slots=True)
class Backend:
    """The parts behind the routes.

    Args:
        calls: the call tracker.
        streams: the open streams.
        accept_stream: takes over a WebSocket request.
        counters: the process's counters.
        ari_trouble: why ARI is not usable, in words for an administrator; None while calls can be served.
        listening: whether Asterisk can connect to the AudioSocket port.
    """

    calls: CallSource
    streams: StreamSource
    accept_stream: AcceptStream
    counters: Counters
    ari_trouble: Callable[[], str | None]
    listening: Callable[[], bool]


BACKEND = web.AppKey("backend", Backend)
TRUSTED = web.RequestKey("trusted", bool)
"""Whether the request came with a good token; on public paths it need not."""
