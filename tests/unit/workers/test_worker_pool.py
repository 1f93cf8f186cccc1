"""Which worker gets what, and whose a call is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bridge.workers.peer_workers import PeerWorkers
from bridge.workers.worker_pool import (
    ClaimTable,
    ConnectedWorker,
    WorkerPool,
    app_of,
    home_of_conference,
    pool_message,
    worker_of_id,
)


def pool(**loads: int) -> WorkerPool:
    """Workers that are ready: ``w1=3`` has three streams."""
    made = WorkerPool("bridge", len(loads))
    for name, load in loads.items():
        number = int(name[1:])
        made.workers[number] = ConnectedWorker(number, 1000 + number, f"/run/http-{number}")
        made.report(number, load, ready=True)
    return made


def test_who_has_least_to_do_gets_a_call_and_that_counts_at_once() -> None:
    two = pool(w1=1, w2=0)
    placed = []
    for number in range(5):
        worker = two.assign(f"c{number}", ["750"])
        assert worker is not None
        two.given(worker)
        placed.append(worker)
    assert placed == [2, 1, 2, 1, 2]
    two.report(1, 0, ready=True)
    assert two.assign("c9", []) == 1


def test_who_is_not_ready_or_has_refused_gets_nothing() -> None:
    two = pool(w1=0, w2=9)
    assert two.assign("c", [], without={1}) == 2
    assert two.assign("c", [], without={1, 2}) is None
    two.report(1, 0, ready=False)
    assert two.assign("c", []) == 2


def test_a_call_comes_back_to_who_had_it_and_to_another_when_that_is_gone() -> None:
    two = pool(w1=0, w2=9)
    two.settle("c", 2, ["750"])
    assert two.assign("c", ["resume"]) == 2
    assert two.assign("ab-bridge_w2-00000000-call-00000001", ["resume"]) == 2
    del two.workers[2]
    assert two.assign("c", ["resume"]) == 1
    assert two.assign("ab-bridge_w2-00000000-call-00000001", ["resume"]) == 1


def test_a_conference_has_one_worker_whoever_calls_it() -> None:
    three = pool(w1=5, w2=0, w3=5)
    home = home_of_conference("daily", [1, 2, 3])
    assert {three.assign(f"c{number}", ["conference", "daily"]) for number in range(5)} == {home}
    made_by = 1 + home % 3
    three.workers[made_by].conferences = {"daily": "b"}
    assert three.assign("c", ["conference", "daily"]) == made_by
    assert len({home_of_conference(str(number), [1, 2, 3]) for number in range(50)}) == 3


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.workers.worker_pool.MAX_HOMES", 2)
    one = pool(w1=0)
    for channel in ("a", "b", "a", "c"):
        one.settle(channel, 1, [])
    assert list(one.homes) == ["a", "c"]


def test_a_claim_goes_to_one_and_then_to_who_waits() -> None:
    table = ClaimTable()
    table.grant("k", 1)
    table.wait("k", 2)
    table.wait("k", 3)
    assert table.release("k", 3) == set()  # it wants it no longer
    assert table.release("k", 1) == {2}
    assert table.holder("k") is None
    assert len(table) == 0


def test_the_claims_of_one_that_dies_are_free() -> None:
    table = ClaimTable()
    for key, number in (("a", 1), ("b", 2), ("c", 1)):
        table.grant(key, number)
        table.wait(key, 3 - number)
    assert table.gone(1) == {"a": {2}, "c": {2}}
    assert table.holder("b") == 2
    assert table.release("b", 2) == set()  # nobody waits: the one that did is gone


@pytest.mark.parametrize(
    ("object_id", "number"),
    [
        ("ab-bridge_w12-5f0c21aa-call-00000017", 12),
        ("ab-bridge-5f0c21aa-call-00000017", None),
        ("ab-other_w1-5f0c21aa-call-00000017", None),
        ("lab-1795238374.0", None),
    ],
)
def test_who_made_an_id(object_id: str, number: int | None) -> None:
    assert worker_of_id("bridge", object_id) == number
    assert app_of("bridge", 12) == "bridge_w12"


def view(number: int, there: WorkerPool, restarts: Mapping[int, int] | None = None) -> PeerWorkers:
    made = PeerWorkers("bridge", number, there.count)
    made.learn(pool_message(there, restarts or {}))
    return made


def test_every_worker_knows_whose_a_call_is() -> None:
    three = pool(w1=0, w2=0, w3=0)
    for number in (1, 2, 3):
        seen = view(number, three)
        seen.settle("c", 3)
        assert seen.owner(["linked", "c"]) == 3
        assert seen.owner(["ab-bridge_w2-00000000-call-00000001"]) == 2
        assert seen.owner(["c", "ab-bridge_w2-00000000-call-00000001"]) == 2  # who placed it controls it
        assert seen.owner(["nobody's"]) == 1
        assert seen.leads == (number == 1)
        del three.workers[3]
        seen.learn(pool_message(three, {3: 4}))
        assert seen.owner(["c"]) == 1
        assert seen.restarts == {3: 4}
        three = pool(w1=0, w2=0, w3=0)


def test_the_first_that_is_there_leads() -> None:
    three = pool(w1=0, w2=0, w3=0)
    del three.workers[1]
    assert view(2, three).leads
    assert not view(3, three).leads
    assert [each.number for each in view(2, three).peers] == [3]


def test_a_conference_is_found_where_it_was_made() -> None:
    two = pool(w1=0, w2=0)
    seen = view(1, two)
    seen.learn_conferences(2, {"daily": "bridge-of-it", "weekly": "another"}, [])
    seen.learn_conferences(2, {}, ["weekly", "unknown"])
    seen.learn_conferences(9, {"other": "of a worker that is not known"}, [])
    seen.learn(pool_message(two, {}))
    assert seen.conference("daily") == (2, "bridge-of-it")
    assert seen.conference_home("daily") == 2
    assert seen.conference("weekly") is None
    assert seen.conference_home("weekly") == home_of_conference("weekly", [1, 2])
