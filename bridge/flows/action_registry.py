"""The registry of actions: each is one function, registered under VoIPBIN's name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeVar

from msgspec import Struct

from bridge.flows.action_settings import ActionSettings
from bridge.flows.options import Options
from bridge.flows.program import Step

AfterRestart = Literal["repeat", "skip", "instant"]
"""Where a flow that stopped at such an action resumes after a restart.

``repeat``: with this action; ``skip``: with the next one, as its effect must not happen twice; ``instant``: with the
last action that is not instant, as the position of this one is not stored.
"""
RunT = TypeVar("RunT")
OptionsT = TypeVar("OptionsT", bound=Options)
Function = Callable[[Any, Any], Awaitable[Step | None]]
"""Called with the `Run` and the options."""
Missing = Iterable[tuple[str, str]]
"""A setting that an action needs but the configuration lacks: the option's key (empty: none), and the reason."""


class Definition(Struct, frozen=True):
    """A registered action."""

    name: str
    options: type[Options]
    function: Function
    needs_audio: bool
    """The call is answered, and held in a bridge, before the function runs."""
    needs: Callable[[Any, ActionSettings], Missing]
    """Called with the options as written."""
    internal: bool
    """Not for authors: part of an action of another syntax."""
    after_restart: AfterRestart


DEFINITIONS: dict[str, Definition] = {}


REOPEN: dict[str, Callable[[Any, Mapping[str, Any]], Awaitable[None]]] = {}
"""Reopens a stream that a flow had open before a restart, by the name of its action; called with the `Run`."""


class Openable(Protocol):
    """A stream, or external media to another server."""

    @property
    def ended(self) -> bool:
        """Whether the stream has ended."""


class Opened(Struct, frozen=True):
    """A stream that a flow opened without waiting for its end."""

    fact: Mapping[str, Any]
    """How to open the stream again."""
    stream: Openable


def action(
    *names: str,
    options: type[OptionsT],
    needs_audio: bool = False,
    needs: Callable[[OptionsT, ActionSettings], Missing] = lambda *_: (),
    internal: bool = False,
    after_restart: AfterRestart = "repeat",
) -> Callable[[Callable[[RunT, OptionsT], Awaitable[Step | None]]], Callable[[RunT, OptionsT], Awaitable[Step | None]]]:
    """Register a function as an action; the function returns the next step, None for the following action.

    Args:
        names: VoIPBIN's name, and synonyms.
        options: the model of the options.
        needs_audio: answer the call first.
        needs: returns what the configuration lacks; a flow with such an action is rejected.
        internal: cannot be written in a flow.
        after_restart: see `AfterRestart`.

    Returns:
        The decorator.
    """

    def register(
        function: Callable[[RunT, OptionsT], Awaitable[Step | None]],
    ) -> Callable[[RunT, OptionsT], Awaitable[Step | None]]:
        for name in names:
            assert name not in DEFINITIONS, name
            DEFINITIONS[name] = Definition(name, options, function, needs_audio, needs, internal, after_restart)
        return function

    return register


def dialplan_entry(_: Options, settings: ActionSettings) -> Missing:
    """Require an entry of the dialplan (docs/howto/dialplan-entries.md)."""
    if not settings.context:
        yield "", "requires calling.context, the dialplan context with the entries of asterisk-bridge"


class ActionFailed(Exception):
    """An action failed; the flow continues with the next one."""
