"""Checks common to both syntaxes: the shape of the list, options against their model, existing targets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from bridge.flows.action_registry import DEFINITIONS
from bridge.flows.action_settings import ActionSettings
from bridge.flows.options import NIL_UUID, Options
from bridge.flows.program import Action, FlowError, InvalidFlow, Program
from bridge.flows.substitution import host_of
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Denied
from bridge.validation import MAX_FAULTS, explain, suggestion

MAX_ACTIONS = 1000
"""Limit of actions in one list, including those within others."""
MAX_FOUND = 1000
"""Limit of collected errors; the first `MAX_FAULTS` by their index are reported."""
MAX_ENTRIES = 1000
"""Limit of keys of an action or its options, and of entries of each option: explaining every error takes time."""
MAX_ID_CHARACTERS = 100


def listed(flow: Any, path: str) -> Sequence[Any]:
    """Return the list of actions in a flow, which may be an object that has it under ``actions``.

    Raises:
        InvalidFlow: not a list, or too long.
    """
    actions = flow.get("actions") if isinstance(flow, Mapping) else flow
    if not isinstance(actions, list | tuple):
        raise InvalidFlow([FlowError(None, "", "expected a list of actions", path)])
    if len(actions) > MAX_ACTIONS:
        raise InvalidFlow([FlowError(None, "", f"expected at most {MAX_ACTIONS} actions; got {len(actions)}", path)])
    return actions


class Checking:
    """Collects the errors of one list."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.found: list[FlowError] = []

    def wrong(self, index: int, key: str, reason: str) -> None:
        """Add an error of an action."""
        if len(self.found) < MAX_FOUND:
            self.found.append(FlowError(index, key, reason, self.path))

    def bounded(self, index: int, key: str, given: Mapping[str, Any]) -> bool:
        """Return whether an object has a limited number of keys; otherwise add an error at ``key``."""
        if len(given) <= MAX_ENTRIES:
            return True
        self.wrong(index, key, f"expected at most {MAX_ENTRIES} keys; got {len(given)}")
        return False

    def options(self, index: int, key: str, model: type[Options], given: Any) -> Options | None:
        """Return validated options; None if they are invalid, with errors added at ``key``."""
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
        """Check that every action that another one refers to exists."""
        actions = tuple(actions)
        ids = {action.id for action in actions}
        for action in actions:
            wanted = [("next_id", action.next_id)] if action.next_id else []
            wanted += [(f"{key}.{below}", target) for below, target in action.options.targets()]
            for name, target in wanted:
                if target not in ids:
                    self.wrong(action.index, name, f"unknown action id {target[:MAX_ID_CHARACTERS]!r}")

    def done(self) -> None:
        """Reject the flow if there are errors.

        Raises:
            InvalidFlow: lists the errors.
        """
        if self.found:
            raise InvalidFlow(
                sorted(self.found, key=lambda error: -1 if error.index is None else error.index)[:MAX_FAULTS]
            )


def check_possible(program: Program, settings: ActionSettings, gate: Gate | None = None) -> None:
    """Check before a flow runs that its actions have what they need, and may connect to the hosts that they name.

    Args:
        program: the flow.
        settings: configuration values.
        gate: the policy for outbound connections, applied without name resolution; None: hosts are not checked.

    Raises:
        InvalidFlow: lists everything that the flow can never do.
    """
    if program.syntax == "twiml":
        return  # what a document cannot do is skipped when it runs
    found: dict[FlowError, None] = {}
    for action in program.actions:
        missing = list(DEFINITIONS[action.does].needs(action.options, settings))
        if gate is not None:
            missing += _denied(action, gate, configured=program.configured)
        for key, reason in missing:
            below = (
                f"option.{key}" if key and program.syntax == "voipbin" else ""
            )  # options of Voxology's actions have other keys
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
    """Return the error for an unknown type of action."""
    if kind in hints:
        return f"{kind!r} is not supported: {hints[kind]}"
    return f"unknown action {kind[:60]!r}{suggestion(kind, sorted(known))}"


def is_set(action_id: object) -> bool:
    """Return whether an id is set; in VoIPBIN, a nil UUID is not."""
    return isinstance(action_id, str) and action_id not in ("", NIL_UUID)
