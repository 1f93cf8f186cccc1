"""Background tasks: kept, logged when they fail, ended together; and waiting for the first of several."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable

import pytest

from bridge.errors import BridgeError
from bridge.logs import Fields
from bridge.tasks import BackgroundTasks, first_of, shield_until_done
from tests.fakes.garbage import uncollected


async def fail(error: Exception) -> None:
    raise error


async def ends(tasks: BackgroundTasks) -> None:
    while len(tasks):
        await asyncio.sleep(0)


async def test_a_failure_is_logged_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    tasks = BackgroundTasks("legs")
    tasks.spawn(fail(BridgeError("no answer")))
    tasks.spawn(fail(RuntimeError("a bug")), Fields(call="c1"))
    await ends(tasks)
    expected, bug = caplog.records
    assert (expected.levelno, expected.exc_info) == (logging.WARNING, None)
    assert expected.getMessage() == "background task failed task=legs error=no answer"
    assert (bug.levelno, bug.getMessage()) == (logging.ERROR, "background task failed call=c1 error=a bug")
    assert bug.exc_info is not None
    assert isinstance(bug.exc_info[1], RuntimeError)


async def test_expected_failures_and_success_are_silent(caplog: pytest.LogCaptureFixture) -> None:
    tasks = BackgroundTasks("requests", expected=(KeyError,))
    tasks.spawn(fail(KeyError("gone")))
    assert await tasks.spawn(asyncio.sleep(0, "result")) == "result"
    await ends(tasks)
    assert not caplog.records


async def test_a_task_is_kept_though_nobody_else_refers_to_it() -> None:
    destroyed: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()  # only the task refers to it, and it to the task
        finally:
            destroyed.append(True)

    tasks = BackgroundTasks("kept")
    tasks.spawn(work())
    await asyncio.sleep(0)
    gc.collect()
    assert not destroyed
    await tasks.stop()
    assert destroyed


async def test_stop_cancels_and_awaits_all_and_what_they_start(caplog: pytest.LogCaptureFixture) -> None:
    tasks = BackgroundTasks("stopped")
    ended: list[str] = []

    async def work(name: str, then: str = "") -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)
            if then:
                tasks.spawn(work(then))

    tasks.spawn(work("first", then="second"))
    await asyncio.sleep(0)
    await tasks.stop()
    assert ended in (["first", "second"], ["first"])  # the second may not have begun
    assert len(tasks) == 0
    assert not caplog.records


async def test_the_grace_is_for_tasks_that_end_by_themselves_and_those_that_they_start() -> None:
    tasks = BackgroundTasks("grace")
    ended: list[str] = []

    async def work(name: str, then: str = "") -> None:
        await asyncio.sleep(0)
        if then:
            tasks.spawn(work(then))
        ended.append(name)

    tasks.spawn(work("first", then="second"))
    await tasks.stop(grace_s=60)
    assert ended == ["first", "second"]


async def test_begin_raises_what_fails_soon_and_logs_what_fails_later(caplog: pytest.LogCaptureFixture) -> None:
    tasks = BackgroundTasks("begun")
    with pytest.raises(BridgeError, match="soon"):
        await tasks.begin(fail(BridgeError("soon")), Fields(call="c1"), 60)
    assert not caplog.records
    assert len(tasks) == 0
    go = asyncio.Event()

    async def later() -> None:
        await go.wait()
        raise BridgeError("later")

    await tasks.begin(later(), Fields(call="c2"), 0)
    assert len(tasks) == 1
    go.set()
    await ends(tasks)
    assert [record.getMessage() for record in caplog.records] == ["background task failed call=c2 error=later"]


async def test_begun_work_is_kept_and_logged_if_its_request_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    tasks = BackgroundTasks("begun")
    go = asyncio.Event()

    async def later() -> None:
        await go.wait()
        raise BridgeError("later")

    request = asyncio.create_task(tasks.begin(later(), Fields(call="c1"), 60))
    await asyncio.sleep(0)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    go.set()
    await ends(tasks)
    assert [record.getMessage() for record in caplog.records] == ["background task failed call=c1 error=later"]


async def test_first_of_tells_which_was_first_and_cancels_only_its_own() -> None:
    event, future = asyncio.Event(), asyncio.get_running_loop().create_future()
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    asyncio.get_running_loop().call_soon(event.set)
    assert await first_of(wait(), event.wait(), future) == 1
    assert cancelled.is_set()
    assert not future.cancelled()
    assert await first_of(wait(), future, timeout_s=0) is None
    future.set_result(None)
    assert await first_of(future, event.wait()) == 0  # both are done: the first of the list
    with pytest.raises(BridgeError):
        await first_of(asyncio.Event().wait(), fail(BridgeError("no")))


async def test_stop_returns_where_a_task_has_ended_in_this_turn_of_the_loop() -> None:
    tasks = BackgroundTasks("ended")
    task = tasks.spawn(asyncio.sleep(0, "done"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (task.done(), len(tasks)) == (True, 1)
    await tasks.stop()
    assert len(tasks) == 0


async def refuse() -> None:
    raise BridgeError("no")


@pytest.mark.parametrize(
    "wait",
    [
        lambda: shield_until_done(refuse()),
        lambda: first_of(refuse(), asyncio.Event().wait()),
        lambda: BackgroundTasks("begun").begin(refuse(), Fields(call="c1"), 60),
    ],
    ids=["shield_until_done", "first_of", "begin"],
)
async def test_a_failure_leaves_nothing_to_the_garbage_collector(wait: Callable[[], Awaitable[object]]) -> None:
    with uncollected() as left:
        with contextlib.suppress(BridgeError):  # pytest.raises would keep the traceback
            await wait()
            pytest.fail("it raised nothing")
        await asyncio.sleep(0)
    assert not left
