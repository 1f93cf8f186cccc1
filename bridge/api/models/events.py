"""The WebSocket of events."""

from bridge.api.models.base import Query


class EventQuery(Query):
    """The events to send."""

    types: str = "*"
    """Comma-separated patterns: `call_*,flow_*`. No pattern but its name includes `dtmf_received`."""
