"""Which actions there are: each is one function, registered under VoIPBIN's name for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bridge.flows.options import Options
from bridge.flows.program import Step

RunT = TypeVar("RunT")
OptionsT = TypeVar("OptionsT", bound=Options)
Function = Callable[[Any, Any], Awaitable[Step | None]]
"""Called with the `Run` and the options."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What an action is."""

    name: str
    options: type[Options]
    function: Function
    needs_audio: bool
    """The call is answered, and held in a bridge, before the function runs."""
    internal: bool
    """Written by no author: what actions of another syntax are made of."""


DEFINITIONS: dict[str, Definition] = {}


def action(
    *names: str, options: type[OptionsT], needs_audio: bool = False, internal: bool = False
) -> Callable[[Callable[[RunT, OptionsT], Awaitable[Step | None]]], Callable[[RunT, OptionsT], Awaitable[Step | None]]]:
    """Register a function as an action; it returns what happens next, None for the action that follows.

    Args:
        names: VoIPBIN's name, and others for the same.
        options: the model that checks the options.
        needs_audio: answer the call first.
        internal: not to be written in a flow.
    """

    def register(
        function: Callable[[RunT, OptionsT], Awaitable[Step | None]],
    ) -> Callable[[RunT, OptionsT], Awaitable[Step | None]]:
        for name in names:
            assert name not in DEFINITIONS, name
            DEFINITIONS[name] = Definition(name, options, function, needs_audio, internal)
        return function

    return register


class ActionFailed(Exception):
    """An action could not do what it is for; the flow goes on with the next."""
