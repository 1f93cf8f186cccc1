"""A listening socket when no descriptor is left."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from bridge.media.sockets import ACCEPTED_AT_ONCE, SparingSocket, bind
from tests.fakes.log_output import log_output


@pytest.fixture
def few_files() -> Iterator[None]:
    """Limit the process to a few open files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd"))) + 10
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def use_up() -> list[int]:
    """Open all descriptors that are left."""
    taken: list[int] = []
    while True:
        try:
            taken.append(os.dup(0))
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            return taken


@pytest.mark.usefixtures("few_files")
async def test_the_log_says_why_connections_are_closed_once() -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    listening = SparingSocket(bound)
    listening.listen()
    listening.setblocking(False)
    clients = [socket.create_connection(listening.getsockname(), 1) for _ in range(3)]
    with log_output() as output:
        taken = use_up()
        for _ in clients:
            with pytest.raises(ConnectionAbortedError):
                listening.accept()
        for number in taken:
            os.close(number)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    (line,) = output.getvalue().splitlines()
    assert line.endswith(
        "ERROR bridge.media.sockets connections closed, too many open files (ulimit -n) "
        f'error="Too many open files" count={limit}'
    )
    for each in (*clients, listening):
        each.close()


@pytest.mark.usefixtures("few_files")
def test_who_cannot_be_accepted_is_turned_away_and_the_next_is_served() -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    listening = SparingSocket(bound)
    listening.listen()
    listening.setblocking(False)
    clients = [socket.create_connection(listening.getsockname(), 1) for _ in range(3)]
    taken = use_up()
    for client in clients[:2]:
        with pytest.raises(ConnectionAbortedError):
            listening.accept()
        assert client.recv(1) == b""
    for number in taken:
        os.close(number)
    accepted, _ = listening.accept()
    accepted.send(b"x")
    assert clients[2].recv(1) == b"x"
    for each in (*clients, accepted, listening):
        each.close()


def test_a_burst_of_connections_is_accepted_in_parts() -> None:
    """Or a thousand of them, accepted in one turn of the loop, are 0.1 s without audio in every call."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    listening = SparingSocket(bound)
    listening.listen(64)
    listening.setblocking(False)
    clients = [socket.create_connection(listening.getsockname()) for _ in range(40)]
    accepted: list[socket.socket] = []
    for most in (ACCEPTED_AT_ONCE, 2 * ACCEPTED_AT_ONCE, 40):
        with pytest.raises(BlockingIOError):
            while True:
                accepted.append(listening.accept()[0])
        assert len(accepted) == most
    for each in (listening, *clients, *accepted):
        each.close()


def test_nothing_stays_open_when_it_is_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    bound = socket.socket()
    SparingSocket(bound).close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_an_address_that_the_machine_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``localhost`` where the hosts file has ``::1`` and IPv6 is off."""

    async def two(*_: object, **__: object) -> list[object]:
        nobodys = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.1", 0))
        return [nobodys, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two)
    (bound,) = await bind("localhost", 0)
    assert bound.getsockname()[0] == "127.0.0.1"
    bound.close()


async def test_nothing_is_bound_where_the_machine_has_none_of_the_addresses() -> None:
    with pytest.raises(OSError, match=r"203\.0\.113\.1"):
        await bind("203.0.113.1", 0)
