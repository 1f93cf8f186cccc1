"""Streams that clients open on a party or a conference: they follow it, and end with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable

from msgspec.structs import replace

from bridge.access import Principal
from bridge.calls.call import Call, CallEnded, Change, Party, PartyChanged, PartyLeft, PartyReplaced
from bridge.calls.facts import call_facts
from bridge.calls.tracker import CallTracker
from bridge.config import PbxConfig
from bridge.control.stasis import StasisCalls
from bridge.dialects.base import CallInfo, Dialect, TrackInfo
from bridge.errors import AriError
from bridge.media.websocket import Link
from bridge.streams.connection import Accepted
from bridge.streams.layout import call_info
from bridge.streams.origin import Origin
from bridge.streams.registry import OnRequest, Streams
from bridge.streams.sensitive import NoneSensitive, SensitiveCalls
from bridge.streams.stream import Stream
from bridge.streams.track import Recovery, RunningTrack
from bridge.streams.wanted_tracks import ClientDirection, WantedTrack, conference_tracks, party_tracks
from bridge.taps.taps import Join, TapPoint

log = logging.getLogger(__name__)

STARTED_BY = "client"
CALL_ENDED = "call ended"
CONFERENCE_ENDED = "conference ended"
RESTORES = 3
"""How often the leg of a track is reopened while its party exists."""
SETTLE_S = 0.5
"""Wait for the event that a call has ended after its leg closed, in seconds: sockets are faster than events."""


class _ClientStream(Recovery):
    """One client's stream: where its tracks are attached, and the reaction to lost audio.

    Args:
        exists: returns whether the party or the conference exists.
        ended: the reason for the stream's end if not.
        find: returns the current tracks of the stream; raises AriError.
        tracks: returns the tracks of a party, by its id.
    """

    waits_s = (SETTLE_S,)
    stream: Stream

    def __init__(
        self,
        exists: Callable[[], bool],
        ended: str,
        find: Callable[[Stream], Awaitable[Iterable[WantedTrack]]],
        tracks: Callable[[str], Iterable[WantedTrack]] = lambda _: (),
    ) -> None:
        self._tracks = tracks
        self._exists = exists
        self._ended = ended
        self._find = find
        self._displaced = False
        self._following: asyncio.Task[None] | None = None

    def allows(self, track: RunningTrack, error: AriError | None) -> bool:
        """Return whether to reopen a track's leg; end the stream if not."""
        if not self._exists():
            self.stream.end(self._ended)
        elif error is not None:
            self._fail(error)
        elif track.reopened >= RESTORES:
            self.stream.end("the audio connection from the PBX broke repeatedly", "audio_lost")
        else:
            return True
        return False

    def moved(self) -> None:
        """Follow the party after it has entered or left the Stasis application, or a bridge."""
        self._displaced = True
        self.stream.tracks.displace()
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow(), name=f"{self.stream.name} follows")

    def replaced(self, party_id: str, call_id: str) -> None:
        """Continue with the channel that replaced the party's."""
        stream = self.stream
        stream.origin = replace(stream.origin, party_id=party_id)
        stream.call = replace(stream.call, call_id=call_id)
        stream.set_tracks(self._tracks(party_id))

    def close(self) -> None:
        """Stop following, after the end of the stream."""
        following, self._following = self._following, None  # the traceback of its cancellation refers to this object
        if following is not None:
            following.cancel()

    async def _follow(self) -> None:
        while self._displaced and not self.stream.ended:
            await asyncio.sleep(SETTLE_S)
            self._displaced = False
            if not self._exists():
                self.stream.end(self._ended)
                return
            try:
                self.stream.set_tracks(await self._find(self.stream))
            except AriError as error:
                self._fail(error)
            except Exception:
                self.stream.fail()

    def _fail(self, error: AriError) -> None:
        log.warning("stream failed, no audio from the PBX %s error=%s", self.stream.name, error)
        self.stream.end(f"no audio from the PBX: {error.message}", "audio_lost")


