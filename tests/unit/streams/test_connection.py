"""When a connection that is lost is opened again, and after how long."""

from __future__ import annotations

import pytest

from bridge.media.dial import Backoff, LinkFailed
from bridge.media.websocket import Link
from bridge.streams.connection import STABLE_S, Dialed, GivenUp
from tests.fakes.virtual_time import pass_time
from tests.fakes.wire import Wire


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


async def test_a_caller_does_not_wait_for_ever() -> None:
    """With waits of 1, 10 and 100 s and a limit of 30 s, the last attempt is after 30 s."""
    limited = Dialed(_unreachable, Backoff(1, 100, factor=10, jitter=0), give_up_s=30)
    waits = []
    with pytest.raises(GivenUp, match="no connection for 30 s"):
        while True:
            with pytest.raises(LinkFailed):
                await limited.open()
            waits.append(limited.after_failure(LinkFailed("nobody listens")))
            await pass_time(waits[-1])
    assert waits == [1, 10, 19]


async def test_waits_between_connections_that_do_not_last_add_up() -> None:
    limited = Dialed(_opened, Backoff(1, 1, jitter=0), give_up_s=30)
    attempts = 0
    with pytest.raises(GivenUp, match="no connection for 30 s"):
        while True:
            await limited.open()
            attempts += 1
            await pass_time(2)
            await pass_time(limited.after_close(1001, 2) or 0)
    assert attempts == 31


async def test_an_application_that_restarts_early_in_a_call_has_the_whole_time_to_come_back() -> None:
    limited = Dialed(_opened, Backoff(1, 1, jitter=0), give_up_s=3)
    await limited.open()
    lived_s = STABLE_S - 1
    await pass_time(lived_s)
    waited_s = limited.after_close(1001, lived_s)
    assert waited_s == 1
    await pass_time(waited_s)
    assert limited.after_failure(LinkFailed("nobody listens")) == 1


async def test_a_stable_connection_begins_the_time_from_scratch() -> None:
    limited = Dialed(_opened, Backoff(1, 1, jitter=0), give_up_s=30)
    for _ in range(5):
        await limited.open()
        await pass_time(60)
        assert limited.after_close(1001, 60) == 1


async def test_what_a_server_asks_for_beyond_the_limit_is_not_waited_for() -> None:
    limited = Dialed(_unreachable, Backoff(1, 1, jitter=0), give_up_s=30)
    with pytest.raises(LinkFailed):
        await limited.open()
    with pytest.raises(GivenUp):
        limited.after_failure(LinkFailed("busy", retry_after_s=60))


async def _opened() -> Link:
    return Wire()
