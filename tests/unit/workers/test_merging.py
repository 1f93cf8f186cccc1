"""What several workers say, as one answer."""

from __future__ import annotations

from typing import Any

from bridge.api.metrics import render
from bridge.api.models.common import Paging
from bridge.api.paging import page_of
from bridge.media.counters import Counters
from bridge.workers import merging


def entries(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"c{number}", "tm_create": f"2026-01-01T00:00:{number:02d}.000Z"} for number in numbers]


def page(of: list[dict[str, Any]], size: int, token: str) -> dict[str, Any]:
    """Return a page as a worker answers."""
    found = page_of(of, lambda each: (each["tm_create"], each["id"]), Paging(page_size=size, page_token=token))
    return {"result": found.entries, "next_page_token": found.next_page_token}


def test_pages_of_several_lists_are_those_of_one() -> None:
    lists = [entries(1, 4, 5, 6), entries(2, 3), []]
    seen: list[str] = []
    token = ""
    for _ in range(4):
        merged = merging.pages([page(each, 2, token) for each in lists], "tm_create", 2)
        seen += [each["id"] for each in merged["result"]]
        assert len(merged["result"]) == 2
        token = merged["next_page_token"]
        if not token:
            break
    assert seen == ["c6", "c5", "c4", "c3", "c2", "c1"]


def test_no_page_after_the_last() -> None:
    merged = merging.pages([page(entries(1), 2, ""), page(entries(2), 2, "")], "tm_create", 2)
    assert merged["next_page_token"] == ""
    assert merging.pages([page([], 2, "")], "tm_create", 2) == {"result": [], "next_page_token": ""}


def test_streams_are_counted_wherever_they_are() -> None:
    calls: list[dict[str, Any]] = [{"id": "a", "streams": 0}, {"id": "b", "streams": 7}]
    merging.count_streams(calls, [{"call_id": "a"}, {"call_id": "a"}, {"call_id": "x"}])
    assert calls == [{"id": "a", "streams": 2}, {"id": "b", "streams": 0}]


def said(well: bool, *faults: str) -> dict[str, Any]:
    words = ("ok", "connected", "listening") if well else ("unavailable", "disconnected", "closed")
    return dict(zip(("status", "ari", "audiosocket"), words, strict=True)) | {
        "version": "1",
        "accepting": well,
        "faults": list(faults),
    }


def test_the_bridge_is_well_while_one_worker_is() -> None:
    bodies = {1: said(True), 2: said(False, "ARI is not connected: it is away")}
    health = merging.health(bodies, 3, detailed=True)
    assert health["status"] == "ok"
    assert health["faults"] == ["worker 3 does not run", "worker 2: ARI is not connected: it is away"]
    assert "it is away" not in str(merging.health(bodies, 3, detailed=False))
    assert health["accepting"] is True
    assert merging.health({1: said(False)}, 1, detailed=True)["accepting"] is False
    assert health["version"] == "1"
    assert "version" not in merging.health(bodies, 3, detailed=False)
    assert merging.health({1: said(False)}, 1, detailed=True)["status"] == "unavailable"


def test_metrics_have_the_worker_as_a_label() -> None:
    texts = {}
    for number in (1, 2):
        counters = Counters()
        counters.streams_opened = number
        texts[number] = render(counters, {"calls": number})
    lines = merging.metrics(texts, {1: 0, 2: 3}).splitlines()
    assert 'asterisk_bridge_streams_opened_total{worker="2"} 2' in lines
    assert 'asterisk_bridge_worker_restarts_total{worker="2"} 3' in lines
    (build,) = [line for line in lines if 'build_info{worker="1"' in line]
    assert build.startswith('asterisk_bridge_build_info{worker="1",version="')
    kinds = [line for line in lines if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))
    # A name's samples come right behind its kind.
    where = lines.index("# TYPE asterisk_bridge_calls gauge")
    assert lines[where + 1 : where + 3] == [
        'asterisk_bridge_calls{worker="1"} 1',
        'asterisk_bridge_calls{worker="2"} 2',
    ]
