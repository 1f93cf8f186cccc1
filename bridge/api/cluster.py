"""``/v1.0/cluster``: all nodes that share a store, and all their calls, from any of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bridge.api.backend import Backend
from bridge.api.errors import unavailable
from bridge.api.exception_mapping import RETRY_AFTER_S, call_not_found
from bridge.api.models.base import NoQuery
from bridge.api.models.cluster import ClusterCall, ClusterCalls, ListClusterCalls, Nodes
from bridge.api.paging import page_of
from bridge.api.reach import sees_summary
from bridge.api.routing import Asked, JsonResponse
from bridge.cluster.store import StoreUnavailable

if TYPE_CHECKING:
    from bridge.cluster.cluster import Cluster


async def list_nodes(asked: Asked[NoQuery, None]) -> JsonResponse[Nodes]:
    """List the nodes that have reported within the last 10 s."""
    with _asking():
        return JsonResponse({"result": await _cluster(asked.backend).nodes()})


async def list_calls(asked: Asked[ListClusterCalls, None]) -> JsonResponse[ClusterCalls]:
    """List the calls of all nodes, newest first, each once."""
    with _asking():
        calls = await _cluster(asked.backend).calls(asked.query.pbx, asked.query.node)
    page = page_of([each for each in calls if sees_summary(asked.principal, each)], _place, asked.query)
    return JsonResponse({"result": page.entries, "next_page_token": page.next_page_token})


async def get_call(asked: Asked[NoQuery, None]) -> JsonResponse[ClusterCall]:
    """Get one call, on whichever node; if two Asterisks use the same id, the newest."""
    with _asking():
        found = [
            each for each in await _cluster(asked.backend).find(asked.path()) if sees_summary(asked.principal, each)
        ]
    if not found:
        raise call_not_found(asked.path())
    return JsonResponse(max(found, key=_place))


def _cluster(backend: Backend) -> Cluster:
    assert backend.cluster is not None  # otherwise its routes do not exist
    return backend.cluster


def _place(call: dict[str, Any]) -> tuple[str, str]:
    return call["tm_create"], f"{call['id']} {call['pbx']}"


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        raise unavailable("STORE_UNREACHABLE", str(error), RETRY_AFTER_S) from error
