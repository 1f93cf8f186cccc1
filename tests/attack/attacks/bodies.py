"""Request bodies: compressed, slow, deep, wide, and made for what reads them."""

from __future__ import annotations

import gzip
import json
import socket
import zlib

from tests.attack.attacks.table import attack
from tests.attack.target import Target

CALLS, SUBSCRIPTIONS = "/v1.0/calls", "/v1.0/subscriptions"
_ZEROS = bytes(1 << 20)


def _compressed(target: Target, coding: str, *, token: bool) -> int:
    """Send 1 MiB of zeros again and again, a thousand to one, in one body that does not end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    first = packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    head = target.head(
        "POST", CALLS, "Content-Type: application/json", f"Content-Encoding: {coding}",
        f"Content-Length: {1 << 30}", token=token,
    )  # fmt: skip

    def once() -> int:
        with target.connect() as connection:
            connection.sendall(head + first)
            return 1 + target.flood(connection, again, most=4 << 20)

    return target.repeat(once)


@attack(phone=True, ends=True, least=2)
def gzip_without_token(target: Target) -> int:
    """Send gzip bombs without a token, before and after the 401."""
    return _compressed(target, "gzip", token=False)


@attack(least=2)
def gzip_with_token(target: Target) -> int:
    """Send gzip bombs with a token."""
    return _compressed(target, "gzip", token=True)


@attack(least=2)
def deflate_without_token(target: Target) -> int:
    """Send deflate bombs without a token, before and after the 401."""
    return _compressed(target, "deflate", token=False)


@attack(least=2)
def deflate_with_token(target: Target) -> int:
    """Send deflate bombs with a token."""
    return _compressed(target, "deflate", token=True)


@attack(least=2)
def compressed_whole_requests(target: Target) -> int:
    """Send whole requests whose small bodies unfold to 32 MiB, one after the other."""
    body = gzip.compress(bytes(32 << 20), 9)
    return target.ask_again(target.post(CALLS, body, "Content-Encoding: gzip"))


@attack(least=20)
def slow_bodies(target: Target) -> int:
    """Send 200 bodies at the same time, a byte at a time."""
    head = target.head("POST", CALLS, "Content-Type: application/json", "Content-Length: 100000")

    def connect() -> socket.socket:
        connection = target.connect()
        connection.sendall(head)
        return connection

    return target.trickle(target.many(200, connect), b" ")


@attack(least=2)
def large_bodies_without_token(target: Target) -> int:
    """Send bodies of 1 GiB without a token, as fast as they go."""

    def once() -> int:
        with target.connect() as connection:
            connection.sendall(target.head("POST", CALLS, f"Content-Length: {1 << 30}", token=False))
            return 1 + target.flood(connection, b"x" * 1024, most=256 << 20)

    return target.repeat(once)


@attack(least=2)
def chunks_of_one_byte(target: Target) -> int:
    """Send a chunked body whose chunks hold one byte each."""

    def once() -> int:
        with target.connect() as connection:
            connection.sendall(
                target.head("POST", CALLS, "Content-Type: application/json", "Transfer-Encoding: chunked")
            )
            return 1 + target.flood(connection, b"1\r\n \r\n", most=8 << 20)

    return target.repeat(once)


@attack(least=2)
def deep_json(target: Target) -> int:
    """Nest lists and objects as deep as bodies of 900 and of 190 KB allow."""
    bodies = [b"[" * 900_000, b"[" * 190_000, b'{"a":' * 180_000, b'{"a":' * 38_000]
    return target.ask_again(*(target.post(CALLS, body) for body in bodies))


@attack(least=2)
def wide_json(target: Target) -> int:
    """Send objects of up to 80,000 keys that no call has."""
    bodies = [json.dumps({f"k{number}": 0 for number in range(count)}).encode() for count in (80_000, 15_000, 1900)]
    return target.ask_again(*(target.post(CALLS, body) for body in bodies))


@attack(least=1)
def urls_for_a_quadratic_pattern(target: Target) -> int:
    """Send a flow of 240 actions with URLs of 4,000 characters and a space each: 40 s for a quadratic expression."""
    url = "http://" + "a" * 4000 + " "
    actions = [{"type": "fetch", "option": {"event_url": url}} for _ in range(240)]
    body = {"destinations": [{"type": "tel", "target": "+600"}], "actions": actions}
    return target.ask_again(target.post(CALLS, json.dumps(body).encode()))


@attack(least=1)
def many_actions(target: Target) -> int:
    """Send flows of 1,000 actions, valid and invalid ones."""
    url = "ws://127.0.0.1:9/"
    flows = (
        [{"type": "STREAM", "params": {"url": url}}],
        [{"type": "external_media_start", "option": {"url": url}}],
        [{"type": "external_media_start", "option": {"url": url, "dialect": "twilio", "options": {"x": 1}}}],
    )
    destinations = [{"type": "tel", "target": "no number"}]
    bodies = [json.dumps({"destinations": destinations, "actions": actions * 1000}).encode() for actions in flows]

    def once() -> int:
        return sum(target.ask(target.post(CALLS, body)) != 0 for body in bodies)

    return target.repeat(once)


@attack(least=1)
def subscription_with_unknown_keys(target: Target) -> int:
    """Make subscriptions with up to 80,000 keys that none has."""
    known = {"id": "wide", "url": "ws://127.0.0.1:9/", "dialect": "voipbin"}
    bodies = [known | {f"k{number}": 0 for number in range(count)} for count in (80_000, 15_000, 1900)]
    return target.ask_again(*(target.post(SUBSCRIPTIONS, json.dumps(body).encode()) for body in bodies))


@attack(least=1)
def subscription_with_bad_patterns(target: Target) -> int:
    """Make subscriptions with up to 200,000 patterns, all of them wrong."""
    known = {"id": "bad", "url": "ws://127.0.0.1:9/", "dialect": "voipbin"}
    bodies = [known | {"extensions": [" "] * count} for count in (200_000, 35_000, 1900, 900)]
    return target.ask_again(*(target.post(SUBSCRIPTIONS, json.dumps(body).encode()) for body in bodies))


@attack(least=1, seconds=4, phone=True)
def subscription_with_90000_patterns(target: Target) -> int:
    """Make subscriptions with 90,000 patterns and with 900 hard ones, and calls that have to be compared with them."""
    target_of = {"url": "ws://127.0.0.1:9/", "dialect": "yeastar"}
    many = {"id": "many", "extensions": [f"*{number:05d}*" for number in range(90_000)], **target_of}
    hard = {"id": "hard", "extensions": [f"*1*{number % 10}*0*?*1*{number}*x" for number in range(900)], **target_of}
    call = {"destinations": [{"type": "tel", "target": "+600"}], "actions": [{"type": "answer"}]}
    sent = 0
    try:
        for body in (many, hard):
            sent += target.ask(target.post(SUBSCRIPTIONS, json.dumps(body, separators=(",", ":")).encode())) != 0
        for _ in range(3):
            sent += target.ask(target.post(CALLS, json.dumps(call).encode())) != 0
        target.wait()
    finally:
        for body in (many, hard):
            target.ask(target.head("DELETE", f"{SUBSCRIPTIONS}/{body['id']}"))
    return sent


@attack(least=1, ends=True)
def ca_file_that_is_a_pipe(target: Target) -> int:
    """Name the bridge's standard error, a pipe, as the certificates of a subscription."""
    body = {"id": "pipe", "url": "wss://127.0.0.1:9/", "dialect": "yeastar", "ca_file": "/dev/stderr"}

    def connect() -> socket.socket:
        connection = target.connect()
        connection.sendall(target.post(SUBSCRIPTIONS, json.dumps(body).encode()))
        return connection

    connections = target.many(3, connect)
    target.wait()
    return len(connections)


@attack(least=50)
def wrong_tokens(target: Target) -> int:
    """Guess tokens, eight over one connection at a time, as fast as they are answered."""

    def once() -> int:
        with target.connect() as connection:
            for guess in range(8):
                head = target.head("GET", CALLS, f"Authorization: Bearer wrong-token-{guess}", token=False)
                connection.sendall(head)
                if not connection.recv(65536):
                    break
            return guess

    return target.repeat(once)
