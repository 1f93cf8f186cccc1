"""The bench cannot lie: its generator notices every kind of fault, and finds none in the bridge itself."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.load.bench.build import Programs, build
from tests.load.bench.report import Outcome, tables
from tests.load.bench.run import Case, Settings, faults, run
from tests.load.bench.variants import Variant, bad, variants

CALLS = 12
AT_ONCE = 3
FAULTS = {
    ("corrupt", "capture"): "capture corrupt",
    ("corrupt", "playout"): "playout corrupt",
    ("lose", "capture"): "capture lost",
    ("lose", "playout"): "playout lost",
    ("duplicate", "capture"): "capture duplicated",
    ("reorder", "playout"): "playout reordered",
    ("late", "capture"): "capture late",
    ("foreign", "capture"): "capture foreign",
}
"""Fault and place, and what the generator must say of it."""
GOOD = (("sln", "both"), ("rtp", "both"), ("audiosocket", "playout"), ("twilio", "both"), ("yeastar", "capture"))

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        return build(lambda _: None, go=False)


def measured(programs: Programs, variant: Variant, dialect: str = "sln", way: str = "both") -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    settings = Settings(warmup_s=0.2, seconds=0.6, bridge_core=cores[-1], generator_core=cores[0])
    return run(Case(dialect, way, "spread", CALLS), variant, programs, settings)


@pytest.fixture(scope="module")
def reports(programs: Programs) -> dict[tuple[str, str], dict[str, Any]]:
    """Run every fault, and this bridge in every dialect; several at a time, as each mostly waits."""
    ours = variants(programs)["bridge0"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {case: pool.submit(measured, programs, ours, *case) for case in GOOD}
        runs |= {fault: pool.submit(measured, programs, bad(*fault)) for fault in FAULTS}
        return {key: each.result() for key, each in runs.items()}


TRACKS = ("twilio", "voxology", "yeastar")


@pytest.fixture(scope="module")
def of_tracks(programs: Programs) -> dict[str, dict[str, Any]]:
    """Run several tracks in each dialect that has them."""
    several = variants(programs)["tracks"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {dialect: pool.submit(measured, programs, several, dialect, "capture") for dialect in TRACKS}
        return {dialect: each.result() for dialect, each in runs.items()}


def broken(report: dict[str, Any]) -> dict[str, int]:
    """Return what is wrong beyond lateness, which a busy machine may cause."""
    return {kind: count for kind, count in faults(report).items() if not kind.endswith("late")}


@pytest.mark.parametrize(("fault", "where"), FAULTS)
def test_a_fault_is_noticed(reports: dict[tuple[str, str], dict[str, Any]], fault: str, where: str) -> None:
    found = faults(reports[fault, where])
    # One frame in twenty has it: 12 calls, 30 frames each.
    assert found.get(FAULTS[fault, where], 0) >= CALLS // 2, found


@pytest.mark.parametrize(("dialect", "way"), GOOD)
def test_the_bridge_has_none(reports: dict[tuple[str, str], dict[str, Any]], dialect: str, way: str) -> None:
    report = reports[dialect, way]
    assert not broken(report)
    for each in ("capture", "playout") if way == "both" else (way,):
        assert report[each]["received"] >= 25 * CALLS


@pytest.mark.parametrize("dialect", TRACKS)
def test_each_track_of_a_call_has_its_own_audio(of_tracks: dict[str, dict[str, Any]], dialect: str) -> None:
    report = of_tracks[dialect]
    assert not broken(report)
    assert report["capture"]["received"] >= 25 * CALLS * 2


def test_nor_has_the_copy_in_c_and_the_table_shows_it(programs: Programs) -> None:
    case = Case("sln", "both", "spread", CALLS)
    report = measured(programs, variants(programs)["c"])
    assert not broken(report)
    assert report["cpu_ms"] >= 0
    assert report["rss_kb"] > 0
    table = tables({case: {"c": Outcome("C copy", [report], []), "go": Outcome("Go", [], ["no compiler\nhere"])}})
    assert "| C copy | " in table
    assert "| Go | failed: no compiler |" in table


def test_the_sources_are_part_of_the_checkout() -> None:
    peers = Path(__file__).parents[1] / "load" / "peers"
    assert {"generator.c", "common.h", "bridge_naive.py"} <= {path.name for path in peers.iterdir()}
