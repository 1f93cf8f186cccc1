"""The endpoints ``GET /v1.0/calls/{id}/media_stream`` and ``GET /v1.0/conferences/{id}/media_stream``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec import Struct

from bridge import dialects
from bridge.access import Principal
from bridge.calls.call import Call, Party
from bridge.conferences.conferences import Conferences, NoSuchConference, NotControlled
from bridge.config import Config
from bridge.control.stasis import StasisCalls
from bridge.dialects.base import Account, Dialect, Setting
from bridge.dialects.model import ModelDialect
from bridge.errors import Revoked
from bridge.media import websocket_library
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.media.takeover import take_over
from bridge.media.websocket import Link
from bridge.streams.client_streams import ClientStreams
from bridge.streams.registry import OnRequest
from bridge.streams.subscription import account_of
from bridge.streams.wanted_tracks import CLIENT_DIRECTIONS, ClientDirection
from bridge.taps.taps import TapPoint

if TYPE_CHECKING:
    from bridge.media.picows_link import PicowsLink

CLIENT_GONE = 499
"""Status of a request whose client has closed the connection (as in nginx); nobody receives it."""
DIRECTIONS = ("direction_listen", "direction_speak")
WHOLE = ("both", "none")
"""Directions on a conference: all of it, or nothing."""


class MediaStreamOptions(Struct, frozen=True):
    """The query of a client's request.

    Args:
        name: the dialect.
        options: of the dialect.
        direction_listen: audio that the client receives, seen from the party (``bridge.streams.wanted_tracks``).
        direction_speak: who receives the client's audio.
    """

    name: str
    options: Mapping[str, str | int | bool]
    direction_listen: ClientDirection = "both"
    direction_speak: ClientDirection = "both"

    @property
    def receives_audio(self) -> bool:
        """Whether the client receives audio."""
        return self.direction_listen != "none"

    @property
    def sends_audio(self) -> bool:
        """Whether the client sends audio."""
        return self.direction_speak != "none"

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> MediaStreamOptions:
        """Parse and check the query.

        Raises:
            ValueError: an option is missing or invalid; the message names it and what is expected.
        """
        name = query.get("dialect") or dialects.default_of("media_stream")
        try:
            kind = dialects.find(name)
        except LookupError as error:
            raise ValueError(f"dialect: {error.args[0]}") from None
        if issubclass(kind, ModelDialect):  # transcripts of a model are events; a client must not publish any
            raise ValueError(f"dialect: {name} is for models, which are dialed; expected another")
        known = kind.options()
        options: dict[str, str | int | bool] = {}
        for key, value in query.items():
            if key in known:
                options[key] = _value(value)
            elif key not in ("dialect", *DIRECTIONS):
                # An error, as a misspelled direction_listen would send the wrong party's audio.
                every = ", ".join((*known, "dialect", *DIRECTIONS))
                raise ValueError(f"{key[:40]!r} is not an option of a media stream; expected one of {every}")
        wanted = cls(name, options, _direction(query, "direction_listen"), _direction(query, "direction_speak"))
        if not wanted.receives_audio and not wanted.sends_audio:
            raise ValueError("direction_listen and direction_speak: both are none; expected audio in one")
        dialect = wanted.dialect()  # checks that the options are compatible
        if wanted.sends_audio and not dialect.two_way:
            raise ValueError(f"direction_speak: the dialect {name} is one-way; expected none")
        return wanted

    @classmethod
    def for_conference(cls, query: Mapping[str, str]) -> MediaStreamOptions:
        """Parse and check the query of a stream on a conference.

        Raises:
            ValueError: as for `from_query`; or a direction is that of a party.
        """
        for name in DIRECTIONS:
            if query.get(name, "both") not in WHOLE:
                raise ValueError(
                    f"{name}: a stream on a conference carries the audio of all participants, not of one; "
                    "expected both or none"
                )
        return cls.from_query(query)

    def dialect(self, account: Account | None = None) -> Dialect:
        """Create the dialect of one stream.

        Args:
            account: the product's identity toward applications.

        Raises:
            ValueError: the options conflict.
        """
        setting = Setting(two_way=self.sends_audio, account=account or Account())
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
    raise ValueError(f"{key}: {value[:20]!r} is not one of {', '.join(CLIENT_DIRECTIONS)}")


class MediaStreamEndpoint:
    """Upgrades valid requests to streams.

    Args:
        streams: the streams of clients.
        stasis: calls held in the Stasis application.
        counters: the process's counters.
        config: the configuration.
        admission: the limit on streams.
        conferences: None: no streams on conferences.
        accepts: returns whether a principal's token is still valid.
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
        self,
        request: web.Request,
        call: Call,
        party: Party,
        options: MediaStreamOptions,
        principal: Principal,
        on_request: OnRequest,
    ) -> web.StreamResponse:
        """Upgrade ``request`` and start its stream, after all other checks.

        Args:
            request: the client's request.
            call: the call.
            party: the party of the stream.
            options: the checked query.
            principal: who sent the request.
            on_request: called with requests of the client to change the call.

        Returns:
            A response that aiohttp requires but cannot send, as the connection has left it. Its status is `CLIENT_GONE`
            if the client has closed the connection, so there is no stream.

        Raises:
            Overloaded: the limit on streams is reached.
            Revoked: the token was revoked while the call was being held.
        """
        await websocket_library.loaded()
        await self._stasis.settled(party.id)
        if not self._accepts(principal):  # revoked meanwhile; the token's other streams have ended already
            raise Revoked("the token is no longer valid")
        return self._upgrade(
            *(request, options),
            lambda link: self._streams.open(
                call,
                party,
                options.dialect(account_of(self._config, options.name)),
                link,
                listen=options.direction_listen,
                speak=options.direction_speak,
                principal=principal,
                on_request=on_request,
            ),
        )

    async def accept_conference(
        self, request: web.Request, conference_id: str, options: MediaStreamOptions, principal: Principal
    ) -> web.StreamResponse:
        """Upgrade ``request`` and start its stream on a conference, like `accept`.

        Args:
            request: the client's request.
            conference_id: the conference.
            options: from `MediaStreamOptions.for_conference`.
            principal: who sent the request.

        Raises:
            Overloaded: the limit on streams is reached.
            NoSuchConference: unknown conference.
            NotControlled: a ConfBridge room, while no context that leads into rooms is configured.
        """
        conferences = self._conferences
        if conferences is None:
            raise NoSuchConference("conferences are not available")
        await websocket_library.loaded()
        tap_point = conferences.tap_point(conference_id)
        return self._upgrade(
            *(request, options),
            lambda link: self._streams.open_on_conference(
                conference_id,
                tap_point,
                options.dialect(account_of(self._config, options.name)),
                link,
                exists=lambda: _is_at(conferences, conference_id, tap_point),
                captures=options.receives_audio,
                plays=options.sends_audio,
                principal=principal,
                participants=lambda: _channels_in(conferences, conference_id),
            ),
        )

    def _upgrade(
        self, request: web.Request, options: MediaStreamOptions, start: Callable[[Link], object]
    ) -> web.StreamResponse:
        self._admission.check()
        link = self._new_link()
        if (
            not take_over(request, link.protocol(dialects.find(options.name).subprotocol))
            or not link.established
            or link.closed
        ):
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
    """Return the channels in a conference; none if it has ended or belongs to another worker."""
    conference = conferences.get(conference_id)
    return [each.channel_id for each in conference.participants] if conference is not None else []


def _is_at(conferences: Conferences, conference_id: str, tap_point: TapPoint) -> bool:
    """Return whether the conference is still the same one: another may have taken its id."""
    try:
        return conferences.tap_point(conference_id) == tap_point
    except (NoSuchConference, NotControlled):
        return False
