"""Connections to the HTTP port: slow, many, silent, and those that never read."""

from __future__ import annotations

import socket

from tests.attack.attacks.table import attack
from tests.attack.target import Target


@attack(least=20)
def slow_headers(target: Target) -> int:
    """Send the heads of 200 requests, a byte at a time."""
    connections = target.many(200, target.connect)
    return target.trickle(connections, target.head("GET", "/health", "X-Slow: " + "x" * 4000, token=False))


def _never_read(target: Target, path: str, *, token: bool = False) -> int:
    """Ask again and again over 60 connections with small buffers, and never read an answer."""
    request = target.head("GET", path, token=token) * 30

    def connect() -> socket.socket:
        connection = target.connect(receive_buffer=2048)
        connection.sendall(request)
        return connection

    connections = target.many(60, connect)
    target.wait()
    return 30 * len(connections)


@attack(least=100, ends=True, seconds=4)
def openapi_not_read(target: Target) -> int:
    """Ask for /openapi.json and never read it."""
    return _never_read(target, "/openapi.json")


@attack(least=100)
def docs_not_read(target: Target) -> int:
    """Ask for /docs and never read it."""
    return _never_read(target, "/docs")


@attack(least=100)
def status_page_not_read(target: Target) -> int:
    """Ask for the status page and never read it."""
    return _never_read(target, "/")


@attack(least=100)
def health_not_read(target: Target) -> int:
    """Ask for /health and never read it."""
    return _never_read(target, "/health")


@attack(least=100)
def errors_not_read(target: Target) -> int:
    """Ask for what needs a token, without one, and never read the 401."""
    return _never_read(target, "/v1.0/calls")


@attack(least=100)
def metrics_not_read(target: Target) -> int:
    """Ask for /metrics with a token and never read it."""
    return _never_read(target, "/metrics", token=True)


@attack(least=500, seconds=4, phone=True)
def two_thousand_connections(target: Target) -> int:
    """Open 2,000 connections and say nothing."""
    connections = target.many(2000, target.connect)
    target.wait()
    return len(connections)


@attack(least=100)
def connections_one_after_the_other(target: Target) -> int:
    """Open a connection and close it, as fast as that goes."""

    def once() -> int:
        target.connect().close()
        return 1

    return target.repeat(once)


@attack(least=100)
def endless_header_lines(target: Target) -> int:
    """Send header lines without end."""

    def once() -> int:
        with target.connect() as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\n")
            return target.flood(connection, b"X-Line: 1\r\n", most=4 << 20)

    return target.repeat(once)


@attack(least=10)
def endless_header(target: Target) -> int:
    """Send one header whose value does not end."""

    def once() -> int:
        with target.connect() as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nX-Long: ")
            return 1 + target.flood(connection, b"x" * 1024, most=4 << 20)

    return target.repeat(once)


@attack(least=100)
def pipelined_health(target: Target) -> int:
    """Send requests for /health one behind the other without waiting for answers, and read them."""

    def once() -> int:
        with target.connect() as connection:
            return target.flood(connection, target.head("GET", "/health", token=False), most=8 << 20, reads=True)

    return target.repeat(once)


@attack(least=100)
def pipelined_openapi(target: Target) -> int:
    """Send requests for /openapi.json one behind the other without waiting for answers, and read them."""

    def once() -> int:
        with target.connect() as connection:
            return target.flood(connection, target.head("GET", "/openapi.json", token=False), most=1 << 20, reads=True)

    return target.repeat(once)


@attack(least=100)
def random_bytes(target: Target) -> int:
    """Send random bytes instead of HTTP."""
    data = bytes(range(256))

    def once() -> int:
        with target.connect() as connection:
            return 1 + target.flood(connection, data, most=1 << 20)

    return target.repeat(once)
