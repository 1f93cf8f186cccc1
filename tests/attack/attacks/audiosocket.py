"""The port that Asterisk dials."""

from __future__ import annotations

import itertools
import socket
import struct

from tests.attack.attacks.table import attack
from tests.attack.target import DIALECTS, Target, uuid_message, uuid_of


@attack(least=300, seconds=4, phone=True)
def idle_audiosockets(target: Target) -> int:
    """Open 1,000 connections that name no UUID."""
    connections = target.many(1000, target.audiosocket)
    target.wait()
    return len(connections)


@attack(least=50)
def unknown_uuids(target: Target) -> int:
    """Name UUIDs that nobody expects, one connection after the other."""

    def once() -> int:
        with target.audiosocket(uuid_of("ff")) as connection:
            connection.settimeout(1)
            connection.recv(64)
            return 1

    return target.repeat(once)


@attack(least=1)
def uuid_twice(target: Target) -> int:
    """Name a UUID that a route takes in several connections, and again within each."""
    uuid = uuid_of(DIALECTS["voipbin"])

    def once() -> int:
        with target.audiosocket(uuid) as first, target.audiosocket(uuid) as second:
            named = target.flood(first, uuid_message(uuid), most=1 << 20)
            return named + target.flood(second, uuid_message(uuid_of(DIALECTS["voipbin"])), most=1 << 20)

    return target.repeat(once)


@attack(least=2)
def longest_messages(target: Target) -> int:
    """Announce 65,535 bytes, of audio and of every other kind, and send them."""
    kinds = itertools.cycle((0x00, 0x01, 0x03, 0x10, 0x12, 0x18, 0x77, 0xFF))

    def once() -> int:
        kind = next(kinds)
        with target.audiosocket() as nameless, target.audiosocket(uuid_of(DIALECTS["voipbin"])) as leg:
            message = struct.pack("!BH", kind, 65535) + bytes(65535)
            return sum(target.flood(each, message, most=2 << 20) for each in (nameless, leg))

    return target.repeat(once)


@attack(least=10)
def audiosocket_byte_by_byte(target: Target) -> int:
    """Send 100 UUIDs a byte at a time."""
    connections = target.many(100, target.audiosocket)
    return target.trickle(connections, uuid_message(uuid_of("ff")), every_s=0.2)


@attack(least=1000)
def smallest_audio(target: Target) -> int:
    """Send audio in messages of one byte and of one sample, as fast as they go."""

    def once() -> int:
        with target.audiosocket(uuid_of(DIALECTS["voipbin"])) as connection:
            return target.flood(connection, b"\x10\x00\x02ab" + b"\x10\x00\x01a", most=16 << 20)

    return target.repeat(once)


@attack(least=1000)
def dtmf_flood(target: Target) -> int:
    """Send DTMF digits as fast as possible."""

    def once() -> int:
        with target.audiosocket(uuid_of(DIALECTS["twilio"])) as connection:
            return target.flood(connection, b"\x03\x00\x015", most=8 << 20)

    return target.repeat(once)


@attack(least=5)
def audiosocket_that_never_reads(target: Target) -> int:
    """Open legs and never read the audio that the bridge plays into them."""

    def leg() -> socket.socket:
        connection = target.connect(target.audiosocket_port, receive_buffer=2048)
        connection.sendall(uuid_message(uuid_of(DIALECTS["voipbin"])))
        return connection

    connections = target.many(20, leg)
    target.wait()
    return len(connections)
