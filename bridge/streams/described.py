"""Streams as lists of them show each."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.streams.pushed import PushedStream
from bridge.streams.stream import Stream


def describe(stream: Stream) -> Mapping[str, object]:
    """What lists of streams say about one."""
    return {
        "id": stream.stream_id,
        "call_id": stream.call_id,
        "channel_id": stream.party_id,
        "conference_id": stream.conference_id,
        "principal": stream.principal.id,
        "dialect": stream.dialect.name,
        "direction_listen": stream.track,
        "live": stream.live,
        "sensitive": stream.sensitive,
        "opened_at": stream.opened_at,
        "queued_ms": round(stream.queued_ms),
        "unsent_ms": round(stream.link.unsent_ms),
        "dropped_to_application_ms": round(stream.link.dropped_ms),
        "dropped_from_application_ms": round(stream.dropped_ms),
        "discarded_messages": stream.dialect.discarded,
    }


def describe_pushed(stream: PushedStream) -> Mapping[str, object]:
    """What lists of streams say about one that we have dialled."""
    return {
        "id": stream.stream_id,
        "call_id": stream.call.call_id,
        "started_by": stream.label,
        "principal": stream.principal.id,
        "dialect": stream.dialect.name,
        "tracks": [{"name": track.name, "channel_id": track.channel_id} for track in stream.tracks],
        "live": stream.live,
        "trouble": stream.trouble,
        "connects": stream.connects,
        "sensitive": stream.sensitive,
        "opened_at": stream.opened_at,
        "queued_ms": round(stream.queued_ms),
        "unsent_ms": round(stream.link.unsent_ms) if stream.link else 0,
        "dropped_to_application_ms": round(stream.missed_ms + stream.dropped_ms),
        "dropped_from_application_ms": round(stream.dropped_from_application_ms),
        "discarded_messages": stream.dialect.discarded,
        "direction_listen": "",
    }
