"""What happens is told to others: `hub` inside the bridge, `webhooks` to servers."""

from bridge.events.hub import EVENT_TYPES, Event, Events, as_json

__all__ = ["EVENT_TYPES", "Event", "Events", "as_json"]
