"""Events: `hub` distributes them within the process, `webhooks` sends them to servers."""

from bridge.events.hub import EVENT_TYPES, Event, Events, as_json

__all__ = ["EVENT_TYPES", "Event", "Events", "as_json"]
