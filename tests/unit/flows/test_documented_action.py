"""The action of docs/howto/write-a-flow-action.md works: it is registered, checks its options, and runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from bridge.flows.action_registry import DEFINITIONS
from bridge.flows.program import InvalidFlow
from bridge.flows.syntax import parse
from tests.fakes.virtual_time import run_virtually
from tests.unit.flows.fake_legs import FakeLeg
from tests.unit.flows.world import World, step

PAGE = Path(__file__).parents[3] / "docs/howto/write-a-flow-action.md"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module of the page, imported."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType("greeting")
    monkeypatch.setitem(sys.modules, "greeting", module)
    exec(code, module.__dict__)
    yield
    del DEFINITIONS["greeting"]


def test_the_action_sets_its_variable_or_fails() -> None:
    async def act() -> None:
        world = World()
        run, _ = await world.done([step("answer"), step("greeting", name="Bob")])
        assert run.variables.get("greeting") == "Good morning, Bob"
        unanswered, _ = await world.done([step("greeting", name="Bob")], FakeLeg(answered=False))
        assert unanswered.variables.get("greeting") == ""

    run_virtually(act())


def test_wrong_options_are_rejected_before_the_call() -> None:
    with pytest.raises(InvalidFlow, match=r"option\.nme: unknown key; did you mean name"):
        parse([step("greeting", nme="Bob")])
