"""A client connects: ``GET /v1.0/calls/{id}/media_stream`` becomes a stream, and so does
``GET /v1.0/conferences/{id}/media_stream``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from bridge import dialects
from bridge.access import Principal
from bridge.calls.model import Call, Party
from bridge.conferences.conferences import Conferences, NoSuchConference, NotOurs
from bridge.config import Config
from bridge.control.stasis import StasisCalls
from bridge.dialects.base import Account, Dialect, Setting
from bridge.errors import Revoked
from bridge.media import websocket_library
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.media.takeover import take_over
from bridge.media.websocket import Link
from bridge.streams.client_streams import ClientStreams
from bridge.streams.subscription import account_of
from bridge.streams.wanted import CLIENT_DIRECTIONS, ClientDirection
from bridge.taps.taps import TapPoint

if TYPE_CHECKING:
    from bridge.media.picows_link import PicowsLink

CLIENT_GONE = 499
"""The status of a request whose client has closed the connection (nginx's number); nobody receives it."""
DIRECTIONS = ("direction_listen", "direction_speak")
WHOLE = ("both", "none")
"""The directions on a conference: to and from all of it, or not at all."""


@dataclass(frozen=True)
class MediaStreamOptions:
    """What the client asked for in the query of its request.

    Args:
        name: the dialect.
        options: those of the dialect.
        direction_listen: whom to hear, seen from the party (``bridge.streams.wanted``).
        direction_speak: who hears the client.
    """

    name: str
    options: Mapping[str, str | int | bool]
    direction_listen: ClientDirection = "both"
    direction_speak: ClientDirection = "both"

    @property
    def listens(self) -> bool:
        """Whether the client hears anything."""
        return self.direction_listen != "none"

    @property
    def speaks(self) -> bool:
        """Whether anybody hears the client."""
        return self.direction_speak != "none"

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> MediaStreamOptions:
        """Read and check the query.

        Raises:
            ValueError: an option is missing or wrong; the text says which and what is expected.
        """
        name = query.get("dialect") or dialects.default_of("media_stream")
        try:
            known = dialects.find(name).options()
        except LookupError as error:
            raise ValueError(f"dialect: {error.args[0]}") from None
        options: dict[str, str | int | bool] = {}
        for key, value in query.items():
            if key in known:
                options[key] = _value(value)
            elif key not in ("dialect", *DIRECTIONS):
                # Not ignored: a misspelt direction_listen would send the wrong person's voice.
                every = ", ".join((*known, "dialect", *DIRECTIONS))
                raise ValueError(f"{key[:40]!r} is not an option of a media stream; there are {every}")
        wanted = cls(name, options, _direction(query, "direction_listen"), _direction(query, "direction_speak"))
        if not wanted.listens and not wanted.speaks:
            raise ValueError("direction_listen and direction_speak: both are none, so there is nothing to do")
        dialect = wanted.dialect()  # the dialect knows which of its options go together
        if wanted.speaks and not dialect.two_way:
            raise ValueError(f"direction_speak: the dialect {name} only listens; expected none")
        return wanted

    @classmethod
    def for_conference(cls, query: Mapping[str, str]) -> MediaStreamOptions:
        """Read and check the query of a stream on a conference.

        Raises:
            ValueError: as `from_query`; and a direction is that of a party.
        """
        for name in DIRECTIONS:
            if query.get(name, "both") not in WHOLE:
                raise ValueError(
                    f"{name}: a stream on a conference is not on a party of it: it hears everybody else and is heard by"
                    " all; expected both or none"
                )
        return cls.from_query(query)

    def dialect(self, account: Account | None = None) -> Dialect:
        """Create the dialect of one stream.

        Args:
            account: the identity of the bridge.

        Raises:
            ValueError: the options do not go together.
        """
        setting = Setting(two_way=self.speaks, account=account or Account())
        try:
            return dialects.find(self.name).create(self.options, setting)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("options: ").removeprefix("options.")) from None


def _value(text: str) -> str | int | bool:
    if re.fullmatch("[0-9]{1,6}", text):
        return int(text)
    return text == "true" if text in ("true", "false") else text


def _direction(query: Mapping[str, str], key: str) -> ClientDirection:
    value = query.get(key) or "both"
    for direction in CLIENT_DIRECTIONS:
        if value == direction:
            return direction
    raise ValueError(f"{key}: {value[:20]!r} is none of {', '.join(CLIENT_DIRECTIONS)}")


