"""When a connection that is lost is opened again, and after how long."""

from __future__ import annotations

import pytest

from bridge.media.dial import Backoff, LinkFailed
from bridge.media.websocket import Link
from bridge.streams.connection import STABLE_S, Dialed


async def _unreachable() -> Link:
    raise LinkFailed("nobody listens")


@pytest.fixture
def dialed() -> Dialed:
    return Dialed(_unreachable, Backoff(1, 100, factor=10, jitter=0))


def test_waits_grow_until_a_connection_has_been_stable(dialed: Dialed) -> None:
    assert [dialed.after_close(1006, STABLE_S / 2) for _ in range(3)] == [1, 10, 100]
    assert dialed.after_close(1006, STABLE_S * 2) == 1
    assert dialed.after_close(1006, STABLE_S / 2) == 10


def test_an_application_that_goes_away_is_dialed_again(dialed: Dialed) -> None:
    assert [dialed.after_close(1001, 0), dialed.after_close(1001, 0)] == [1, 10]


@pytest.mark.parametrize("code", [1000, 1005])
def test_a_connection_that_the_application_closed_is_not_opened_again(dialed: Dialed, code: int) -> None:
    assert dialed.after_close(code, 0) is None


def test_what_a_server_asks_for_comes_on_top_of_the_backoff(dialed: Dialed) -> None:
    assert [dialed.after_failure(LinkFailed("busy", 5)), dialed.after_failure(LinkFailed("busy"))] == [6, 10]
