"""Answers to the bridge's own requests that never end: from applications that it dials and servers of flows."""

from __future__ import annotations

import contextlib
import gzip
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable

from tests.attack.attacks.table import attack
from tests.attack.target import HOST, Target, read_head


def _answer(target: Target, first: bytes, again: bytes = b"", *, most: int = 16 << 20) -> int:
    """Answer whenever the bridge dials an application, and never come to an end."""
    answered = 0
    for connection in target.application_called(times=2):
        with contextlib.suppress(OSError):
            read_head(connection)
            connection.sendall(first)
            answered += 1
            if again:
                answered += target.flood(connection, again, most=most)
            else:
                connection.settimeout(target.left_s or 0.1)
                connection.recv(1)
    return answered


@attack(least=100, phone=True, ends=True)
def endless_continue(target: Target) -> int:
    """Answer the handshake with 100 Continue without end."""
    return _answer(target, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n")


@attack(least=100)
def endless_handshake_header(target: Target) -> int:
    """Answer the handshake with a header that does not end."""
    return _answer(target, b"HTTP/1.1 101 Switching Protocols\r\nX-Long: ", b"x" * 64)


@attack(least=100)
def endless_handshake_lines(target: Target) -> int:
    """Answer the handshake with header lines that do not end."""
    return _answer(target, b"HTTP/1.1 101 Switching Protocols\r\n", b"X-Line: 1\r\n")


@attack(least=100)
def endless_refusal(target: Target) -> int:
    """Refuse the handshake with a body that does not end."""
    return _answer(
        target, b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", b"40\r\n" + b"x" * 64 + b"\r\n"
    )


@attack(least=1)
def refusal_of_absurd_length(target: Target) -> int:
    """Refuse the handshake with a Content-Length of 6,000 digits."""
    return _answer(target, b"HTTP/1.1 403 Forbidden\r\nContent-Length: " + b"9" * 6000 + b"\r\n\r\n")


@attack(least=1)
def handshake_never_answered(target: Target) -> int:
    """Take the bridge's connections and never answer."""
    return _answer(target, b"")


@attack(least=1)
def handshake_byte_by_byte(target: Target) -> int:
    """Answer the handshake a byte at a time."""
    answered = 0
    for connection in target.application_called():
        read_head(connection)
        answered += target.trickle([connection], b"HTTP/1.1 101 Switching Protocols\r\n" + b"X-Slow: 1\r\n" * 100, 0.02)
    return answered


def flow_server(
    target: Target, actions: dict[str, object] | list[dict[str, object]], answer: Callable[[socket.socket], int]
) -> int:
    """Originate calls whose flow sends a request to the attacker's server, and answer as the server does."""
    body = {
        "destinations": [{"type": "tel", "target": "+600"}],
        "actions": actions if isinstance(actions, list) else [actions],
    }
    answered: list[int] = []

    def serve(server: socket.socket) -> None:
        server.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            while target.left_s:
                if not selector.select(target.left_s):
                    return
                connection, _ = server.accept()
                connection.settimeout(max(0.5, target.left_s))
                with connection, contextlib.suppress(OSError):
                    read_head(connection)
                    answered.append(answer(connection))

    with socket.create_server((HOST, target.application_port), backlog=64) as server:
        serving = threading.Thread(target=serve, args=(server,))
        serving.start()
        for _ in range(3):
            status = target.ask(target.post("/v1.0/calls", json.dumps(body).encode()))
            if status not in (200, 201, 202):
                raise SystemExit(f"the call was not placed: {status}")
            time.sleep(0.05)
        serving.join()
    return sum(answered)


def fetch(target: Target) -> dict[str, object]:
    """Return an action that sends a request to the attacker's server."""
    return {"type": "fetch", "option": {"event_url": f"http://{HOST}:{target.application_port}/flow"}}


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@attack(least=10)
def flow_server_endless_body(target: Target) -> int:
    """Answer a flow's request with a body that does not end."""

    def answer(connection: socket.socket) -> int:
        connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        return target.flood(connection, b"40\r\n" + b" " * 64 + b"\r\n", most=16 << 20)

    return flow_server(target, fetch(target), answer)


@attack(least=10)
def flow_server_endless_head(target: Target) -> int:
    """Answer a flow's request with header lines that do not end."""

    def answer(connection: socket.socket) -> int:
        connection.sendall(OK)
        return target.flood(connection, b"X-Line: 1\r\n", most=16 << 20)

    return flow_server(target, fetch(target), answer)


@attack(least=1)
def flow_server_compressed(target: Target) -> int:
    """Answer a flow's request with a gzip bomb."""
    body = gzip.compress(bytes(32 << 20), 9)
    whole = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def answer(connection: socket.socket) -> int:
        connection.sendall(whole)
        return 1

    return flow_server(target, fetch(target), answer)


@attack(least=1)
def flow_server_quadratic_urls(target: Target) -> int:
    """Answer a flow's request with 200 actions whose URLs take a quadratic expression long."""
    url = "http://" + "a" * 4000 + " "
    actions = [{"type": "fetch", "option": {"event_url": url}} for _ in range(200)]
    body = json.dumps(actions).encode()
    whole = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def answer(connection: socket.socket) -> int:
        connection.sendall(whole)
        return 1

    return flow_server(target, fetch(target), answer)


@attack(least=1, workers=2, seconds=4)
def overlong_line_between_workers(target: Target) -> int:
    """Answer a flow's request with one action whose unknown option is 400,000 letters with an accent."""
    body = json.dumps([{"type": "talk", "option": {"é" * 400_000: 1}}], ensure_ascii=False).encode()
    whole = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def answer(connection: socket.socket) -> int:
        connection.sendall(whole)
        return 1

    return flow_server(target, fetch(target), answer)
