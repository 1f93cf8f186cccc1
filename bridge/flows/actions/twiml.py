"""Actions behind TwiML's verbs: those that request the next document, and those that report an unknown verb."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bridge import templates
from bridge.audio import tones
from bridge.control.legs import Leg, LegEnded
from bridge.dialects.twilio import call_sid
from bridge.errors import BridgeError
from bridge.flows.action_registry import REOPEN, ActionFailed, action
from bridge.flows.actions.call import AmdOptions, amd, hang_up
from bridge.flows.actions.conference import NamedConferenceOptions, QueueJoinOptions, named_conference, queue_join
from bridge.flows.actions.dtmf import CollectOptions, remember
from bridge.flows.actions.recording import RecordMessageOptions, record_followed
from bridge.flows.actions.routing import ConnectOptions, connect_prepared
from bridge.flows.actions.streams import FlowStreamOptions, reopen, run_stream
from bridge.flows.documents import FACTS, ServerFacts, notify, request_document
from bridge.flows.options import Options
from bridge.flows.program import End, Enter
from bridge.flows.recording_callbacks import (
    COMPLETED,
    RecordingCallback,
    RecordingEvent,
    outcome,
    recorded_s,
    recording_sid,
    recording_url,
)
from bridge.flows.stream_callbacks import StreamCallback
from bridge.flows.twiml_requests import UNANSWERED, TwimlMethod, duration_s
from bridge.flows.twiml_verbs import digits_and_waits
from bridge.flows.web import WebFailed
from bridge.speech.engine import Utterance
from bridge.streams.dialing import variables_of
from bridge.tls import Trust

if TYPE_CHECKING:
    from bridge.control.recorder import Recording
    from bridge.flows.interpreter import Run
    from bridge.streams.stream import Stream

log = logging.getLogger(__name__)

RECORDING = "voipbin.recording.id"
"""The variable with the id of the latest recording."""
FINISHED_S = 10.0
"""How long the file of a recording may take to be complete after the end of its call."""
APOLOGY = "We are sorry, an application error has occurred. Goodbye."
"""Spoken to the caller when no document is available."""


class UnsupportedOptions(Options):
    """Options of unsupported."""

    reason: str


@action("twiml_unsupported", options=UnsupportedOptions, internal=True, after_restart="instant")
async def unsupported(_: Run, options: UnsupportedOptions) -> None:
    """Report a verb or an attribute that is not supported; the flow continues with the next action."""
    raise ActionFailed(options.reason)


class NextDocument(Options):
    """The source of the next document; without a URL, the current one continues."""

    action_url: str = ""
    action_method: TwimlMethod = "POST"


class DocumentOptions(Options):
    """Options of document."""

    url: str
    method: TwimlMethod = "POST"
    fallback_url: str = ""
    fallback_method: TwimlMethod = "POST"
    status_callback: str = ""
    status_callback_method: TwimlMethod = "POST"
    channel_variables: list[str] | None = None
    """Variables that templates in the URLs may use; None: the URLs have no templates."""
    detect: bool = False
    """Detect first whether a person or a machine has answered."""
    continues: bool = False
    """The call continues in the dialplan when no document is available."""
    verify_tls: bool = True
    ca_file: str = ""


@action("twiml_document", options=DocumentOptions, internal=True)
async def document(run: Run, options: DocumentOptions) -> Enter | End:
    """Request the first document of a call, and remember its server."""
    options = await _filled(run, options)
    facts = options.model_dump(include={"fallback_url", "fallback_method", "continues", "verify_tls", "ca_file"})
    run.facts[FACTS] = facts
    if options.status_callback:
        run.services.status_callbacks.watch(
            run.call_id,
            options.status_callback,
            options.status_callback_method,
            **_trust(run, configured=run.names_host(options.status_callback)),
        )
    if options.detect:
        try:
            await amd(run, AmdOptions())
        except ValueError as problem:
            log.warning("answering machine detection unavailable call=%s error=%s", run.call_id, problem)
    return await _next(run, options.method, options.url, {})


async def _filled(run: Run, options: DocumentOptions) -> DocumentOptions:
    """Return options with the templates of their URLs filled."""
    if options.channel_variables is None:
        return options
    given = {name: getattr(options, name) for name in ("url", "fallback_url", "status_callback")}
    facts: dict[str, str] = {}
    if used := set().union(*map(templates.names_in, given.values())):
        call = await run.services.streams.facts_of(run.leg)
        names = tuple(name for name in options.channel_variables if name in used)
        variables = await variables_of(names, (run.leg.id,), lambda _, name: run.leg.get_variable(name))
        facts = call.facts | variables
    return options.model_copy(update={name: templates.fill_url(url, facts) for name, url in given.items()})


def _trust(run: Run, *, configured: bool) -> dict[str, Any]:
    """Return whether the configuration determines the host of a callback, and which certificates are accepted."""
    trust = ServerFacts(run).trust if configured else Trust()
    return {"configured": configured, "verify_tls": trust.verify, "ca_file": trust.ca_file}


class RedirectDocumentOptions(Options):
    """Options of redirect_document."""

    url: str
    method: TwimlMethod = "POST"


@action("twiml_redirect", options=RedirectDocumentOptions, internal=True)
async def redirect_document(run: Run, options: RedirectDocumentOptions) -> Enter | End:
    """Continue with another document."""
    return await _next(run, options.method, options.url, {})


class GatherOptions(CollectOptions, NextDocument):
    """Options of gather."""

    on_empty: bool = False
    """Request the next document also without a digit."""


@action("twiml_gather", options=GatherOptions, needs_audio=True, internal=True)
async def gather(run: Run, options: GatherOptions) -> Enter | End | None:
    """Receive DTMF; with a digit, continue with the document for it."""
    wanted = options.length or 100
    digits, finished_on = "", ""
    while len(digits) < wanted:
        key = await run.leg.digits.get(options.duration / 1000)
        if key is None:
            break
        if key in options.key.upper():
            finished_on = key
            break
        digits += key
    remember(run, digits, "")
    if not digits and not options.on_empty:
        return None
    return await _after(run, options, {"Digits": digits, "FinishedOnKey": finished_on})


class DialDocumentOptions(ConnectOptions, NextDocument):
    """Options of dial_document; a destination without a type is a number."""

    send_digits: list[str] = Field(default_factory=list)
    """DTMF digits for each destination, which are sent when it answers."""


@action("twiml_dial", options=DialDocumentOptions, internal=True)
async def dial_document(run: Run, options: DialDocumentOptions) -> Enter | End | None:
    """Dial, connect the caller with the first that answers, and continue with the document for the outcome."""
    account = run.services.account
    if not run.flow_id and not account.originate:
        raise ActionFailed("<Dial> requires twilio.originate, as this document came over HTTP")
    number = run.services.settings.policy.number_type
    kinds = [each if each.type else each.model_copy(update={"type": number}) for each in options.destinations]

    async def send_digits(leg: Leg, index: int) -> None:
        for part in digits_and_waits(options.send_digits[index]) if options.send_digits else ():
            if isinstance(part, int):
                await leg.unless_gone(asyncio.sleep(part / 1000))
            else:
                await leg.send_digits(part)

    try:
        await connect_prepared(run, options.model_copy(update={"destinations": kinds}), send_digits)
    except (asyncio.CancelledError, LegEnded):
        if run.leg.gone.is_set() and options.action_url:  # the caller has hung up
            more = {**_dialed(run, "cancel"), "CallStatus": "completed"}
            run.services.status_callbacks.spawn(notify(run, options.action_method, options.action_url, more))
        raise
    return await _after(run, options, _dialed(run, run.variables.get("connect.reason")))


def _dialed(run: Run, reason: str) -> dict[str, str]:
    """Return the outcome of a dial.

    Args:
        run: the flow.
        reason: why nobody was connected.
    """
    child = run.services.records.get(run.variables.get("connect.call_id"))
    if child is None:
        status = "completed" if reason == "normal" else UNANSWERED.get(reason, "failed")  # type: ignore[call-overload]
        return {"DialCallStatus": status, "DialBridged": "false"}
    return {
        "DialCallStatus": "completed",
        "DialBridged": "true",
        "DialCallSid": call_sid(child.id),
        "DialCallDuration": str(duration_s(child.tm_progressing, child.tm_hangup)),
    }


class ConferenceDocumentOptions(NamedConferenceOptions, NextDocument):
    """Options of conference_document."""


@action("twiml_conference", options=ConferenceDocumentOptions, needs_audio=True, internal=True)
async def conference_document(run: Run, options: ConferenceDocumentOptions) -> Enter | End | None:
    """Join a conference until the caller leaves it, and continue with the next document."""
    began = time.time()
    await named_conference(run, options)
    more = {"DialCallStatus": "completed", "DialBridged": "true", "DialCallDuration": str(duration_s(began, None))}
    return await _after(run, options, more)


class RecordDocumentOptions(RecordMessageOptions, NextDocument):
    """Options of record_document."""

    callback_url: str = ""
    callback_method: TwimlMethod = "POST"
    callback_events: list[RecordingEvent] = Field(default_factory=lambda: list(COMPLETED))


@action("twiml_record", options=RecordDocumentOptions, needs_audio=True, internal=True)
async def record_document(run: Run, options: RecordDocumentOptions) -> Enter | End | None:
    """Record the caller until DTMF, silence or the duration ends it, and continue with the next document."""
    before = run.variables.get(RECORDING)

    def follow(recording: Recording) -> None:
        if url := options.callback_url:
            trust = _trust(run, configured=run.names_host(url))
            callback = RecordingCallback(url, options.callback_method, options.callback_events, **trust)
            run.services.status_callbacks.follow_recording(recording, callback)

    try:
        await record_followed(run, options, follow)
        if _has_hung_up(run):  # Asterisk may report the end of the recording first
            raise LegEnded("the caller has hung up")
    except (asyncio.CancelledError, LegEnded):
        # The caller has hung up, as callers of a voice mailbox do: its server is still notified.
        recording_id = run.variables.get(RECORDING)
        if _has_hung_up(run) and options.action_url and recording_id != before:
            run.services.status_callbacks.spawn(_report_hangup(run, options, recording_id))
        raise
    return await _after(run, options, _recorded(run, run.variables.get(RECORDING)))


def _has_hung_up(run: Run) -> bool:
    record = run.services.records.get(run.leg.id)
    return run.leg.gone.is_set() or (record is not None and record.ended)


async def _report_hangup(run: Run, options: RecordDocumentOptions, recording_id: str) -> None:
    """Request the document after a recording that the caller has ended by hanging up; nothing runs it."""
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISHED_S):
                await run.services.recordings.get(recording_id).finished()
        found = _recorded(run, recording_id)
    except (ActionFailed, KeyError) as problem:  # nothing was recorded, or the recording was deleted
        log.info("no request about a recording call=%s reason=%s", run.call_id, problem)
        return
    more = {**found, "Digits": "hangup", "CallStatus": "completed"}
    await notify(run, options.action_method, options.action_url, more)


def _recorded(run: Run, recording_id: str) -> dict[str, str]:
    recording = run.services.recordings.get(recording_id)
    if outcome(recording) != "completed":
        raise ActionFailed(f"nothing was recorded: {recording.trouble or 'no audio'}")
    return {
        "RecordingUrl": recording_url(run.services.account, recording.id),
        "RecordingSid": recording_sid(recording.id),
        "RecordingDuration": str(recorded_s(recording)),
    }


class StreamDocumentOptions(FlowStreamOptions):
    """Options of stream_document."""

    callback_url: str = ""
    callback_method: TwimlMethod = "POST"
    callback_configured: bool = False
    """The configuration determines the host of the callback."""

    def started(self, run: Run, stream: Stream) -> None:
        """Send the status of the stream to its server."""
        if self.callback_url:
            trust = _trust(run, configured=self.callback_configured)
            callback = StreamCallback(self.callback_url, self.callback_method, self.stream_name, **trust)
            run.services.status_callbacks.follow_stream(stream, callback)


@action("twiml_stream", options=StreamDocumentOptions, needs_audio=True, internal=True)
async def stream_document(run: Run, options: StreamDocumentOptions) -> None:
    """Start a stream whose status is sent to a server."""
    configured = bool(options.callback_url) and run.names_host(options.callback_url)
    await run_stream(run, "twiml_stream", options.model_copy(update={"callback_configured": configured}))


REOPEN["twiml_stream"] = reopen


class EnqueueDocumentOptions(QueueJoinOptions, NextDocument):
    """Options of enqueue_document."""


_QUEUE_RESULTS = {"": "bridged", "FULL": "queue-full", "TIMEOUT": "leave", "CONTINUE": "leave", "WITHDRAW": "leave"}


@action("twiml_enqueue", options=EnqueueDocumentOptions, internal=True)
async def enqueue_document(run: Run, options: EnqueueDocumentOptions) -> Enter | End | None:
    """Wait in a queue of the PBX, and continue with the document for the outcome."""
    began = time.time()
    await queue_join(run, options)
    status = run.variables.get("queue.status")
    more = {
        "QueueResult": _QUEUE_RESULTS.get(status, "error"),
        "QueueSid": "QU" + hashlib.sha256(options.queue_id.encode()).hexdigest()[:32],
        "QueueTime": str(duration_s(began, None)),
    }
    return await _after(run, options, more)


async def _after(run: Run, options: NextDocument, more: dict[str, str]) -> Enter | End | None:
    if not options.action_url:
        return None
    return await _next(run, options.action_method, options.action_url, more)


async def _next(run: Run, method: TwimlMethod, url: str, more: dict[str, str]) -> Enter | End:
    try:
        return await request_document(run, method, url, more)
    except WebFailed as problem:
        reason = f"no document: {problem}"
        log.warning("document unavailable, call ends call=%s error=%s", run.call_id, problem)
    if not ServerFacts(run).continues:
        try:
            said = await run.services.speech.say(Utterance(APOLOGY))
            await run.speak(said.pcm, said.rate)
        except BridgeError:
            for _ in range(3):
                tone = tones.beep()
                await run.speak(tone.pcm, tone.rate)
                await asyncio.sleep(0.3)
        await hang_up(run, "normal")
    return End(reason)
