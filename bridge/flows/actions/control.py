"""Control flow: goto, branch, conditions, stop; and the actions behind Voxology's IF and GOTO."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from bridge.flows import expression
from bridge.flows.action_registry import action
from bridge.flows.actions.dtmf import DIGITS
from bridge.flows.actions.sound import NoOptions
from bridge.flows.checking import is_set
from bridge.flows.options import OR_VARIABLE, Options
from bridge.flows.program import End, Jump

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run

MAX_LOOPS = 10_000
ActionId = Annotated[str, Field(max_length=100, description="the id of an action")]
Targets = Annotated[dict[str, ActionId], Field(max_length=100, description="an object: value to action id")]
Comparison = Annotated[
    Literal["==", "!=", ">", ">=", "<", "<="], Field(description='one of "==", "!=", ">", ">=", "<", "<="')
]


class GotoOptions(Options):
    """Options of goto: where to jump, and how often."""

    target_id: ActionId
    loop_count: Annotated[
        int, Field(ge=0, le=MAX_LOOPS, description=f"a number from 0 to {MAX_LOOPS}"), OR_VARIABLE
    ] = 0

    def targets(self) -> Iterable[tuple[str, str]]:
        """Return the target."""
        return [("target_id", self.target_id)]


@action("goto", options=GotoOptions, after_restart="instant")
async def goto(run: Run, options: GotoOptions) -> Jump | None:
    """Jump, at most ``loop_count`` times (0 by default, as in VoIPBIN); then continue with the next action."""
    loops = run.frame.loops
    here = run.frame.program.actions[run.frame.at].id
    if loops.get(here, 0) >= options.loop_count:
        return None
    loops[here] = loops.get(here, 0) + 1
    return Jump(options.target_id)


class BranchOptions(Options):
    """Options of branch: a target for each value."""

    variable: Annotated[str, Field(max_length=200, description="the name of a variable")] = ""
    default_target_id: ActionId = ""
    target_ids: Targets = Field(default_factory=dict)

    def targets(self) -> Iterable[tuple[str, str]]:
        """Return the option and the action id of each target."""
        if is_set(self.default_target_id):
            yield "default_target_id", self.default_target_id
        for value, target in self.target_ids.items():
            yield f"target_ids.{value}", target


@action("branch", options=BranchOptions, after_restart="instant")
async def branch(run: Run, options: BranchOptions) -> Jump | None:
    """Jump to the action for a variable's value, and clear the variable; without a target, continue."""
    name = options.variable or DIGITS
    value = run.variables.get(name)
    run.variables.set(name, "", shown=False)
    target = options.target_ids.get(value, options.default_target_id)
    return Jump(target) if is_set(target) else None


class _Condition(Options):
    false_target_id: ActionId = ""

    def targets(self) -> Iterable[tuple[str, str]]:
        """Return the target if the condition is false."""
        return [("false_target_id", self.false_target_id)] if is_set(self.false_target_id) else []

    def step(self, holds: bool) -> Jump | None:
        """Return the jump if the condition is false; None: continue."""
        return Jump(self.false_target_id) if not holds and is_set(self.false_target_id) else None


class ConditionVariableOptions(_Condition):
    """Options of condition_variable."""

    condition: Comparison = "=="
    variable: Annotated[str, Field(min_length=1, max_length=200, description="the name of a variable")]
    value_type: Annotated[
        Literal["string", "number", "length"], Field(description='"string", "number" or "length"')
    ] = "string"
    value_string: str = ""
    value_number: Annotated[float, Field(description="a number"), OR_VARIABLE] = 0
    value_length: Annotated[int, Field(ge=0, description="a number"), OR_VARIABLE] = 0


@action("condition_variable", options=ConditionVariableOptions, after_restart="instant")
async def condition_variable(run: Run, options: ConditionVariableOptions) -> Jump | None:
    """Continue if the comparison is true, else jump. ``variable`` is a name, or a string with ``${name}``."""
    # VoIPBIN compares the string after filling in variables; its documentation uses the bare name.
    value = run.variables.get(options.variable) or ("" if _is_name(options.variable) else options.variable)
    if options.value_type == "string":
        return options.step(_texts(options.condition, value, options.value_string))
    if options.value_type == "length":
        return options.step(expression.compare(options.condition, len(value), options.value_length))
    try:
        number = float(value)
    except ValueError:
        return options.step(False)
    return options.step(expression.compare(options.condition, number, options.value_number))


def _is_name(text: str) -> bool:
    return text.startswith("voipbin.") or text.startswith("sessionData.")


