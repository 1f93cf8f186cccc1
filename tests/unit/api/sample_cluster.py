"""A cluster as the API sees it: two bridges of two Asterisks, and a store that can be unavailable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from bridge.cluster.store import StoreUnavailable

NODES = [
    {
        "name": name,
        "pbx": f"pbx-{number}",
        "app": "bridge",
        "version": "1",
        "tm_start": "2026-01-31T11:00:00.123Z",
        "asterisk": True,
        "calls": 2,
        "streams": 1,
        "claims": 1,
        "waiting": 0,
        "cpu": 0.25,
    }
    for number, name in enumerate(("one", "two"))
]
CALLS = [
    {
        "id": identity,
        "pbx": f"pbx-{number % 2}",
        "nodes": [NODES[number % 2]["name"]],
        "status": "progressing",
        "source": "1001",
        "destination": "1002",
        "tm_create": f"2026-01-31T11:0{number}:00.123Z",
        "parties": [{"id": identity, "endpoint": "1001", "state": "Up"}],
        "streams": number,
    }
    for number, identity in enumerate(("c1", "c2", "c3", "c1"))
]


class FewBridges:
    """Return the nodes above, or fail because the store is unavailable."""

    def __init__(self) -> None:
        self.away = False
        self.gauges: Mapping[str, float] = {"cluster_store_reachable": 1}
        self.totals: Mapping[str, float] = {"cluster_claims_lost": 3}

    async def nodes(self) -> list[dict[str, Any]]:
        self._check()
        return list(NODES)

    async def calls(self, pbx: str = "", node: str = "") -> list[dict[str, Any]]:
        self._check()
        return [each for each in CALLS if pbx in ("", each["pbx"]) and node in ("", *cast(list[str], each["nodes"]))]

    async def find(self, identity: str, /) -> list[dict[str, Any]]:
        self._check()
        return [each for each in CALLS if each["id"] == identity]

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("redis://s:6379: no answer in 1 s")
