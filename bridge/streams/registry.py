"""The streams of this process: opening within the limit, ending with their party, listing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator

from bridge.access import Principal
from bridge.ari.client import AriClient
from bridge.audio.format import AudioFormat
from bridge.audio.playout import Playout
from bridge.audit import FAILED, NO_AUDIT, OK, Audit, Value
from bridge.calls.model import Call, CallEnded, Change, Party, PartyChanged, PartyLeft
from bridge.calls.tracker import CallTracker
from bridge.control.stasis import StasisCalls
from bridge.dialects.base import Dialect
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.websocket import Link
from bridge.streams.events import Nobody, Publisher, stream_event
from bridge.streams.keys import KeyPresses
from bridge.streams.limit import StreamLimit
from bridge.streams.places import ClientDirection, LegPlace, places
from bridge.streams.sensitive import NoneSensitive, SensitiveCalls
from bridge.streams.stream import CALL_ENDED, CONFERENCE_ENDED, SHUTTING_DOWN, Stream
from bridge.taps.taps import Join, TapPoint, Taps

log = logging.getLogger(__name__)

CLEAN = (1000, 1001, 1005)
"""Close codes of streams that ended as they ought to."""


class Streams:
    """All streams of this process.

    Args:
        room: the limit that all streams share.
        new_playout: makes the queue of one leg.
        events: told of streams that begin and end.
        sensitive: which calls are in sensitive mode.
        audit: where their start and end are recorded.
    """

    def __init__(
        self,
        *,
        client: AriClient,
        tracker: CallTracker,
        stasis: StasisCalls,
        taps: Taps,
        counters: Counters,
        room: StreamLimit,
        new_playout: Callable[[AudioFormat], Playout],
        events: Publisher | None = None,
        sensitive: SensitiveCalls | None = None,
        audit: Audit = NO_AUDIT,
    ) -> None:
        self._client = client
        self._tracker = tracker
        self._stasis = stasis
        self._taps = taps
        self._counters = counters
        self._room = room
        self._new_playout = new_playout
        self._events = events or Nobody()
        self._sensitive = sensitive or NoneSensitive()
        self._audit = audit
        self._streams: dict[str, Stream] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._numbers = room.numbers()
        tracker.subscribe(self._on_change)

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter(tuple(self._streams.values()))

    def of_call(self, call_id: str) -> list[Stream]:
        """The streams on one call."""
        return [stream for stream in self._streams.values() if stream.call_id == call_id]

    def of_party(self, party_id: str) -> list[Stream]:
        """The streams on one party."""
        return [stream for stream in self._streams.values() if stream.party_id == party_id]

    def of_conference(self, conference_id: str) -> list[Stream]:
        """The streams on one conference."""
        return [stream for stream in self._streams.values() if stream.conference_id == conference_id]

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
    ) -> Stream:
        """Start a stream on ``party``; its life goes on in a task of its own.

        Args:
            principal: who opens it.

        Raises:
            Overloaded: the limit is reached.
        """
        self._room.check()
        party_id = party.id
        keys = KeyPresses(lambda digits: self.press(party_id, digits), self._counters)

        async def find_places() -> tuple[LegPlace, ...]:
            await self._stasis.settled(party_id)
            return places(party_id, self._stasis.bridge_of(party_id), listen, speak)

        stream = Stream(
            f"s{next(self._numbers)}",
            call.id,
            party_id,
            dialect=dialect,
            link=link,
            leg_places=places(party_id, self._stasis.bridge_of(party_id), listen, speak),
            find_places=find_places,
            taps=self._taps,
            counters=self._counters,
            new_playout=self._new_playout,
            track=dialect.caller_track if dialect.caller_track and listen != "none" else listen,
            party_is_there=lambda: self._tracker.find(party_id) is not None,
            # Keys are a way to speak: who only listens presses none.
            send_dtmf=keys.add if speak != "none" else _press_nothing,
            principal=principal,
            is_sensitive=lambda: self._sensitive.covers(party_id),
        )
        self._start(stream).add_done_callback(lambda _: keys.close())
        return stream

    def open_on_conference(
        self,
        conference_id: str,
        place: TapPoint,
        dialect: Dialect,
        link: Link,
        *,
        is_there: Callable[[], bool],
        principal: Principal,
        participants: Callable[[], Iterable[str]],
        listens: bool = True,
        speaks: bool = True,
    ) -> Stream:
        """Start a stream that hears a conference and speaks to all of it.

        Args:
            place: where it is reached.
            is_there: whether the conference has not ended yet.
            principal: who opens it.
            participants: the channels in it.
            listens: whether it gets what the conference says.
            speaks: whether the conference gets what it says.

        Raises:
            Overloaded: the limit is reached.
        """
        self._room.check()
        legs = (LegPlace(place, hears=listens, speaks=speaks),)

        async def find_places() -> tuple[LegPlace, ...]:
            return legs

        def is_sensitive() -> bool:
            if isinstance(place, Join) and self._sensitive.covers_bridge(place.bridge_id):
                return True
            return any(map(self._sensitive.covers, participants()))

        stream = Stream(
            f"s{next(self._numbers)}",
            "",
            "",
            dialect=dialect,
            link=link,
            leg_places=legs,
            find_places=find_places,
            taps=self._taps,
            counters=self._counters,
            new_playout=self._new_playout,
            track="both" if listens else "none",
            party_is_there=is_there,
            # Not which keys: they may be a PIN.
            send_dtmf=lambda digits: log.info(
                "conference=%s has no phone to press %d keys on", conference_id, len(digits)
            ),
            principal=principal,
            conference_id=conference_id,
            steady=True,
            is_sensitive=is_sensitive,
        )
        self._start(stream)
        return stream

    def review(self) -> None:
        """Let every stream adopt or leave sensitive mode, as its call has."""
        for stream in self:
            stream.review()

    def end_conference(self, conference_id: str) -> None:
        """A conference ends: its streams with it."""
        for stream in self.of_conference(conference_id):
            stream.end(*CONFERENCE_ENDED)

    def end_of_principal(self, principal_id: str, code: int, reason: str) -> int:
        """End every stream that a principal opened, with this close code; return how many."""
        streams = [stream for stream in self if stream.principal.id == principal_id]
        for stream in streams:
            stream.end(code, reason)
        return len(streams)

    async def stop(self) -> None:
        """End every stream and wait until all is closed."""
        for stream in self:
            stream.end(*SHUTTING_DOWN)
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=10)

    def _start(self, stream: Stream) -> asyncio.Task[None]:
        self._streams[stream.stream_id] = stream
        self._room.open += 1
        task = asyncio.create_task(stream.run(), name=f"stream {stream.stream_id}")
        self._tasks[stream.stream_id] = task
        task.add_done_callback(lambda _: self._forget(stream))
        for what in ("stream_started", "stream_connected"):  # at once, unlike streams that we dial
            self._events.publish(what, _data(stream))
        self._audit.record("stream.start", stream.principal, **_audited(stream))
        return task

    def _forget(self, stream: Stream) -> None:
        if self._streams.pop(stream.stream_id, None) is not None:
            self._room.open -= 1
            self._events.publish("stream_ended", _data(stream))
            code, seconds = stream.close_code, round(time.time() - stream.opened_at, 3)
            ending: dict[str, Value] = {"code": code, "reason": stream.ended_because, "seconds": seconds}
            outcome = OK if code in CLEAN else FAILED
            self._audit.record("stream.end", stream.principal, outcome, **_audited(stream), **ending)
        self._tasks.pop(stream.stream_id, None)

    def _on_change(self, change: Change) -> None:
        if isinstance(change, PartyLeft):
            for stream in self.of_party(change.party.id):
                if change.moved_to is None:
                    stream.end(*CALL_ENDED)
                else:  # calls have merged: the party lives on, under the other call's id
                    stream.call_id = change.moved_to
        elif isinstance(change, PartyChanged):
            if "in_stasis" in change.fields:
                for stream in self.of_party(change.party.id):
                    stream.party_moved()
        elif isinstance(change, CallEnded) and change.merged_into is None:
            for stream in self.of_call(change.call.id):
                stream.end(*CALL_ENDED)

    def party_moved(self, party_id: str) -> None:
        """A party in our application is in another bridge now, or in none (`Legs.on_moved`): its streams follow it."""
        for stream in self.of_party(party_id):
            if stream.bridge_id not in (None, self._stasis.bridge_of(party_id)):
                stream.party_moved()

    async def press(self, channel_id: str, digits: str) -> None:
        """Press keys on a channel of our application; elsewhere Asterisk refuses, which is logged."""
        try:
            await self._client.channels.send_dtmf(channel_id, digits)
        except AriError as error:
            log.warning("channel=%s keys could not be sent: %s", channel_id, error)


def _press_nothing(digits: str) -> None:
    log.info("a client that only listens wanted to send %d DTMF digits", len(digits))


def _data(stream: Stream) -> dict[str, str]:
    data = stream_event(
        stream.stream_id, stream.call_id, "client", stream.dialect.name, stream.principal.id, stream.ended_because
    )
    return data | ({"conference_id": stream.conference_id} if stream.conference_id else {})


def _audited(stream: Stream) -> dict[str, Value]:
    return {
        "stream": stream.stream_id,
        "call": stream.call_id,
        "party": stream.party_id,
        "conference": stream.conference_id,
        "started_by": "client",
        "dialect": stream.dialect.name,
        "listen": [stream.track] if stream.track != "none" else [],
        "speak": stream.speaks,
    }
