"""Actions that decide what comes next: goto, branch, conditions, stop; and what Voxology's IF and GOTO are made of."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from bridge.flows import expression
from bridge.flows.action_registry import action
from bridge.flows.actions.keys import DIGITS
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
    """Where to, and how often."""

    target_id: ActionId
    loop_count: Annotated[
        int, Field(ge=0, le=MAX_LOOPS, description=f"a number from 0 to {MAX_LOOPS}"), OR_VARIABLE
    ] = 0

    def targets(self) -> Iterable[tuple[str, str]]:
        """The target."""
        return [("target_id", self.target_id)]


@action("goto", options=GotoOptions, after_restart="instant")
async def goto(run: Run, options: GotoOptions) -> Jump | None:
    """Jump, ``loop_count`` times in all (none by default: as VoIPBIN); then go on with the next action."""
    loops = run.frame.loops
    here = run.frame.program.actions[run.frame.at].id
    if loops.get(here, 0) >= options.loop_count:
        return None
    loops[here] = loops.get(here, 0) + 1
    return Jump(options.target_id)


class BranchOptions(Options):
    """Where to for each value."""

    variable: Annotated[str, Field(max_length=200, description="the name of a variable")] = ""
    default_target_id: ActionId = ""
    target_ids: Targets = Field(default_factory=dict)

    def targets(self) -> Iterable[tuple[str, str]]:
        """All of them."""
        if is_set(self.default_target_id):
            yield "default_target_id", self.default_target_id
        for value, target in self.target_ids.items():
            yield f"target_ids.{value}", target


@action("branch", options=BranchOptions, after_restart="instant")
async def branch(run: Run, options: BranchOptions) -> Jump | None:
    """Jump to the action for a variable's value, and empty the variable; no target: the next action."""
    name = options.variable or DIGITS
    value = run.variables.get(name)
    run.variables.set(name, "", shown=False)
    target = options.target_ids.get(value, options.default_target_id)
    return Jump(target) if is_set(target) else None


class _Condition(Options):
    false_target_id: ActionId = ""

    def targets(self) -> Iterable[tuple[str, str]]:
        """Where to go if it does not hold."""
        return [("false_target_id", self.false_target_id)] if is_set(self.false_target_id) else []

    def step(self, holds: bool) -> Jump | None:
        """The next action if it holds."""
        return Jump(self.false_target_id) if not holds and is_set(self.false_target_id) else None


class ConditionVariableOptions(_Condition):
    """A variable, and what it is compared with."""

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
    """Go on if the comparison holds, else jump. ``variable`` is a name, or a text with ``${name}``."""
    # VoIPBIN compares the text itself once variables are put in; its documentation shows the bare name.
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
    """How many keys, or which, were collected."""

    length: Annotated[int, Field(ge=0, le=100, description="a number from 0 to 100"), OR_VARIABLE] = 0
    key: Annotated[str, Field(max_length=100, description="keys")] = ""


@action("condition_call_digits", options=ConditionCallDigitsOptions, after_restart="instant")
async def condition_call_digits(run: Run, options: ConditionCallDigitsOptions) -> Jump | None:
    """Go on if so many keys were collected, or ``key`` is among them; else jump."""
    digits = run.variables.get(DIGITS)
    long_enough = options.length > 0 and len(digits) >= options.length
    return options.step(long_enough or (options.key != "" and options.key in digits))


class ConditionCallStatusOptions(_Condition):
    """A status of the call."""

    status: Annotated[str, Field(max_length=35, description="a call's status")]


@action("condition_call_status", options=ConditionCallStatusOptions, after_restart="instant")
async def condition_call_status(run: Run, options: ConditionCallStatusOptions) -> Jump | None:
    """Go on if the call is in this state, else jump."""
    record = run.services.records.get(run.call_id)
    return options.step(record is not None and record.status == options.status)


Weekdays = Annotated[
    list[Annotated[int, Field(ge=0, le=6, description="a number from 0 (Sunday) to 6")]],
    Field(max_length=7, description="a list of numbers from 0 (Sunday) to 6"),
]


class ConditionDatetimeOptions(_Condition):
    """Parts of the time in UTC; -1 (month and day: 0 as well) leaves one out."""

    condition: Comparison = "=="
    minute: Annotated[int, Field(ge=-1, le=59, description="a number from 0 to 59, or -1"), OR_VARIABLE] = -1
    hour: Annotated[int, Field(ge=-1, le=23, description="a number from 0 to 23, or -1"), OR_VARIABLE] = -1
    day: Annotated[int, Field(ge=-1, le=31, description="a number from 1 to 31, or -1"), OR_VARIABLE] = -1
    month: Annotated[int, Field(ge=-1, le=12, description="a number from 1 to 12, or 0"), OR_VARIABLE] = 0
    weekdays: Weekdays = Field(default_factory=list)


@action("condition_datetime", options=ConditionDatetimeOptions, after_restart="instant")
async def condition_datetime(_: Run, options: ConditionDatetimeOptions) -> Jump | None:
    """Go on if for every part that is given the time now (UTC) compares with it as said, else jump."""
    return options.step(holds_at(options, datetime.fromtimestamp(time.time(), UTC)))


def holds_at(options: ConditionDatetimeOptions, now: datetime) -> bool:
    """Whether a condition holds at a moment; each part is compared for itself, as VoIPBIN does."""
    if options.weekdays and now.isoweekday() % 7 not in options.weekdays:
        return False
    parts = [(options.month, now.month, 1), (options.day, now.day, 1), (options.hour, now.hour, 0)]
    parts.append((options.minute, now.minute, 0))
    return all(
        expression.compare(options.condition, actual, wanted) for wanted, actual, first in parts if wanted >= first
    )


@action("stop", options=NoOptions)
async def stop(_run: Run, _: NoOptions) -> End:
    """End the flow; the call goes where it goes after a flow's last action."""
    return End("stopped")


@action("empty", options=NoOptions, after_restart="instant")
async def empty(_run: Run, _: NoOptions) -> None:
    """Do nothing."""


# What other syntaxes are made of


class JumpOptions(Options):
    """Where to."""

    target_id: str

    def targets(self) -> Iterable[tuple[str, str]]:
        """The target."""
        return [("target_id", self.target_id)]


@action("jump", options=JumpOptions, internal=True, after_restart="instant")
async def jump(_: Run, options: JumpOptions) -> Jump:
    """Jump, always. The number of actions of a flow is bounded, so that even this ends."""
    return Jump(options.target_id)


class UnlessOptions(JumpOptions):
    """Where to unless a condition holds."""

    condition: str

    untouched: ClassVar[frozenset[str]] = frozenset({"condition"})


@action("unless", options=UnlessOptions, internal=True, after_restart="instant")
async def unless(run: Run, options: UnlessOptions) -> Jump | None:
    """Jump unless the condition holds."""
    holds = expression.is_true(expression.parse(options.condition)(run.variables))
    return None if holds else Jump(options.target_id)


@action("mark", options=NoOptions, internal=True, after_restart="instant")
async def mark(_run: Run, _: NoOptions) -> None:
    """A place to jump to."""
