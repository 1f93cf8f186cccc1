"""What the API needs of the rest of the bridge, handed to it by ``app.py``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from bridge.calls.model import Call, Party
from bridge.config import TwilioConfig
from bridge.media.counters import Counters
from bridge.streams.clients import MediaStreamOptions
from bridge.streams.subscription import Subscription


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


class SubscriptionSource(Protocol):
    """The subscriptions (`bridge.streams.catalogue.Catalogue`); what changes them says there what it raises."""

    def list(self) -> Collection[Subscription]:
        """All, by id."""

    def get(self, identity: str, /) -> Subscription:
        """One of them; KeyError if there is none with this id."""

    async def change(self, identity: str, make: Callable[[Subscription | None], Subscription], /) -> Subscription:
        """Replace one by what ``make`` makes of it (of None if there is none yet)."""

    async def delete(self, identity: str, /) -> None:
        """Remove one."""

    async def set_enabled(self, identity: str, enabled: bool, /) -> Subscription:
        """Switch one on or off."""


class CallControl(Protocol):
    """Acts on calls. A channel that is gone is no error for either."""

    async def hangup(self, channel_id: str, /) -> None:
        """End a channel.

        Raises:
            AriError: Asterisk did not do it.
        """

    async def redirect(self, channel_id: str, context: str, extension: str, /) -> None:
        """Send a channel on in the dialplan, wherever it is now.

        Raises:
            AriError: Asterisk did not do it; 404 if it has no such extension or channel.
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
        subscriptions: what goes to applications by itself; None: its routes are not there.
        control: acts on calls.
        twilio: the account of voice-agent frameworks; without one, or without ``control``, its routes are not there.
    """

    calls: CallSource
    streams: Callable[[], Iterable[Mapping[str, object]]]
    accept_stream: AcceptStream
    counters: Counters
    ari_connected: Callable[[], bool]
    listening: Callable[[], bool]
    ari_trouble: Callable[[], str | None] = lambda: None
    subscriptions: SubscriptionSource | None = None
    control: CallControl | None = None
    twilio: TwilioConfig | None = None


BACKEND = web.AppKey("backend", Backend)
SUBSCRIPTIONS: web.AppKey[SubscriptionSource] = web.AppKey("subscriptions")
TWILIO: web.AppKey[tuple[TwilioConfig, CallControl]] = web.AppKey("twilio")
"""The account, and what acts on its calls."""
TRUSTED = web.RequestKey("trusted", bool)
"""Whether the request came with a good token; on public paths it need not."""
