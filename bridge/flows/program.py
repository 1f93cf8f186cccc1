"""A flow after it was checked: actions with options that fit, targets that exist. And how a wrong one is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import getrandbits
from typing import Any, Literal
from uuid import UUID

from bridge.texts import cut

Syntax = Literal["voipbin", "voxology"]
Then = Literal["hangup", "continue"]
"""What becomes of a call when its flow is over; ``continue``: in the dialplan."""


@dataclass(frozen=True, slots=True)
class FlowError:
    """One thing wrong with a flow.

    Args:
        index: the action's place in the list from 0; None: the list itself.
        key: dotted place inside the action, for example ``option.duration``; "": the action itself.
        reason: what was wrong and what is expected.
        path: of the list itself: ``actions``, or ``actions[3].option.actions`` for one within an action.
    """

    index: int | None
    key: str
    reason: str
    path: str = "actions"

    def __str__(self) -> str:
        place = self.path if self.index is None else f"{self.path}[{self.index}]"
        return f"{place}{'.' if self.key else ''}{self.key}: {self.reason}"


class InvalidFlow(ValueError):
    """A flow that cannot be run; ``errors`` names everything that is wrong with it, the text has one line for each."""

    def __init__(self, errors: Iterable[FlowError]) -> None:
        self.errors = tuple(replace(each, key=cut(each.key), reason=cut(each.reason)) for each in errors)
        super().__init__("\n".join(map(str, self.errors)))


def new_action_id() -> str:
    """Return a UUID for an action without an id.

    `uuid.uuid4` would call the system for each, and release the interpreter meanwhile. A thread that does so for a
    thousand actions takes it back every time before the event loop wakes up: no call gets audio for 0.1 s.
    """
    return str(UUID(int=getrandbits(128), version=4))


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a flow."""

    id: str
    """Given by the author or made by us; unique in its program."""
    type: str
    """As its author wrote it: ``talk``, ``SAY``."""
    index: int
    """Place in the author's list: of the outermost action, for one within another."""
    does: str
    """Name of the function that it runs (`bridge.flows.action_registry`): ``talk`` for both."""
    options: Any
    """The function's options (a pydantic model); texts and numbers may still hold ``${variables}``."""
    next_id: str = ""
    """The action that follows this one; "": the next in the list."""


@dataclass(frozen=True, slots=True)
class Program:
    """Actions in order."""

    actions: tuple[Action, ...]
    syntax: Syntax
    source: Any = None
    """The list as it was given."""
    configured: bool = False
    """Whether the configuration holds it: a URL in it is the administrator's."""
    _indexes: Mapping[str, int] = field(default_factory=dict, repr=False)

    def index_of(self, action_id: str) -> int | None:
        """Where in ``actions`` the one with this id is."""
        return self._indexes.get(action_id)


def program(actions: Iterable[Action], syntax: Syntax, source: Any = None) -> Program:
    """A program of checked actions."""
    listed = tuple(actions)
    return Program(listed, syntax, source, _indexes={action.id: index for index, action in enumerate(listed)})


# What an action's function may say about how the flow goes on


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on with this action of the same list."""

    action_id: str


@dataclass(frozen=True, slots=True)
class Enter:
    """Run another list; ``returns``: then go on after this action, otherwise the old list is forgotten."""

    program: Program
    returns: bool


@dataclass(frozen=True, slots=True)
class End:
    """The flow is over."""

    reason: str


Step = Jump | Enter | End
