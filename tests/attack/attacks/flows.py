"""Flows that make the bridge work: variables many times in little text, and responses full of values."""

from __future__ import annotations

import json
import socket

from tests.attack.attacks.handshakes import OK, fetch, flow_server
from tests.attack.attacks.table import attack
from tests.attack.target import HOST, Target


def _flow(target: Target, actions: object) -> int:
    """Originate calls whose flow is fetched from the attacker's server, which answers with these actions."""
    body = json.dumps(actions).encode()
    whole = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def answer(connection: socket.socket) -> int:
        connection.sendall(whole)
        return 1

    return flow_server(target, fetch(target), answer)


def _set(name: str, value: str) -> dict[str, object]:
    return {"type": "variable_set", "option": {"key": name, "value": value}}


def _send(target: Target, path: str = "", **options: object) -> dict[str, object]:
    return {"type": "webhook_send", "option": {"uri": f"http://{HOST}:{target.application_port}/{path}", **options}}


@attack(least=1)
def flow_with_many_variables_in_a_url(target: Target) -> int:
    """Put a variable of 1,000 backslashes into a URL 100 times."""
    return _flow(target, [_set("a", "\\" * 1000), _send(target, "${a}" * 100)])


@attack(least=1)
def flow_with_long_variables_in_bodies(target: Target) -> int:
    """Put a variable of 32 KB into forms and XML 32 times, where each of its characters is encoded."""
    forms = [
        _send(target, data="${a}" * 32, data_type=data_type)
        for data_type in ("text/xml", "application/x-www-form-urlencoded")
    ]
    return _flow(target, [_set("a", "\x01" * 32_000), *forms * 20])


@attack(least=1)
def flow_server_many_values(target: Target) -> int:
    """Answer a flow's request with 350,000 empty lists."""
    body = b"[" + b"[]," * 349_000 + b"[]]"
    whole = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def answer(connection: socket.socket) -> int:
        connection.sendall(whole)
        return 1

    return flow_server(target, [fetch(target)] * 20, answer)


@attack(least=1, seconds=4)
def flow_with_webhooks_never_answered(target: Target) -> int:
    """Send 100 requests of 6 MB to a server that takes them and does not answer."""
    sends = [_send(target, data='"' + "${a}" * 32 + '"')] * 100

    def answer(connection: socket.socket) -> int:
        body = json.dumps([_set("a", "\x01" * 32_000), *sends]).encode()
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return 1

    return flow_server(target, fetch(target), answer)
