"""A checked flow: actions with valid options and existing targets. And the errors of an invalid one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import getrandbits
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from bridge.texts import cut

Syntax = Literal["voipbin", "voxology", "twiml"]
Then = Literal["hangup", "continue"]
"""Handling of a call after its flow; ``continue``: it continues in the dialplan."""


class FlowError(Struct, frozen=True):
    """One error of a flow.

    Args:
        index: index of the action in the list; None: the list itself.
        key: dotted path inside the action, for example ``option.duration``; empty: the action itself.
        reason: what is wrong and what is expected.
        path: path of the list: ``actions``, or ``actions[3].option.actions`` for one within an action.
    """

    index: int | None
    key: str
    reason: str
    path: str = "actions"

    def __str__(self) -> str:
        where = self.path if self.index is None else f"{self.path}[{self.index}]"
        return f"{where}{'.' if self.key else ''}{self.key}: {self.reason}"


class InvalidFlow(ValueError):
    """A flow that cannot run; ``errors`` lists every error, and the message has one line for each."""

    def __init__(self, errors: Iterable[FlowError]) -> None:
        self.errors = tuple(replace(each, key=cut(each.key), reason=cut(each.reason)) for each in errors)
        super().__init__("\n".join(map(str, self.errors)))


def new_action_id() -> str:
    """Return a UUID for an action without an id.

    Not `uuid.uuid4`, which makes a system call and releases the GIL for each: a thread that does so for a thousand
    actions reacquires it each time before the event loop wakes up, and no call gets audio for 0.1 s.
    """
    return str(UUID(int=getrandbits(128), version=4))


class Action(Struct, frozen=True):
    """One step of a flow."""

    id: str
    """Set by the author, or generated; unique in its program."""
    type: str
    """As written by the author: ``talk``, ``SAY``."""
    index: int
    """Index in the author's list; for an action within another, that of the outermost one."""
    does: str
    """Name of the function that it runs (`bridge.flows.action_registry`): ``talk`` for both."""
    options: Any
    """The function's options (a pydantic model); strings and numbers may still contain ``${variables}``."""
    next_id: str = ""
    """Id of the next action; empty: the next in the list."""


class Document(Struct, frozen=True):
    """A TwiML document. JSON cannot express one: a server's response must not choose ``server``.

    Args:
        text: the document.
        url: where it came from; empty: it has no address.
        server: host and port that the configuration names, if it came from there.
        send_digits: DTMF digits that are sent before it runs.
    """

    text: str
    url: str = ""
    server: str = ""
    send_digits: str = ""


class Program(Struct, frozen=True):
    """Actions in order."""

    actions: tuple[Action, ...]
    syntax: Syntax
    source: Any = None
    """The list as given."""
    configured: bool = False
    """Whether the flow is part of the configuration: its URLs are then the administrator's."""
    server: str = ""
    """Host and port that the configuration names, where the flow came from: URLs there are trusted like the first."""
    _indexes: Mapping[str, int] = {}

    @property
    def literal(self) -> bool:
        """Whether ``${name}`` in options is text, and no variable."""
        return self.syntax == "twiml"

    def index_of(self, action_id: str) -> int | None:
        """Return the index of the action with this id in ``actions``; None if there is none."""
        return self._indexes.get(action_id)


def program(actions: Iterable[Action], syntax: Syntax, source: Any = None) -> Program:
    """Return a program of checked actions."""
    listed = tuple(actions)
    return Program(listed, syntax, source, _indexes={action.id: index for index, action in enumerate(listed)})


# Steps that an action's function may return


class Jump(Struct, frozen=True):
    """Continue with this action of the same list."""

    action_id: str


class Enter(Struct, frozen=True):
    """Run another list; ``returns``: then continue after this action, otherwise the old list is discarded."""

    program: Program
    returns: bool


class End(Struct, frozen=True):
    """End the flow."""

    reason: str


Step = Jump | Enter | End
