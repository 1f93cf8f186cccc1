"""What both syntaxes check alike: the shape of the list, options against their model, targets that exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from bridge.flows.filling import host_of
from bridge.flows.options import NIL_UUID, Options
from bridge.flows.program import Action, FlowError, InvalidFlow, Program
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Denied
from bridge.validation import MAX_FAULTS, explain, suggestion

MAX_ACTIONS = 1000
"""Actions in one list, those within others included."""
MAX_FOUND = 1000
"""Errors that are collected; the first `MAX_FAULTS` by their place are reported."""
MAX_ENTRIES = 1000
"""Keys of an action or its options, and entries of each option: finding the words for every wrong one takes time."""
MAX_ID_CHARACTERS = 100


def listed(flow: Any, path: str) -> Sequence[Any]:
    """The list of actions in a flow, which may be an object that has it under ``actions``.

    Raises:
        InvalidFlow: there is none.
    """
    actions = flow.get("actions") if isinstance(flow, Mapping) else flow
    if not isinstance(actions, list | tuple):
        raise InvalidFlow([FlowError(None, "", "expected a list of actions", path)])
    if len(actions) > MAX_ACTIONS:
        raise InvalidFlow([FlowError(None, "", f"expected at most {MAX_ACTIONS} actions; got {len(actions)}", path)])
    return actions


class Checking:
    """Collects what is wrong with one list."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.found: list[FlowError] = []

    def wrong(self, index: int, key: str, reason: str) -> None:
        """Something is wrong with an action."""
        if len(self.found) < MAX_FOUND:
            self.found.append(FlowError(index, key, reason, self.path))

    def bounded(self, index: int, key: str, given: Mapping[str, Any]) -> bool:
        """Return whether an object has a bounded number of keys; if not, that is noted under ``key``."""
        if len(given) <= MAX_ENTRIES:
            return True
        self.wrong(index, key, f"expected at most {MAX_ENTRIES} keys; got {len(given)}")
        return False

    def options(self, index: int, key: str, model: type[Options], given: Any) -> Options | None:
        """Options that fit their model; None if they do not, and that is noted under ``key``."""
        if given is None:
            given = {}
        if not isinstance(given, Mapping):
            self.wrong(index, key, "expected an object")
            return None
        if not self.bounded(index, key, given):
            return None
        for below, value in given.items():
            if isinstance(value, list | dict) and len(value) > MAX_ENTRIES:
                self.wrong(
                    index, f"{key}.{str(below)[:60]}", f"expected at most {MAX_ENTRIES} entries; got {len(value)}"
                )
                return None
        try:
            return model.model_validate(dict(given))
        except ValidationError as problem:
            for below, reason in explain(problem, model, described=True):
                self.wrong(index, f"{key}{'' if not below or below.startswith('[') else '.'}{below}", reason)
        except InvalidFlow as refused:  # a flow within an action
            self.found.extend(refused.errors)
        return None

    def targets(self, actions: Iterable[Action], key: str) -> None:
        """Every action that another names must be there."""
        actions = tuple(actions)
        ids = {action.id for action in actions}
        for action in actions:
            wanted = [("next_id", action.next_id)] if action.next_id else []
            wanted += [(f"{key}.{below}", target) for below, target in action.options.targets()]
            for place, target in wanted:
                if target not in ids:
                    self.wrong(action.index, place, f"no action has the id {target[:MAX_ID_CHARACTERS]!r}")

    def done(self) -> None:
        """Refuse the flow if anything was found.

        Raises:
            InvalidFlow: with all of it.
        """
        if self.found:
            raise InvalidFlow(
                sorted(self.found, key=lambda error: -1 if error.index is None else error.index)[:MAX_FAULTS]
            )


def check_urls(program: Program, gate: Gate) -> None:
    """Check the hosts that a flow names, as far as that can be done before it runs: no name is looked up.

    Raises:
        InvalidFlow: the policy for outbound connections denies one.
    """
    found = []
    for action in program.actions:
        for key, url in action.options.urls():
            try:
                if host := host_of(url):
                    gate.check(host, configured=program.configured)
            except Denied as problem:
                below = f"option.{key}" if program.syntax == "voipbin" else ""  # Voxology's actions have other keys
                found.append(FlowError(action.index, below, str(problem)))
    if found:
        raise InvalidFlow(found[:MAX_FAULTS])


def unknown_type(kind: str, known: Collection[str], hints: Mapping[str, str]) -> str:
    """What to say about a type that there is not."""
    if kind in hints:
        return f"{kind!r} is not offered here: {hints[kind]}"
    return f"unknown action {kind[:60]!r}{suggestion(kind, sorted(known))}"


def is_set(action_id: object) -> bool:
    """Whether an id is given; VoIPBIN writes a UUID of zeros for none."""
    return isinstance(action_id, str) and action_id not in ("", NIL_UUID)
