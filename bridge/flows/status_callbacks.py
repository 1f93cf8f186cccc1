"""Status callbacks: signed requests as a call rings, is answered and ends, as Twilio sends them; each once, in order.

Recordings and streams of calls have callbacks of their own. Those of calls follow the events of `bridge.calls.records`;
they are not resumed after a restart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args
from weakref import WeakSet

from bridge.calls.call_record import CallRecord
from bridge.calls.records import Records
from bridge.control.recorder import Recording
from bridge.events.hub import Event, Events
from bridge.flows.recording_callbacks import RecordingCallback, callback_parameters, outcome
from bridge.flows.stream_callbacks import StreamCallback, StreamEvent, follow, stream_parameters
from bridge.flows.twiml_requests import (
    TwimlAccount,
    TwimlMethod,
    call_parameters,
    call_status,
    duration_s,
    rfc2822,
    send,
)
from bridge.flows.web import Web, WebFailed
from bridge.streams.stream import Stream
from bridge.tasks import BackgroundTasks
from bridge.times import utc

log = logging.getLogger(__name__)

StatusEvent = Literal["initiated", "ringing", "answered", "completed"]
STATUS_EVENTS: tuple[StatusEvent, ...] = get_args(StatusEvent)
AT_END: tuple[StatusEvent, ...] = ("completed",)
CLOSING_S = 1.0
"""How long requests may take when the process ends."""
MAX_CALLS = 10_000
"""Calls that are watched at the same time."""
_OF_EVENTS: dict[str, StatusEvent] = {
    "call_ringing": "ringing",
    "call_progressing": "answered",
    "call_hangup": "completed",
}
_NAMES = ("RecordingStatus", "StreamEvent", "CallStatus")
"""Parameters that name the event of a callback."""
_STATUSES: dict[StatusEvent, str] = {"initiated": "initiated", "ringing": "ringing", "answered": "in-progress"}


@dataclass
class _Watched:
    """A call, and the events that its server has not received yet."""

    call_id: str
    url: str
    method: TwimlMethod
    events: Collection[StatusEvent]
    configured: bool
    seen: list[StatusEvent] = field(default_factory=list)
    due: asyncio.Queue[tuple[StatusEvent, float] | None] = field(default_factory=asyncio.Queue)
    """At most one entry for each event; None: nothing follows."""


class StatusCallbacks:
    """The status callbacks of all calls of this process.

    Args:
        events: where calls' changes are published.
        records: the calls.
        web: sends requests.
        account: returns the account that signs them.
        clock: returns seconds since 1970.
    """

    def __init__(
        self,
        events: Events,
        records: Records,
        web: Web,
        account: TwimlAccount,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._events = events
        self._records = records
        self._web = web
        self._account = account
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._streams: WeakSet[Stream] = WeakSet()
        self._tasks = BackgroundTasks("status callbacks")
        self._unsubscribe: Callable[[], None] = lambda: None

    def watch(
        self,
        call_id: str,
        url: str,
        method: TwimlMethod = "POST",
        events: Collection[StatusEvent] = AT_END,
        *,
        configured: bool = False,
    ) -> None:
        """Send the changes of a call's status to a server, including those that have happened already.

        Args:
            call_id: the id of an existing call, or of a channel in it.
            url: the server.
            method: HTTP method.
            events: which.
            configured: the configuration determines the host.
        """
        record = self._records.get(call_id)
        call_id = record.id if record is not None else call_id  # events have the call's
        if call_id in self._watched or len(self._watched) >= MAX_CALLS:
            log.warning("status callbacks not sent, too many or repeated call=%s", call_id)
            return
        if not self._watched:
            self._unsubscribe = self._events.subscribe(self._on_event)
        watched = self._watched[call_id] = _Watched(call_id, url, method, events, configured)
        self._tasks.spawn(self._send_all(watched))
        passed: list[StatusEvent] = ["initiated"]
        if record is not None:
            passed += ["ringing"] if record.tm_ringing is not None else []
            passed += ["answered"] if record.tm_progressing is not None else []
            passed += ["completed"] if record.ended else []
        for event in passed:
            self._add(watched, event)

    def follow_recording(self, recording: Recording, callback: RecordingCallback, *, began: bool = True) -> None:
        """Send the status of a recording to a server, as it begins and when it has ended.

        Args:
            recording: it has begun.
            callback: the server.
            began: it begins now; otherwise in a previous run, which has sent that.
        """
        self.spawn(self._send_recording(recording, callback, began))

    async def _send_recording(self, recording: Recording, callback: RecordingCallback, began: bool) -> None:
        for due in (began, True):
            if due and (status := outcome(recording)) in callback.events:
                parameters = callback_parameters(self._account, callback, recording, status)
                await self._post(recording.call_id, callback.method, callback.url, parameters, callback.configured)
            await recording.finished()

    def follow_stream(self, stream: Stream, callback: StreamCallback) -> None:
        """Send the status of a stream to a server, as it connects, fails and ends; ignore one that is followed already.

        Args:
            stream: the stream.
            callback: the server.
        """
        if stream not in self._streams:
            self._streams.add(stream)
            self.spawn(follow(stream, partial(self._send_stream, stream.call.call_id, callback)))

    async def _send_stream(
        self, call_id: str, callback: StreamCallback, sid: str, event: StreamEvent, error: str
    ) -> None:
        parameters = stream_parameters(self._account, callback, call_id, sid, event)
        parameters |= {"Timestamp": utc(self._clock())} | ({"StreamError": error} if error else {})
        await self._post(call_id, callback.method, callback.url, parameters, callback.configured)

    def spawn(self, request: Coroutine[Any, Any, object]) -> None:
        """Send a request about a call whose flow has ended with it."""
        if len(self._tasks) < MAX_CALLS:
            self._tasks.spawn(request)
        else:
            request.close()
            log.warning("request about an ended call not sent, too many are pending limit=%d", MAX_CALLS)

    async def close(self) -> None:
        """Stop, for the end of the process."""
        self._unsubscribe()
        for watched in self._watched.values():
            watched.due.put_nowait(None)
        await self._tasks.stop(CLOSING_S)

    def _on_event(self, event: Event) -> None:
        status = _OF_EVENTS.get(event.type)
        watched = self._watched.get(str(event.data.get("id"))) if status is not None else None
        if watched is not None and status is not None:
            self._add(watched, status)

    def _add(self, watched: _Watched, event: StatusEvent) -> None:
        if event in watched.seen or "completed" in watched.seen:
            return
        watched.seen.append(event)
        watched.due.put_nowait((event, self._clock()))

    async def _send_all(self, watched: _Watched) -> None:
        number = 0
        try:
            while True:
                due = await watched.due.get()
                if due is None:
                    return
                event, moment = due
                if event in watched.events:
                    await self._send(watched, event, moment, number)
                    number += 1
                if event == "completed":
                    return
        finally:
            self._watched.pop(watched.call_id, None)
            if not self._watched:
                self._unsubscribe()

    async def _send(self, watched: _Watched, event: StatusEvent, moment: float, number: int) -> None:
        record = self._records.get(watched.call_id)
        status = _STATUSES.get(event) or call_status(record)
        parameters = call_parameters(self._account, watched.call_id, record, status)
        parameters |= {
            "Timestamp": rfc2822(moment),
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(number),
        }
        if event == "completed":
            parameters |= _duration(record)
        await self._post(watched.call_id, watched.method, watched.url, parameters, watched.configured)

    async def _post(
        self, call_id: str, method: TwimlMethod, url: str, parameters: Mapping[str, str], configured: bool
    ) -> None:
        """Send one callback; a failure is logged.

        Args:
            call_id: the call that it is about.
            method: HTTP method.
            url: the server.
            parameters: of the request.
            configured: the configuration determines the host.
        """
        try:
            answer = await send(self._web, self._account, method, url, parameters, configured=configured)
            problem = "" if 200 <= answer.status < 300 else f"status {answer.status}"
        except WebFailed as failed:
            problem = str(failed)
        if problem:
            status = next((parameters[name] for name in _NAMES if name in parameters), "")
            log.warning("status callback not delivered call=%s status=%s error=%s", call_id, status, problem)


def _duration(record: CallRecord | None) -> dict[str, str]:
    """Return the durations of an ended call: in seconds, and in minutes as they are billed."""
    found: dict[str, str] = {}
    seconds = duration_s(record.tm_progressing, record.tm_hangup) if record is not None else 0
    found["CallDuration"] = str(seconds)
    if seconds:
        found["Duration"] = str(-(-seconds // 60))
    if record is not None and record.sip_code:
        found["SipResponseCode"] = str(record.sip_code)
    return found
