"""The WebSocket of events."""

from __future__ import annotations

from bridge.api.models.base import Query


class EventQuery(Query):
    """Which events."""

    types: str = "*"
    """Patterns with commas between them: `call_*,flow_*`. None includes `dtmf_received`: name it to receive it."""
