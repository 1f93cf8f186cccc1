"""The loop that calls sockets directly, and when it pauses."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

from bridge.media.loop import AT_ONCE, JUDGED_S, Coalescing, FrameLoop
from tests.fakes.dialed import dial


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def run(act: Callable[[FrameLoop], Coroutine[Any, Any, None]], coalesce_ms: float = 0.0) -> None:
    """Run in a thread of its own: the tests' own loop runs in this one."""
    errors: list[BaseException] = []

    def target() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: FrameLoop(coalesce_ms)) as runner:
                loop = runner.get_loop()
                assert isinstance(loop, FrameLoop)
                runner.run(act(loop))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


# The sockets


def test_a_reader_is_called_and_can_be_removed(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    heard: list[bytes] = []

    async def act(loop: FrameLoop) -> None:
        loop.add_reader(ours.fileno(), lambda: heard.append(ours.recv(9)))
        theirs.send(b"one")
        await asyncio.sleep(0.02)
        assert loop.remove_reader(ours.fileno())
        assert not loop.remove_reader(ours.fileno())
        theirs.send(b"two")
        await asyncio.sleep(0.02)

    run(act)
    assert heard == [b"one"]


def test_reader_and_writer_of_one_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    seen: list[str] = []

    async def act(loop: FrameLoop) -> None:
        fd = ours.fileno()

        def write() -> None:
            seen.append("writable")
            loop.remove_writer(fd)

        loop.add_reader(fd, lambda: seen.append(f"read {ours.recv(9)!r}"))
        loop.add_writer(fd, write)
        await asyncio.sleep(0.02)
        theirs.send(b"x")
        await asyncio.sleep(0.02)
        theirs.close()  # a hang-up wakes the reader, which learns it from recv
        await asyncio.sleep(0.005)
        loop.remove_reader(fd)

    run(act)
    assert seen[:3] == ["writable", "read b'x'", "read b''"]


def test_callbacks_with_arguments_and_asyncios_own_work_as_ever(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    heard: list[str] = []

    async def act(loop: FrameLoop) -> None:
        loop.add_reader(ours, heard.append, "an object, with an argument")
        theirs.send(b"x")
        await asyncio.sleep(0.01)
        assert loop.remove_reader(ours)
        assert ours.recv(9) == b"x"
        server = await asyncio.start_server(lambda _, writer: writer.write(b"hello"), "127.0.0.1", 0)
        reader, writer = await dial(*server.sockets[0].getsockname())
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        server.close()
        loop.call_soon_threadsafe(heard.append, "from a thread")
        await asyncio.to_thread(time.sleep, 0.01)

    run(act)
    assert heard[0] == "an object, with an argument"
    assert heard[-1] == "from a thread"


def test_a_callback_that_fails_is_told_and_stops_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    told: list[BaseException] = []

    async def act(loop: FrameLoop) -> None:
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

        def fail() -> None:
            ours.recv(9)
            raise ValueError("a fault")

        loop.add_reader(ours.fileno(), fail)
        theirs.send(b"x")
        await asyncio.sleep(0.02)
        loop.remove_reader(ours.fileno())

    run(act)
    assert [str(error) for error in told] == ["a fault"]


def test_a_socket_that_is_closed_first_is_forgotten(pair: tuple[socket.socket, socket.socket]) -> None:
    async def act(loop: FrameLoop) -> None:
        fd = pair[0].fileno()
        loop.add_reader(fd, lambda: None)
        pair[0].close()
        assert loop.remove_reader(fd)

    run(act)


def test_what_comes_in_a_moment_is_taken_together(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    heard: list[float] = []

    async def act(loop: FrameLoop) -> None:
        def hear() -> None:
            heard.append(len(ours.recv(99)))

        loop.add_reader(ours.fileno(), hear)

        def send() -> None:
            for _ in range(int(3 * JUDGED_S / 0.0002)):
                theirs.send(b"x")
                time.sleep(0.0001)

        await asyncio.to_thread(send)
        await asyncio.sleep(0.01)
        loop.remove_reader(ours.fileno())

    run(act, coalesce_ms=5)
    assert sum(heard) == int(3 * JUDGED_S / 0.0002)
    assert max(heard) > 5


def test_a_burst_lets_timers_have_their_turn() -> None:
    served: list[str] = []
    pairs = [socket.socketpair() for _ in range(3 * AT_ONCE)]

    async def act(loop: FrameLoop) -> None:
        def serve(sock: socket.socket) -> None:
            sock.recv(9)
            served.append("socket")

        for ours, theirs in pairs:
            loop.add_reader(ours.fileno(), partial(serve, ours))
            theirs.send(b"x")
        loop.call_later(0, served.append, "timer")
        await asyncio.sleep(0.05)
        for ours, _ in pairs:
            loop.remove_reader(ours.fileno())

    run(act, coalesce_ms=1)
    for pair in pairs:
        for each in pair:
            each.close()
    assert served.count("socket") == len(pairs)
    assert served.index("timer") <= AT_ONCE


# When the loop pauses


def live(coalescing: Coalescing, begin: float, seconds: float, gap_s: float, busy_s: float) -> float:
    """Let a frame arrive every ``gap_s`` and take ``busy_s``, and return the time at the end."""
    now = begin
    while now < begin + seconds:
        coalescing.woke(now)
        now += busy_s
        now += max(coalescing.pause(now), gap_s - busy_s)
    return now


def arrive(coalescing: Coalescing, begin: float, seconds: float, gap_s: float) -> None:
    """Let frames come at random, ``gap_s`` apart on average, whether something waits for them or not."""
    chance = random.Random(5)
    now = comes = begin
    while now < begin + seconds:
        now = max(now + coalescing.pause(now), comes)
        coalescing.woke(now)
        while comes <= now:
            comes += chance.expovariate(1 / gap_s)


def test_frames_one_by_one_are_taken_together() -> None:
    coalescing = Coalescing(0.001)
    now = live(coalescing, 100.0, 2 * JUDGED_S, 0.0002, 0.0001)
    assert coalescing.on
    coalescing.woke(now)
    assert coalescing.pause(now + 0.0002) == pytest.approx(0.0008)
    assert coalescing.pause(now + 0.0012) == 0
    live(coalescing, now, 3 * JUDGED_S, 0.001, 0.0005)
    assert coalescing.on


def test_what_comes_together_is_not_held_back() -> None:
    coalescing = Coalescing(0.001)
    now = live(coalescing, 100.0, 2 * JUDGED_S, 0.005, 0.001)
    assert not coalescing.on
    now = live(coalescing, now, 2 * JUDGED_S, 0.0002, 0.0001)
    assert coalescing.on
    live(coalescing, now, 3 * JUDGED_S, 0.005, 0.001)
    assert not coalescing.on


@pytest.mark.parametrize("was_on", [True, False])
@pytest.mark.parametrize(("gap_s", "on"), [(0.00085, True), (0.002, False)], ids=["20 calls spread", "aligned calls"])
def test_a_load_has_one_outcome_whatever_was_before(was_on: bool, gap_s: float, on: bool) -> None:
    coalescing = Coalescing(0.001)
    now = live(coalescing, 100.0, 2 * JUDGED_S, 0.0002 if was_on else 0.01, 0.0001)
    assert coalescing.on == was_on
    arrive(coalescing, now, 4 * JUDGED_S, gap_s)
    assert coalescing.on == on


def test_none_when_it_is_switched_off() -> None:
    coalescing = Coalescing(0)
    now = live(coalescing, 100.0, 2 * JUDGED_S, 0.0002, 0.0001)
    assert coalescing.pause(now) == 0
    assert not coalescing.on


def test_a_busy_process_waits_for_nothing() -> None:
    coalescing = Coalescing(0.001)
    now = live(coalescing, 100.0, 2 * JUDGED_S, 0.0002, 0.0001)
    coalescing.woke(now)
    assert coalescing.pause(now + 0.001) == 0
    assert coalescing.on
