"""What both syntaxes check alike: the shape of the list, options against their model, targets that exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from bridge.flows.action_registry import DEFINITIONS
from bridge.flows.facilities import Facilities
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


def check_possible(program: Program, facilities: Facilities, gate: Gate | None = None) -> None:
    """Check what can be known before a flow runs: what its actions need, and the hosts that it names.

    Args:
        program: the flow.
        facilities: what is configured.
        gate: the policy for outbound connections; no name is looked up. None: hosts are not checked.

    Raises:
        InvalidFlow: with everything that it can never do.
    """
    found: dict[FlowError, None] = {}
    for action in program.actions:
        missing = list(DEFINITIONS[action.does].needs(action.options, facilities))
        if gate is not None:
            missing += _denied(action, gate, configured=program.configured)
        for key, reason in missing:
            below = f"option.{key}" if key and program.syntax == "voipbin" else ""  # Voxology's actions have other keys
            found[FlowError(action.index, below, reason)] = None
    if found:
        raise InvalidFlow(list(found)[:MAX_FAULTS])


def _denied(action: Action, gate: Gate, *, configured: bool) -> Iterator[tuple[str, str]]:
    for key, url in action.options.urls():
        try:
            if host := host_of(url):
                gate.check(host, configured=configured)
        except Denied as problem:
            yield key, str(problem)


def unknown_type(kind: str, known: Collection[str], hints: Mapping[str, str]) -> str:
    """What to say about a type that there is not."""
    if kind in hints:
        return f"{kind!r} is not offered here: {hints[kind]}"
    return f"unknown action {kind[:60]!r}{suggestion(kind, sorted(known))}"


def is_set(action_id: object) -> bool:
    """Whether an id is given; VoIPBIN writes a UUID of zeros for none."""
    return isinstance(action_id, str) and action_id not in ("", NIL_UUID)
