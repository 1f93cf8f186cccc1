"""What the tests of the API share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from bridge.api import document
from bridge.api.routing import Operation


async def _no_handler(_: object) -> None:
    """Stand in for a route's handler, on which no document depends."""


@pytest.fixture(scope="session", autouse=True)
def documents_built_once() -> Iterator[None]:
    """Build the documents of an API once for each set of routes: they take most of the time that `build` takes."""
    built: dict[str, dict[Any, Any]] = {}
    add_documents = document.add_documents

    def add_known(application: web.Application, operations: Iterable[Operation], *, with_tokens: bool) -> None:
        listed = list(operations)
        routes = [replace(each, route=replace(each.route, handler=_no_handler)) for each in listed]
        key = f"{with_tokens} {routes}"
        if key not in built:
            add_documents(application, listed, with_tokens=with_tokens)
            built[key] = {name: application[name] for name in (document.DOCUMENT, document.DOCS)}
        for name, served in built[key].items():
            application[name] = served

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "add_documents", add_known)
        yield