class MediaStreamEndpoint:
    """Turns good requests into streams.

    Args:
        conferences: without them, there are no streams on conferences.
        accepts: whether a principal still has a good token.
    """

    def __init__(
        self,
        streams: ClientStreams,
        stasis: StasisCalls,
        counters: Counters,
        config: Config,
        admission: CallAdmission,
        *,
        conferences: Conferences | None = None,
        accepts: Callable[[Principal], bool] = lambda _: True,
    ) -> None:
        self._streams = streams
        self._stasis = stasis
        self._counters = counters
        self._config = config
        self._admission = admission
        self._conferences = conferences
        self._accepts = accepts
        if conferences is not None:
            conferences.on_ended(streams.end_conference)

    async def accept(
        self, request: web.Request, call: Call, party: Party, options: MediaStreamOptions, principal: Principal
    ) -> web.StreamResponse:
        """Upgrade ``request`` and start its stream. Everything else that can be refused has been refused before.

        Args:
            principal: who asks.

        Returns:
            A response for aiohttp's sake; it goes nowhere, as the connection is no longer aiohttp's. Its status is
            `CLIENT_GONE` if there is no stream, because the client has closed the connection.

        Raises:
            Overloaded: no further stream can be opened now.
            Revoked: the token was revoked while the call was being held.
        """
        await websocket_library.loaded()
        await self._stasis.settled(party.id)
        if not self._accepts(principal):  # the streams that its token had opened have ended already
            raise Revoked("the token is no longer valid")
        return self._upgrade(
            request,
            lambda link: self._streams.open(
                call,
                party,
                options.dialect(account_of(self._config, options.name)),
                link,
                listen=options.direction_listen,
                speak=options.direction_speak,
                principal=principal,
            ),
        )

    async def accept_conference(
        self, request: web.Request, conference_id: str, options: MediaStreamOptions, principal: Principal
    ) -> web.StreamResponse:
        """Upgrade ``request`` and start its stream on a conference, as `accept` does on a call.

        Args:
            options: from `MediaStreamOptions.for_conference`.
            principal: who asks.

        Raises:
            Overloaded: no further stream can be opened now.
            NoSuchConference: there is none of this id.
            NotOurs: it is a ConfBridge room, and no way into rooms is configured.
        """
        conferences = self._conferences
        if conferences is None:
            raise NoSuchConference("the bridge holds no conferences")
        await websocket_library.loaded()
        tap_point = conferences.tap_point(conference_id)
        return self._upgrade(
            request,
            lambda link: self._streams.open_on_conference(
                conference_id,
                tap_point,
                options.dialect(account_of(self._config, options.name)),
                link,
                exists=lambda: _is_at(conferences, conference_id, tap_point),
                listens=options.listens,
                speaks=options.speaks,
                principal=principal,
                participants=lambda: _channels_in(conferences, conference_id),
            ),
        )

    def _upgrade(self, request: web.Request, start: Callable[[Link], object]) -> web.StreamResponse:
        self._admission.check()
        link = self._new_link()
        if not take_over(request, link.protocol()) or not link.established or link.closed:
            return web.Response(status=CLIENT_GONE)
        start(link)
        return web.Response()

    def _new_link(self) -> PicowsLink:
        from bridge.media.picows_link import PicowsLink  # loaded by `accept`

        media = self._config.media
        return PicowsLink(
            self._counters,
            max_unsent_ms=media.max_unsent_ms,
            ping_interval_s=media.ping_interval_s,
            max_message_bytes=self._config.http.max_message_bytes,
            max_text_bytes=self._config.http.max_text_bytes,
        )


def _channels_in(conferences: Conferences, conference_id: str) -> list[str]:
    """Return the channels in a conference; none if it has ended or is another worker's."""
    conference = conferences.get(conference_id)
    return [each.channel_id for each in conference.participants] if conference is not None else []


def _is_at(conferences: Conferences, conference_id: str, tap_point: TapPoint) -> bool:
    """Whether it is still the same conference: another one may have taken its id."""
    try:
        return conferences.tap_point(conference_id) == tap_point
    except (NoSuchConference, NotOurs):
        return False
