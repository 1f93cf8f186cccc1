"""The loop's lateness is measured, and what blocks it is named."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time

import pytest

from bridge.api.metrics import render
from bridge.media import loop_lag
from bridge.media.counters import Counters, Histogram
from bridge.media.loop_lag import LoopLag
from bridge.workers import merging


def test_a_histogram_counts_what_is_at_most_as_large() -> None:
    counted = Histogram((0.1, 1.0))
    for value in (0.0, 0.1, 0.2, 1.0, 7.0):
        counted.add(value)
    assert counted.counts == [2, 2, 1]
    assert counted.total == pytest.approx(8.3)


async def measured() -> tuple[LoopLag, Histogram]:
    histogram = Histogram()
    measuring = LoopLag(histogram)
    measuring.start()
    return measuring, histogram


async def test_each_turn_is_measured() -> None:
    measuring, histogram = await measured()
    try:
        async with asyncio.timeout(60):
            while sum(histogram.counts) < 3:
                await asyncio.sleep(0.01)
    finally:
        measuring.stop()
    assert histogram.total >= 0


async def test_it_is_measured_how_busy_the_loop_is() -> None:
    seen: list[float] = []
    measuring = LoopLag(Histogram(), lambda _, busy, __: seen.append(busy))
    measuring.start()
    try:
        async with asyncio.timeout(60):
            while len(seen) < 3:
                await asyncio.sleep(0.2)
        idle, seen[:] = min(seen), []
        while len(seen) < 4:
            work()  # the loop has something to do all the time
            await asyncio.sleep(0)
    finally:
        measuring.stop()
    assert 0 <= idle < 0.5
    assert min(seen[1:]) > 0.8, "the first interval began while the loop was idle"


def block_the_loop_in_a_function_with_this_name(until: threading.Event) -> None:
    assert until.wait(30)


def hold() -> None:
    time.sleep(0.5)


def work() -> None:
    time.sleep(0.02)


async def test_what_blocks_the_loop_is_logged_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """The loop is held until the warning is logged, however slow the machine is."""
    warned = threading.Event()
    handler = logging.Handler()
    handler.addFilter(lambda _: warned.set() or False)
    loop_lag.log.addHandler(handler)
    measuring, histogram = await measured()
    try:
        block_the_loop_in_a_function_with_this_name(warned)
        async with asyncio.timeout(60):
            while not sum(histogram.counts):
                await asyncio.sleep(0.01)
        assert sum(histogram.counts[-6:]) >= 1  # more than 0.1 s late
        hold()  # blocks the loop again: no second warning
    finally:
        measuring.stop()
        loop_lag.log.removeHandler(handler)
    records = [record for record in caplog.records if record.name == loop_lag.__name__]
    assert len(records) == 1
    assert re.match(
        r"event loop blocked, calls received no audio, next warning is delayed late_ms=\d+",
        records[0].getMessage(),
    )
    assert "block_the_loop_in_a_function_with_this_name" in records[0].stack  # type: ignore[attr-defined]


async def test_also_a_call_that_keeps_the_interpreter_to_itself_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """A regular expression lets no other thread run, until it is done."""
    measuring, _ = await measured()
    try:
        for _ in range(20):
            match_slowly()
            if any(record.name == loop_lag.__name__ for record in caplog.records):
                break
            await asyncio.sleep(0.15)
    finally:
        measuring.stop()
    stacks = [record.stack for record in caplog.records if record.name == loop_lag.__name__]  # type: ignore[attr-defined]
    assert len(stacks) == 1
    assert "match_slowly" in stacks[0]


def match_slowly() -> None:
    ends = time.thread_time() + 0.8
    while time.thread_time() < ends:
        re.search(r"a*b", "a" * 12_000)


async def test_it_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    measuring, _ = await measured()
    assert threading.active_count() == before + 1
    measuring.stop()
    measuring.stop()
    assert threading.active_count() == before


def test_prometheus_reads_the_histogram_also_of_workers() -> None:
    counters = Counters()
    for value in (0.001, 0.3, 60.0):
        counters.loop_lag.add(value)
    text = render(counters, {})
    name = "asterisk_bridge_loop_lag_seconds"
    assert f'# TYPE {name} histogram\n{name}_bucket{{le="0.005"}} 1\n' in text
    assert f'{name}_bucket{{le="0.5"}} 2\n' in text
    assert f'{name}_bucket{{le="+Inf"}} 3\n{name}_sum 60.301000\n{name}_count 3\n' in text
    merged = merging.metrics({1: text, 2: text}, {1: 0, 2: 0}).splitlines()
    at = merged.index(f"# TYPE {name} histogram")
    assert merged[at + 1] == f'{name}_bucket{{worker="1",le="0.005"}} 1'
    ours = [line for line in merged if line.startswith(name)]
    assert ours == merged[at + 1 : at + 1 + len(ours)]
    assert len(ours) == 2 * 13
    assert f'{name}_count{{worker="2"}} 3' in ours
