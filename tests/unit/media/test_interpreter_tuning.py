"""Pauses of the interpreter that would stop the loop."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from bridge.media.interpreter_tuning import SWITCH_S, exempt_from_collection, shorten_switches


@pytest.fixture
def as_before() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)
    gc.unfreeze()
    gc.enable()


@pytest.mark.usefixtures("as_before")
def test_threads_that_compute_yield_sooner() -> None:
    shorten_switches()
    assert sys.getswitchinterval() == pytest.approx(SWITCH_S)


@pytest.mark.usefixtures("as_before")
def test_collections_leave_out_what_the_start_created() -> None:
    gc.disable()
    exempt_from_collection()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < 1000