class ClientStreams:
    """The streams that clients have opened in this process.

    Args:
        streams: all streams of this process.
        tracker: the calls of the PBX.
        stasis: calls held in the Stasis application.
        sensitive: which calls are in sensitive mode.
        naming: names of the PBX, for the facts about a call that applications receive.
    """

    def __init__(
        self,
        streams: Streams,
        tracker: CallTracker,
        stasis: StasisCalls,
        sensitive: SensitiveCalls | None = None,
        naming: PbxConfig | None = None,
    ) -> None:
        self._streams = streams
        self._tracker = tracker
        self._naming = naming or PbxConfig()
        self._stasis = stasis
        self._sensitive = sensitive or NoneSensitive()
        self._clients: dict[Stream, _ClientStream] = {}
        tracker.subscribe(self._on_change)

    def open(
        self,
        call: Call,
        party: Party,
        dialect: Dialect,
        link: Link,
        *,
        listen: ClientDirection,
        speak: ClientDirection,
        principal: Principal,
        on_request: OnRequest | None = None,
    ) -> Stream:
        """Start a stream on a party.

        Args:
            call: the call.
            party: the party.
            dialect: the wire format.
            link: the accepted WebSocket.
            listen: audio that the client receives.
            speak: who receives the client's audio.
            principal: who opens it.
            on_request: called with requests of the client to change the call; None: they are refused.

        Raises:
            Overloaded: the limit on streams is reached.
        """

        def tracks(party_id: str) -> list[WantedTrack]:
            info = TrackInfo(dialect.caller_track or listen, party_id)
            return party_tracks(info, self._stasis.bridge_of(party_id), listen, speak)

        async def find(stream: Stream) -> list[WantedTrack]:
            await self._stasis.settled(stream.origin.party_id)
            return tracks(stream.origin.party_id)

        client = _ClientStream(lambda: self._tracker.find(party.id) is not None, CALL_ENDED, find, tracks)
        origin = Origin(STARTED_BY, principal, party_id=party.id, direction_listen=listen, plays=speak != "none")
        return self._open(
            *(client, origin, call_info(call.id, call_facts(call, self._naming)), dialect, link, tracks(party.id)),
            is_sensitive=lambda channels: any(map(self._sensitive.covers, channels)),
            # DTMF digits count as sending audio.
            sends_dtmf=origin.plays,
            on_request=on_request,
        )

    def open_on_conference(
        self,
        conference_id: str,
        tap_point: TapPoint,
        dialect: Dialect,
        link: Link,
        *,
        exists: Callable[[], bool],
        principal: Principal,
        participants: Callable[[], Iterable[str]],
        captures: bool = True,
        plays: bool = True,
    ) -> Stream:
        """Start a stream that receives the mix of a conference and sends to all participants.

        Args:
            conference_id: the conference.
            tap_point: where media legs are attached to it.
            dialect: the wire format.
            link: the accepted WebSocket.
            exists: returns whether the conference still exists.
            principal: who opens it.
            participants: returns the channels in it.
            captures: whether the client receives audio.
            plays: whether the client sends audio.

        Raises:
            Overloaded: the limit on streams is reached.
        """
        tracks = conference_tracks(dialect.caller_track or "both", tap_point, captures=captures, plays=plays)

        async def find(_: Stream) -> list[WantedTrack]:
            return tracks

        def is_sensitive(_: Iterable[str]) -> bool:
            if isinstance(tap_point, Join) and self._sensitive.covers_bridge(tap_point.bridge_id):
                return True
            return any(map(self._sensitive.covers, participants()))

        listen = "both" if captures else "none"
        return self._open(
            _ClientStream(exists, CONFERENCE_ENDED, find),
            Origin(STARTED_BY, principal, conference_id=conference_id, direction_listen=listen, plays=plays),
            *(CallInfo(""), dialect, link, tracks),
            is_sensitive=is_sensitive,
            sends_dtmf=False,
        )

    def of_party(self, party_id: str) -> list[Stream]:
        """Return the streams on a party."""
        return [stream for stream in self._clients if stream.origin.party_id == party_id]

    def end_conference(self, conference_id: str) -> None:
        """End the streams of a conference that has ended."""
        for stream in self._clients:
            if stream.origin.conference_id == conference_id:
                stream.end(CONFERENCE_ENDED)

    def party_moved(self, party_id: str) -> None:
        """Follow a party of the Stasis application that has moved to another bridge, or to none (`Legs.on_moved`)."""
        for stream in self.of_party(party_id):
            bridges = {each.tap_point.bridge_id for each in stream.tracks if isinstance(each.tap_point, Join)}
            if bridges - {self._stasis.bridge_of(party_id)}:
                self._clients[stream].moved()

    def _open(
        self,
        client: _ClientStream,
        origin: Origin,
        call: CallInfo,
        dialect: Dialect,
        link: Link,
        tracks: Collection[WantedTrack],
        *,
        is_sensitive: Callable[[Iterable[str]], bool],
        sends_dtmf: bool,
        on_request: OnRequest | None = None,
    ) -> Stream:
        stream = client.stream = self._streams.open(
            origin,
            call,
            [track.info.name for track in tracks if track.captures],
            dialect=dialect,
            connection=Accepted(link),
            on_end=self._ended,
            is_sensitive=is_sensitive,
            recovery=client,
            sends_dtmf=sends_dtmf,
            on_request=on_request,
        )
        self._clients[stream] = client
        stream.set_tracks(tracks)
        return stream

    def _ended(self, stream: Stream, _: str) -> None:
        self._clients.pop(stream).close()

    def _on_change(self, change: Change) -> None:
        if isinstance(change, PartyLeft):
            _end_or_rename(self.of_party(change.party.id), change.moved_to)
        elif isinstance(change, PartyChanged):
            if "in_stasis" in change.fields:
                for stream in self.of_party(change.party.id):
                    self._clients[stream].moved()
        elif isinstance(change, PartyReplaced):
            for stream in self.of_party(change.party.id):
                self._clients[stream].replaced(change.by.id, change.into)
        elif isinstance(change, CallEnded):
            _end_or_rename([each for each in self._clients if each.call.call_id == change.call.id], change.merged_into)


def _end_or_rename(streams: Iterable[Stream], other_call: str | None) -> None:
    """End the streams of a party or call that has ended; if it continues in another call, store that call's id."""
    for stream in streams:
        if other_call is None:
            stream.end(CALL_ENDED)
        else:
            stream.call = replace(stream.call, call_id=other_call)
