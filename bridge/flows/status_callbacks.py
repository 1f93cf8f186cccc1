"""Status callbacks: signed requests as a call rings, is answered and ends, as Twilio sends them; each once, in order.

Recordings and streams of calls have callbacks of their own. Those of calls follow the events of `bridge.calls.records`.
After a restart the next run continues them: one that was being sent may be sent twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import Any, Literal, get_args
from weakref import WeakSet

from msgspec import Struct, field
from msgspec.structs import asdict, replace

from bridge.calls.addresses import Address
from bridge.calls.call_record import CallRecord
from bridge.calls.journal import Journal
from bridge.calls.records import Records
from bridge.control.recorder import Recording
from bridge.control.recording import Recordings
from bridge.errors import AriError
from bridge.events.hub import Event, Events
from bridge.flows.recording_callbacks import RecordingCallback, RecordingEvent, callback_parameters, outcome
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
from bridge.tls import Trust

log = logging.getLogger(__name__)

StatusEvent = Literal["initiated", "ringing", "answered", "completed"]
STATUS_EVENTS: tuple[StatusEvent, ...] = get_args(StatusEvent)
AT_END: tuple[StatusEvent, ...] = ("completed",)
CALL, RECORDING, STREAM = "status_callback", "recording_callback", "stream_callback"
"""Kinds of facts: calls, recordings and streams whose servers have something still to receive."""
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


class _Watched(Struct, eq=False):
    """A call, and the events that its server has not received yet."""

    call_id: str
    url: str
    method: TwimlMethod
    events: Collection[StatusEvent]
    configured: bool
    verify_tls: bool = True
    ca_file: str = ""
    sent: list[StatusEvent] = field(default_factory=list)
    """Events that need no further request."""
    before: CallRecord | None = None
    """What the previous run knew of the call, or how it has ended."""
    seen: list[StatusEvent] = field(default_factory=list)
    due: asyncio.Queue[tuple[StatusEvent, float] | None] = field(default_factory=asyncio.Queue)
    """At most one entry for each event; None: nothing follows."""

    def fact(self, record: CallRecord | None) -> dict[str, Any]:
        """Return the stored form, with what is known of the call."""
        names = ("call_id", "url", "method", "configured", "verify_tls", "ca_file")
        kept = {name: getattr(self, name) for name in names} | {"events": [*self.events], "sent": [*self.sent]}
        if record is None:
            return {"watched": kept}
        addresses = {"source": asdict(record.source), "destination": asdict(record.destination)}
        known = {"direction": record.direction, "tm_progressing": record.tm_progressing}
        return {"watched": kept, "call": known | addresses}

    @classmethod
    def of(cls, fact: Mapping[str, Any]) -> _Watched:
        """Return the entry of a stored fact; raise TypeError or KeyError if the fact is malformed."""
        watched = cls(**fact["watched"])
        if not isinstance(watched.call_id, str):
            raise TypeError("the id of the call is not a string")
        watched.events, watched.seen = [*watched.events], [*watched.sent]
        if call := fact.get("call"):
            addresses = {name: Address(**call[name]) for name in ("source", "destination")}
            watched.before = CallRecord(watched.call_id, **{**call, **addresses})
        return watched


class StatusCallbacks:
    """The status callbacks of all calls of this process.

    Args:
        events: where calls' changes are published.
        records: the calls.
        web: sends requests.
        account: returns the account that signs them.
        clock: returns seconds since 1970.
        journal: stores what is still to be sent; None: it is lost with the process.
    """

    def __init__(
        self,
        events: Events,
        records: Records,
        web: Web,
        account: TwimlAccount,
        clock: Callable[[], float] = time.time,
        *,
        journal: Journal | None = None,
    ) -> None:
        self._events = events
        self._records = records
        self._web = web
        self._account = account
        self._clock = clock
        self._journal = journal or Journal()
        self._watched: dict[str, _Watched] = {}
        self._recordings: set[str] = set()
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
        verify_tls: bool = True,
        ca_file: str = "",
    ) -> None:
        """Send the changes of a call's status to a server, including those that have happened already.

        Args:
            call_id: the id of an existing call, or of a channel in it.
            url: the server.
            method: HTTP method.
            events: which.
            configured: the configuration determines the host.
            verify_tls: check the certificate and the host name of the server.
            ca_file: PEM file with the only trusted authorities; empty: those of the system.
        """
        record = self._records.get(call_id)
        call_id = record.id if record is not None else call_id  # events have the call's
        if call_id in self._watched:
            return  # the document that began the call is requested again after a restart
        if len(self._watched) >= MAX_CALLS:
            log.warning("status callbacks not sent, too many calls have them call=%s", call_id)
            return
        self._begin(_Watched(call_id, url, method, events, configured, verify_tls, ca_file))

    def _begin(self, watched: _Watched) -> None:
        if not self._watched:
            self._unsubscribe = self._events.subscribe(self._on_event)
        self._watched[watched.call_id] = watched
        self._tasks.spawn(self._send_all(watched))
        record = self._record(watched)
        passed: list[StatusEvent] = ["initiated"]
        if record is not None:
            passed += ["ringing"] if record.tm_ringing is not None else []
            passed += ["answered"] if record.tm_progressing is not None else []
            passed += ["completed"] if record.ended else []
        for event in passed:
            self._add(watched, event)
        self._keep(watched)

    def _record(self, watched: _Watched) -> CallRecord | None:
        """Return the record of a call, with the time of its answer also if a previous run has seen that."""
        record, before = self._records.get(watched.call_id), watched.before
        if record is None or before is None or before.tm_progressing is None:
            return record or before
        return replace(record, tm_progressing=before.tm_progressing)

    def _keep(self, watched: _Watched) -> None:
        if self._journal.kept:
            self._journal.put(CALL, watched.call_id, watched.fact(self._record(watched)))

    def resume(self, recordings: Recordings) -> None:
        """Continue the callbacks of the previous run; also those about what has ended since.

        Args:
            recordings: those that Asterisk continues are resumed already, and so are the calls.
        """
        for watched in self._journal.take_all(CALL, _Watched.of):
            if self._records.get(watched.call_id) is None:
                before = watched.before = watched.before or CallRecord(watched.call_id)
                before.status, before.hangup_reason, before.tm_hangup = "hangup", "noanswer", self._clock()
            self._begin(watched)
        for recording, callback, began in self._journal.take_all(RECORDING, _recording_of):
            if (running := recordings.running(recording.id)) is not None:
                self._follow_recording(running, callback, began=began)
            else:
                self._tasks.spawn(self._send_ended(recording, callback, recordings))
        for call_id, server, sid in self._journal.take_all(STREAM, _stream_of):
            self._journal.put(STREAM, sid, _stream_fact(call_id, server, sid))
            self._tasks.spawn(self._send_stream(call_id, server, sid, "stream-stopped", ""))

    def follow_recording(self, recording: Recording, callback: RecordingCallback) -> None:
        """Send the status of a recording to a server, as it begins and when it has ended; ignore a repeated request.

        Args:
            recording: it has begun.
            callback: the server.
        """
        self._follow_recording(recording, callback, began=False)

    def _follow_recording(self, recording: Recording, callback: RecordingCallback, *, began: bool) -> None:
        if recording.id not in self._recordings:
            self._recordings.add(recording.id)
            self._tasks.spawn(self._send_recording(recording, callback, began))

    async def _send_recording(self, recording: Recording, callback: RecordingCallback, began: bool) -> None:
        self._journal.put(RECORDING, recording.id, _recording_fact(recording, callback, began))
        if not began:
            await self._report_recording(recording, callback, "in-progress")
            self._journal.put(RECORDING, recording.id, _recording_fact(recording, callback, began=True))
        await recording.finished()
        self._recordings.discard(recording.id)
        await self._report_recording(recording, callback, outcome(recording))
        self._journal.drop(RECORDING, recording.id)

    async def _send_ended(self, recording: Recording, callback: RecordingCallback, recordings: Recordings) -> None:
        """Send the outcome of a recording that has ended while no process ran.

        Args:
            recording: what the previous run has stored of it.
            callback: the server.
            recordings: finds its file.
        """
        self._journal.put(RECORDING, recording.id, _recording_fact(recording, callback, began=True))
        try:
            await recordings.refresh()
            found = recordings.get(recording.id)
            recording.status, recording.duration_s = found.status, found.duration_s
        except (AriError, KeyError) as problem:
            log.warning("recording has no file recording=%s error=%r", recording.id, problem)
        await self._report_recording(recording, callback, outcome(recording))
        self._journal.drop(RECORDING, recording.id)

    async def _report_recording(
        self, recording: Recording, callback: RecordingCallback, status: RecordingEvent
    ) -> None:
        if status in callback.events:
            parameters = callback_parameters(self._account, callback, recording, status)
            await self._post(recording.call_id, callback, parameters)

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
        if event == "stream-started":
            self._journal.put(STREAM, sid, _stream_fact(call_id, callback, sid))
        parameters = stream_parameters(self._account, callback, call_id, sid, event)
        parameters |= {"Timestamp": utc(self._clock())} | ({"StreamError": error} if error else {})
        await self._post(call_id, callback, parameters)
        if event != "stream-started":
            self._journal.drop(STREAM, sid)

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
        if event == "completed":
            watched.before = self._record(watched)  # its record may be deleted before the request is sent
        watched.due.put_nowait((event, self._clock()))
        self._keep(watched)

    async def _send_all(self, watched: _Watched) -> None:
        try:
            while "completed" not in watched.sent:
                due = await watched.due.get()
                if due is None:
                    return
                event, moment = due
                if event in watched.events:
                    await self._send(watched, event, moment)
                watched.sent.append(event)
                self._keep(watched)
            self._journal.drop(CALL, watched.call_id)
        finally:
            self._watched.pop(watched.call_id, None)
            if not self._watched:
                self._unsubscribe()

    async def _send(self, watched: _Watched, event: StatusEvent, moment: float) -> None:
        record = self._record(watched)
        status = _STATUSES.get(event) or call_status(record)
        parameters = call_parameters(self._account, watched.call_id, record, status)
        parameters |= {
            "Timestamp": rfc2822(moment),
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(sum(each in watched.events for each in watched.sent)),
        }
        if event == "completed":
            parameters |= _duration(record)
        await self._post(watched.call_id, watched, parameters)

    async def _post(
        self, call_id: str, to: _Watched | RecordingCallback | StreamCallback, parameters: Mapping[str, str]
    ) -> None:
        """Send one callback; a failure is logged.

        Args:
            call_id: the call that it is about.
            to: the server.
            parameters: of the request.
        """
        if self._journal.frozen:
            return  # the next run sends it
        trust = Trust(to.verify_tls, to.ca_file)
        try:
            answer = await send(
                self._web, self._account, to.method, to.url, parameters, configured=to.configured, trust=trust
            )
            problem = "" if 200 <= answer.status < 300 else f"status {answer.status}"
        except WebFailed as failed:
            problem = str(failed)
        except Exception:  # what follows must not stop: the fact would remain
            log.exception("status callback not sent, an internal error call=%s", call_id)
            return
        if problem:
            status = next((parameters[name] for name in _NAMES if name in parameters), "")
            log.warning("status callback not delivered call=%s status=%s error=%s", call_id, status, problem)


def _recording_fact(recording: Recording, callback: RecordingCallback, began: bool) -> dict[str, Any]:
    names = ("id", "call_id", "channel_id", "format", "principal", "tm_start", "direction")
    known = {name: getattr(recording, name) for name in names}
    kept = asdict(callback) | {"events": [*callback.events]}
    return {"recording": known, "callback": kept, "began": began}


def _recording_of(fact: Mapping[str, Any]) -> tuple[Recording, RecordingCallback, bool]:
    """Return a recording of the previous run as one without a file, its callback, and whether its begin was sent."""
    return Recording(**fact["recording"], status="failed"), RecordingCallback(**fact["callback"]), fact["began"]


def _stream_fact(call_id: str, callback: StreamCallback, sid: str) -> dict[str, Any]:
    return {"call_id": call_id, "callback": asdict(callback), "sid": sid}


def _stream_of(fact: Mapping[str, Any]) -> tuple[str, StreamCallback, str]:
    return fact["call_id"], StreamCallback(**fact["callback"]), fact["sid"]


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
