"""Tickets with which a browser opens a WebSocket."""

from typing import Literal

from bridge.api.models.base import Body, Shown, Time


class CreateTicket(Body):
    """The use for which a ticket is requested."""

    direction: Literal["listen", "speak", "both"] = "both"
    """`listen` opens a stream with `direction_speak=none`, `speak` one with `direction_listen=none`."""


class Ticket(Shown):
    """A ticket, valid for one WebSocket."""

    ticket: str
    """For the URL of the WebSocket: `?ticket=...`."""
    direction: Literal["listen", "speak", "both", "events"]
    tm_expire: Time
    """When it expires: 30 s after it was issued."""
