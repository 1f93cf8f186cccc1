"""Which actions there are: each is one function, registered under VoIPBIN's name for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from bridge.flows.facilities import Facilities
from bridge.flows.options import Options
from bridge.flows.program import Step

AfterRestart = Literal["repeat", "skip", "instant"]
"""What a flow does that resumes at such an action after a restart: begin it again, or continue with the next one if
its effect must not come twice. The place of an ``instant`` action is not kept: nothing happens in it."""
RunT = TypeVar("RunT")
OptionsT = TypeVar("OptionsT", bound=Options)
Function = Callable[[Any, Any], Awaitable[Step | None]]
"""Called with the `Run` and the options."""
Missing = Iterable[tuple[str, str]]
"""What an action needs and does not get: the option's key ("": none), and the reason."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What an action is."""

    name: str
    options: type[Options]
    function: Function
    needs_audio: bool
    """The call is answered, and held in a bridge, before the function runs."""
    needs: Callable[[Any, Facilities], Missing]
    """Called with the options as they were written."""
    internal: bool
    """Written by no author: what actions of another syntax are made of."""
    after_restart: AfterRestart


DEFINITIONS: dict[str, Definition] = {}


REOPEN: dict[str, Callable[[Any, Mapping[str, Any]], Awaitable[None]]] = {}
"""What opens a stream again that a flow had open before a restart, by the name of its action; called with the `Run`."""


class Openable(Protocol):
    """A stream, or external media of another server."""

    @property
    def ended(self) -> bool:
        """Whether it has ended."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream that a flow has opened and does not wait for."""

    fact: Mapping[str, Any]
    """How to open it again."""
    stream: Openable


def action(
    *names: str,
    options: type[OptionsT],
    needs_audio: bool = False,
    needs: Callable[[OptionsT, Facilities], Missing] = lambda *_: (),
    internal: bool = False,
    after_restart: AfterRestart = "repeat",
) -> Callable[[Callable[[RunT, OptionsT], Awaitable[Step | None]]], Callable[[RunT, OptionsT], Awaitable[Step | None]]]:
    """Register a function as an action; it returns what happens next, None for the action that follows.

    Args:
        names: VoIPBIN's name, and others for the same.
        options: the model that checks the options.
        needs_audio: answer the call first.
        needs: what the configuration lacks for it: a flow with it is rejected then.
        internal: not to be written in a flow.
        after_restart: see `AfterRestart`.
    """

    def register(
        function: Callable[[RunT, OptionsT], Awaitable[Step | None]],
    ) -> Callable[[RunT, OptionsT], Awaitable[Step | None]]:
        for name in names:
            assert name not in DEFINITIONS, name
            DEFINITIONS[name] = Definition(name, options, function, needs_audio, needs, internal, after_restart)
        return function

    return register


def dialplan_entry(_: Options, facilities: Facilities) -> Missing:
    """Need an entry of the dialplan (docs/howto/dialplan-entries.md)."""
    if not facilities.context:
        yield "", "needs calling.context: the context of the dialplan that has the entries of asterisk-bridge"


class ActionFailed(Exception):
    """An action could not do what it is for; the flow goes on with the next."""
