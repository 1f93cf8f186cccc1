"""Events about streams: ``stream_started``, ``stream_connected``, ``stream_ended``, and what was spoken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Publisher(Protocol):
    """Publishes events (`bridge.events.hub.Events`)."""

    def publish(self, type: str, data: Mapping[str, Any], /) -> None:
        """Deliver an event to all subscribers; never raises, never blocks."""


class NullPublisher:
    """Discards events."""

    def publish(self, type: str, data: Mapping[str, Any], /) -> None:
        """Do nothing."""


def stream_event(
    stream_id: str,
    call_id: str,
    started_by: str,
    dialect: str,
    principal: str,
    reason: str = "",
    *,
    conference_id: str = "",
) -> dict[str, str]:
    """Return the data of an event about a stream.

    Args:
        stream_id: id in lists of streams.
        call_id: id of the call.
        started_by: ``client``, ``subscription:ID``, ``dialplan:ID``, ``flow:ACTION``.
        dialect: ``asterisk`` for external media between the PBX and another server.
        principal: id of who caused it (`bridge.access.Principal`).
        reason: why it ended; empty before.
        conference_id: of a stream on a conference.
    """
    data = {
        "id": stream_id,
        "call_id": call_id,
        "started_by": started_by,
        "principal": principal,
        "dialect": dialect,
        "reason": reason,
    }
    return data | ({"conference_id": conference_id} if conference_id else {})


def transcript_event(stream_id: str, call_id: str, party: str, message: str) -> dict[str, str]:
    """Return the data of ``transcript_created`` and ``transcribe_speech_interim``.

    Args:
        stream_id: id of the stream whose application has transcribed.
        call_id: id of the call.
        party: ``caller`` or ``agent``.
        message: the words.
    """
    direction = "in" if party == "caller" else "out"
    return {"stream_id": stream_id, "call_id": call_id, "party": party, "direction": direction, "message": message}
