"""The count of the calls that a token has originated, while several of its requests originate simultaneously."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from bridge.access import Grant, Principal
from bridge.api.errors import ApiError
from bridge.api.originated_calls import TokenCalls

PRINCIPAL = Principal("crm", grant=Grant("crm", max_calls=2))


def test_calls_count_however_their_requests_overlap() -> None:
    originated, up = TokenCalls(), {"call-1", "call-2"}
    with ExitStack() as first, ExitStack() as second:
        add_first = first.enter_context(originated.room(PRINCIPAL, 1, up.__contains__))
        add_second = second.enter_context(originated.room(PRINCIPAL, 1, up.__contains__))
        add_first(["call-1"])
        first.close()
        add_second(["call-2"])
    with pytest.raises(ApiError, match="2 active calls"), originated.room(PRINCIPAL, 1, up.__contains__):
        pass
    up.remove("call-1")
    with originated.room(PRINCIPAL, 1, up.__contains__):
        pass


def test_what_was_not_originated_leaves_its_room() -> None:
    originated = TokenCalls()
    for _ in range(3):
        with pytest.raises(RuntimeError), originated.room(PRINCIPAL, 2, lambda _: True):
            raise RuntimeError
    with originated.room(PRINCIPAL, 2, lambda _: True) as add:
        add(["call-1", "call-2"])