def _texts(sign: str, left: str, right: str) -> bool:
    return {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[sign]


class ConditionCallDigitsOptions(_Condition):
    """Options of condition_call_digits: how many digits, or which."""

    length: Annotated[int, Field(ge=0, le=100, description="a number from 0 to 100"), OR_VARIABLE] = 0
    key: Annotated[str, Field(max_length=100, description="DTMF digits")] = ""


@action("condition_call_digits", options=ConditionCallDigitsOptions, after_restart="instant")
async def condition_call_digits(run: Run, options: ConditionCallDigitsOptions) -> Jump | None:
    """Continue if at least this many digits were received, or ``key`` is among them; else jump."""
    digits = run.variables.get(DIGITS)
    long_enough = options.length > 0 and len(digits) >= options.length
    return options.step(long_enough or (options.key != "" and options.key in digits))


class ConditionCallStatusOptions(_Condition):
    """Options of condition_call_status."""

    status: Annotated[str, Field(max_length=35, description="a call's status")]


@action("condition_call_status", options=ConditionCallStatusOptions, after_restart="instant")
async def condition_call_status(run: Run, options: ConditionCallStatusOptions) -> Jump | None:
    """Continue if the call has this status, else jump."""
    record = run.services.records.get(run.call_id)
    return options.step(record is not None and record.status == options.status)


Weekdays = Annotated[
    list[Annotated[int, Field(ge=0, le=6, description="a number from 0 (Sunday) to 6")]],
    Field(max_length=7, description="a list of numbers from 0 (Sunday) to 6"),
]


class ConditionDatetimeOptions(_Condition):
    """Options of condition_datetime: parts of the time in UTC; -1 (month and day: also 0) ignores a part."""

    condition: Comparison = "=="
    minute: Annotated[int, Field(ge=-1, le=59, description="a number from 0 to 59, or -1"), OR_VARIABLE] = -1
    hour: Annotated[int, Field(ge=-1, le=23, description="a number from 0 to 23, or -1"), OR_VARIABLE] = -1
    day: Annotated[int, Field(ge=-1, le=31, description="a number from 1 to 31, or -1"), OR_VARIABLE] = -1
    month: Annotated[int, Field(ge=-1, le=12, description="a number from 1 to 12, or 0"), OR_VARIABLE] = 0
    weekdays: Weekdays = Field(default_factory=list)


@action("condition_datetime", options=ConditionDatetimeOptions, after_restart="instant")
async def condition_datetime(_: Run, options: ConditionDatetimeOptions) -> Jump | None:
    """Continue if the current time (UTC) satisfies the comparison in every given part, else jump."""
    return options.step(holds_at(options, datetime.fromtimestamp(time.time(), UTC)))


def holds_at(options: ConditionDatetimeOptions, now: datetime) -> bool:
    """Return whether a condition is true at a time; each part is compared separately, as in VoIPBIN."""
    if options.weekdays and now.isoweekday() % 7 not in options.weekdays:
        return False
    parts = [(options.month, now.month, 1), (options.day, now.day, 1), (options.hour, now.hour, 0)]
    parts.append((options.minute, now.minute, 0))
    return all(
        expression.compare(options.condition, actual, wanted) for wanted, actual, first in parts if wanted >= first
    )


@action("stop", options=NoOptions)
async def stop(_run: Run, _: NoOptions) -> End:
    """End the flow; the call continues as after a flow's last action."""
    return End("stopped")


@action("empty", options=NoOptions, after_restart="instant")
async def empty(_run: Run, _: NoOptions) -> None:
    """Do nothing."""


# Actions behind those of other syntaxes


class JumpOptions(Options):
    """Options of jump."""

    target_id: str

    def targets(self) -> Iterable[tuple[str, str]]:
        """Return the target."""
        return [("target_id", self.target_id)]


@action("jump", options=JumpOptions, internal=True, after_restart="instant")
async def jump(_: Run, options: JumpOptions) -> Jump:
    """Jump unconditionally. The limit on actions of a flow ends endless loops."""
    return Jump(options.target_id)


class UnlessOptions(JumpOptions):
    """Options of unless."""

    condition: str

    untouched: ClassVar[frozenset[str]] = frozenset({"condition"})


@action("unless", options=UnlessOptions, internal=True, after_restart="instant")
async def unless(run: Run, options: UnlessOptions) -> Jump | None:
    """Jump unless the condition is true."""
    holds = expression.is_true(expression.parse(options.condition)(run.variables))
    return None if holds else Jump(options.target_id)


@action("mark", options=NoOptions, internal=True, after_restart="instant")
async def mark(_run: Run, _: NoOptions) -> None:
    """Mark a position to jump to."""
