"""Callbacks about recordings: their parameters, and the ids by which applications identify recordings.

Source: twilio.com/docs/voice/api/recording#recordingstatuscallback (2026).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Literal, get_args

from msgspec import Struct

from bridge.control.recorder import Recording
from bridge.dialects.twilio import call_sid
from bridge.flows.twiml_requests import API_VERSION, TwimlAccount, TwimlMethod, rfc2822

RecordingEvent = Literal["in-progress", "completed", "absent"]
RECORDING_EVENTS: tuple[RecordingEvent, ...] = get_args(RecordingEvent)
COMPLETED: tuple[RecordingEvent, ...] = ("completed",)
TRACKS = {"in": "inbound", "out": "outbound", "both": "both"}
"""The vendor's name of each direction."""


class RecordingCallback(Struct, frozen=True):
    """Server that receives the status of a recording.

    Args:
        url: the server.
        method: HTTP method.
        events: which are sent.
        source: what has started the recording, in the vendor's words.
        configured: the configuration determines the host.
        verify_tls: check the certificate and the host name of the server.
        ca_file: PEM file with the only trusted authorities; empty: those of the system.
    """

    url: str
    method: TwimlMethod = "POST"
    events: Collection[RecordingEvent] = COMPLETED
    source: str = "RecordVerb"
    configured: bool = False
    verify_tls: bool = True
    ca_file: str = ""


def recording_events(text: str) -> tuple[RecordingEvent, ...]:
    """Return the events in a string, separated by spaces; by default ``completed``.

    Raises:
        ValueError: one is unknown.
    """
    given = text.split()
    if unknown := [each for each in given if each not in RECORDING_EVENTS]:
        raise ValueError(f"{unknown[0][:40]!r} is not one of {', '.join(RECORDING_EVENTS)}")
    return tuple(each for each in RECORDING_EVENTS if each in given) or COMPLETED


def recording_sid(recording_id: str) -> str:
    """Return the id by which applications identify a recording."""
    return "RE" + hashlib.sha256(recording_id.encode()).hexdigest()[:32]


def recording_url(account: TwimlAccount, recording_id: str) -> str:
    """Return the URL of a recording."""
    return f"{account.public_url}/{API_VERSION}/Accounts/{account.sid}/Recordings/{recording_sid(recording_id)}"


def outcome(recording: Recording) -> RecordingEvent:
    """Return the status of a recording: ``absent`` if it has ended without audio."""
    if recording.status == "recording":
        return "in-progress"
    return "completed" if recording.status == "ended" and recording.duration_s else "absent"


def recorded_s(recording: Recording) -> int:
    """Return the duration of a completed recording as the vendor reports it: integer seconds, at least 1."""
    return max(round(recording.duration_s), 1)


def callback_parameters(
    account: TwimlAccount, callback: RecordingCallback, recording: Recording, status: RecordingEvent
) -> dict[str, str]:
    """Return the parameters of a callback.

    Args:
        account: the account.
        callback: where it is sent.
        recording: the recording.
        status: which event it is.
    """
    found = {
        "AccountSid": account.sid,
        "CallSid": call_sid(recording.call_id),
        "RecordingSid": recording_sid(recording.id),
        "RecordingUrl": recording_url(account, recording.id),
        "RecordingStatus": status,
        "RecordingChannels": "1",
        "RecordingStartTime": rfc2822(recording.tm_start),
        "RecordingSource": callback.source,
        "RecordingTrack": TRACKS.get(recording.direction, "both"),
    }
    if status == "completed":
        found["RecordingDuration"] = str(recorded_s(recording))
    return found
