"""Actions in Voxology's syntax: ``{"actions": [{"type": "SAY", "name"?, "params": {...}}, ...]}``.

Each action is implemented by actions registered under VoIPBIN's names; IF, GOTO and COLLECT with prompts become
several. Behavior that the vendor's public pages and sample flows do not show is marked (inferred).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from bridge.flows import actions as _actions  # noqa: F401  (registers them)
from bridge.flows import expression
from bridge.flows.action_registry import DEFINITIONS
from bridge.flows.checking import MAX_ACTIONS, Checking, listed, unknown_type
from bridge.flows.program import Action, FlowError, InvalidFlow, Program, new_action_id, program
from bridge.flows.schemas import schema_of
from bridge.flows.voxology_actions import ACTIONS, Form
from bridge.validation import suggestion

__all__ = ["InvalidFlow", "parse", "schema"]

STRUCTURAL = ("LABEL", "GOTO", "IF")
TYPES = (*ACTIONS, *STRUCTURAL)
ASIDE = ("type", "name", "comment", "comments")
"""Keys that every action may have; comments are ignored."""
PROMPTS = ("SAY", "PLAY", "PAUSE")
MAX_DEPTH = 20
HINTS = {
    "QUEUE": "use VoIPBIN's queue_join",
    "DETECT": "use VoIPBIN's amd",
    "FOREACH": "a flow cannot iterate over a list. Use IF and GOTO",
    "SMS": "messages are not supported",
}


class _Parsing(Struct):
    """State of parsing one flow."""

    checking: Checking
    made: list[Action] = []
    labels: dict[str, str] = {}
    """Names of labels, and the ids of their actions."""
    jumps: list[tuple[int, str, str, str]] = []
    """Index, key, label of the target, and id of the placeholder."""
    count: int = 0

    def add(self, kind: str, index: int, does: str, options: Any, action_id: str = "") -> str:
        """Append an action; return its id."""
        new = Action(id=action_id or new_action_id(), type=kind, index=index, does=does, options=options)
        self.made.append(new)
        return new.id

    def jump(self, kind: str, index: int, does: str, **options: Any) -> None:
        """Append an action that jumps."""
        self.add(kind, index, does, DEFINITIONS[does].options.model_validate(options))

    def mark(self, kind: str, index: int, action_id: str) -> None:
        """Append a position to jump to."""
        self.add(kind, index, "mark", DEFINITIONS["mark"].options(), action_id)


def parse(flow: Any, path: str = "actions") -> Program:
    """Check a flow.

    Args:
        flow: the object with the list under ``actions``, or the list; JSON.
        path: name of the list in errors.

    Returns:
        The program.

    Raises:
        InvalidFlow: the flow is invalid; lists every error.
    """
    given = listed(flow, path)
    parsing = _Parsing(Checking(path))
    for index, each in enumerate(given):
        _action(parsing, index, "", each, 0)
    positions = {action.id: position for position, action in enumerate(parsing.made)}
    for index, key, label, action_id in parsing.jumps:
        if label not in parsing.labels:
            parsing.checking.wrong(index, key, f"unknown LABEL {label[:60]!r}")
        else:
            # Unique, as duplicate labels are rejected.
            target = {"target_id": parsing.labels[label]}
            parsing.made[positions[action_id]] = Action(
                action_id, "GOTO", index, "jump", DEFINITIONS["jump"].options.model_validate(target)
            )
    if parsing.count > MAX_ACTIONS:
        parsing.checking.found.append(FlowError(None, "", f"expected at most {MAX_ACTIONS} actions", path))
    parsing.checking.done()
    return program(parsing.made, "voxology", given)


def _action(parsing: _Parsing, index: int, where: str, given: Any, depth: int) -> None:
    parsing.count += 1
    if parsing.count > MAX_ACTIONS:
        return  # the flow is rejected below
    wrong = parsing.checking.wrong
    if not isinstance(given, Mapping):
        wrong(index, where, 'expected an object with "type" and "params"')
        return
    if not parsing.checking.bounded(index, where, given):
        return
    prefix = f"{where}." if where else ""
    if "type" not in given and any(str(key).startswith("$") for key in given):
        _assignments(parsing, index, prefix, given)
        return
    kind = given.get("type")
    if not isinstance(kind, str) or kind.upper() not in TYPES:
        reason = unknown_type(kind, TYPES, HINTS) if isinstance(kind, str) else "expected the name of an action"
        wrong(index, f"{prefix}type", reason)
        return
    kind = kind.upper()
    name = given.get("name", "")
    if not isinstance(name, str) or len(name) > 100:
        wrong(index, f"{prefix}name", "expected a string of at most 100 characters")
        return
    if depth > MAX_DEPTH:
        wrong(index, where, f"nested more than {MAX_DEPTH} levels deep")
        return
    if kind == "IF":
        _if(parsing, index, prefix, given, depth)
    elif kind == "LABEL":
        _label(parsing, index, prefix, given, name)
    elif kind == "GOTO":
        _goto(parsing, index, prefix, given)
    else:
        _simple(parsing, index, prefix, given, ACTIONS[kind], name)


def _simple(parsing: _Parsing, index: int, prefix: str, given: Mapping[str, Any], form: Form, name: str) -> None:
    known = (*ASIDE, "params", *form.beside, *(("actions",) if form.prompts else ()))
    _known_keys(parsing, index, prefix, given, known)
    params = given.get("params")
    if params is None:
        params = {}
    if isinstance(params, Mapping) and form.beside:
        params = {**params, **{key: given[key] for key in form.beside if key in given}}
    checked = parsing.checking.options(index, f"{prefix}params", form.params, params)
    if form.prompts and "actions" in given:
        _prompts(parsing, index, f"{prefix}actions", given["actions"])
    if checked is None:
        return
    for does, options in form.make(checked, name):
        parsing.add(form.name, index, does, options)


def _prompts(parsing: _Parsing, index: int, where: str, given: Any) -> None:
    """Add the actions that play prompts before digits are collected, until the first digit."""
    if not isinstance(given, list):
        parsing.checking.wrong(index, where, "expected a list of actions")
        return
    for position, each in enumerate(given):
        parsing.count += 1
        here = f"{where}[{position}]"
        kind = each.get("type") if isinstance(each, Mapping) else None
        if not isinstance(kind, str) or kind.upper() not in PROMPTS:
            parsing.checking.wrong(index, f"{here}.type", f"expected one of {', '.join(PROMPTS)}")
            continue
        form = ACTIONS[kind.upper()]
        _known_keys(parsing, index, f"{here}.", each, (*ASIDE, "params"))
        checked = parsing.checking.options(index, f"{here}.params", form.params, each.get("params"))
        for does, options in form.make(checked, "") if checked is not None else ():
            parsing.add(form.name, index, does, options.model_copy(update={"digits_handle": "next"}))


def _if(parsing: _Parsing, index: int, prefix: str, given: Mapping[str, Any], depth: int) -> None:
    _known_keys(parsing, index, prefix, given, (*ASIDE, "condition", "then", "orElse"))
    condition = given.get("condition")
    try:
        if not isinstance(condition, str):
            raise ValueError("expected a string")
        expression.parse(condition)
    except ValueError as problem:
        parsing.checking.wrong(index, f"{prefix}condition", str(problem))
        condition = "false"
    otherwise, end = new_action_id(), new_action_id()
    parsing.jump("IF", index, "unless", condition=condition, target_id=otherwise)
    _branch(parsing, index, f"{prefix}then", given.get("then", []), depth)
    parsing.jump("IF", index, "jump", target_id=end)
    parsing.mark("IF", index, otherwise)
    _branch(parsing, index, f"{prefix}orElse", given.get("orElse", []), depth)
    parsing.mark("IF", index, end)


def _branch(parsing: _Parsing, index: int, where: str, given: Any, depth: int) -> None:
    if not isinstance(given, list):
        parsing.checking.wrong(index, where, "expected a list of actions")
        return
    for position, each in enumerate(given[:MAX_ACTIONS]):
        _action(parsing, index, f"{where}[{position}]", each, depth + 1)


def _label(parsing: _Parsing, index: int, prefix: str, given: Mapping[str, Any], name: str) -> None:
    _known_keys(parsing, index, prefix, given, ASIDE)
    if not name:
        parsing.checking.wrong(index, f"{prefix}name", "is missing; expected the label's name")
    elif name in parsing.labels:
        parsing.checking.wrong(index, f"{prefix}name", f"duplicate LABEL {name[:60]!r}")
    else:
        parsing.labels[name] = new_action_id()
        parsing.mark("LABEL", index, parsing.labels[name])


def _goto(parsing: _Parsing, index: int, prefix: str, given: Mapping[str, Any]) -> None:
    _known_keys(parsing, index, prefix, given, (*ASIDE, "params"))
    params = given.get("params")
    label = params.get("label") if isinstance(params, Mapping) else None
    if not isinstance(label, str) or not label:
        parsing.checking.wrong(index, f"{prefix}params.label", "is missing; expected the name of a LABEL")
        return
    for key in params if isinstance(params, Mapping) else ():
        if key != "label":
            parsing.checking.wrong(index, f"{prefix}params.{str(key)[:60]}", "unknown key; known are label")
    # The label may follow later: the placeholder is replaced at the end.
    placeholder = parsing.add("GOTO", index, "mark", DEFINITIONS["mark"].options())
    parsing.jumps.append((index, f"{prefix}params.label", label, placeholder))


def _assignments(parsing: _Parsing, index: int, prefix: str, given: Mapping[str, Any]) -> None:
    """Add the action that sets variables: ``{"$name": "expression", ...}``, written without a type."""
    values: dict[str, str] = {}
    for key, written in given.items():
        if key in ASIDE:
            continue
        if not re.fullmatch(r"\$[A-Za-z_][\w.]{0,99}", str(key)):
            parsing.checking.wrong(index, f"{prefix}{str(key)[:60]}", "expected a name that begins with $")
            continue
        try:
            if not isinstance(written, str):
                raise ValueError("expected a string with an expression")
            expression.parse(written)
        except ValueError as problem:
            parsing.checking.wrong(index, f"{prefix}{key}", str(problem))
            continue
        values[str(key)[1:]] = written
    options = DEFINITIONS["assign"].options.model_validate({"values": values})
    parsing.add("", index, "assign", options)


def _known_keys(parsing: _Parsing, index: int, prefix: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    known = tuple(known)
    for key in given:
        if key not in known:
            parsing.checking.wrong(index, f"{prefix}{str(key)[:60]}", "unknown key" + suggestion(str(key), known))


def schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of one action: ``oneOf`` with ``type`` as discriminator, without ``$ref``."""
    anything = {"type": "array", "items": {"type": "object"}}
    aside = {"name": {"type": "string"}, "comment": {}, "comments": {}}
    shapes: list[dict[str, Any]] = []
    for name, form in sorted(ACTIONS.items()):
        params = schema_of(form.params)
        beside = {key: params.get("properties", {}).get(key, {}) for key in form.beside}
        prompts = {"actions": anything} if form.prompts else {}
        shapes.append(_shape(name, {"params": params, **beside, **prompts, **aside}))
    label = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
    shapes.append(_shape("LABEL", aside, "name"))
    shapes.append(_shape("GOTO", {"params": label, **aside}, "params"))
    branches = {"condition": {"type": "string"}, "then": anything, "orElse": anything}
    shapes.append(_shape("IF", {**branches, **aside}, "condition"))
    return {"oneOf": shapes}


def _shape(name: str, properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "title": name,
        "properties": {"type": {"const": name}, **properties},
        "required": ["type", *required],
        "additionalProperties": False,
    }
