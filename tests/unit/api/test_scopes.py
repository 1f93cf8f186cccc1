"""Scopes: every route that is not public needs one."""

import pytest

from bridge.access import ANONYMOUS, SCOPES, Principal
from bridge.api import plivo, table, telnyx
from bridge.api.routing import Route
from bridge.api.vendors import VENDORS

ROUTES = [
    *table.ALWAYS, *table.CALLING, *table.VOXOLOGY, *table.CONFERENCES, *table.SUBSCRIPTIONS, *table.CLUSTER,
    *table.TWILIO, *telnyx.ROUTES, *plivo.ROUTES,
]  # fmt: skip


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
def test_a_route_has_a_scope_unless_it_is_public(route: Route) -> None:
    assert route.access in ("token", "public", *VENDORS)
    assert (route.scope is None) == (route.access == "public")
    assert route.scope is None or route.scope in SCOPES


def test_a_principal_holds_its_scopes_and_admin_holds_all() -> None:
    reader = Principal("r", scopes=frozenset({"calls:read"}))
    assert reader.may("calls:read")
    assert not reader.may("calls:control")
    assert all(Principal("a", scopes=frozenset({"admin"})).may(scope) for scope in SCOPES)
    assert not any(ANONYMOUS.may(scope) for scope in SCOPES)
