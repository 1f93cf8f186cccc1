"""Ports that are in use, and their owners."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from bridge.testing.lab_engine import LabError

_LISTEN = "0A"  # state in /proc/net/tcp (proc(5))
TABLES = {socket.SOCK_STREAM: ("tcp", "tcp6"), socket.SOCK_DGRAM: ("udp", "udp6")}


@dataclass(frozen=True)
class Wanted:
    """A port that the lab is going to listen on.

    Args:
        use: what for, in a message.
        option: the option of ``./lab up`` that chooses another.
    """

    port: int
    kind: socket.SocketKind
    use: str
    option: str


def check_free(host: str, wanted: list[Wanted]) -> None:
    """Check that ports are free.

    Raises:
        LabError: some are not; the message names each, the program that uses it if known, and the remedy.
    """
    problems: list[str] = []
    for one in wanted:
        with socket.socket(socket.AF_INET, one.kind) as probe:
            if one.kind is socket.SOCK_STREAM:  # as servers do: a connection in TIME_WAIT does not count
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, one.port))
            except OSError as error:
                protocol = "TCP" if one.kind is socket.SOCK_STREAM else "UDP"
                who = holder(one.port, one.kind) or "another program"
                problems.append(
                    f"{protocol} port {one.port} ({one.use}) cannot be used: {error.strerror}; held by {who}.\n"
                    f"  End that program, or choose another port: ./lab up {one.option} PORT"
                )
    if problems:
        raise LabError("\n".join(problems))


def holder(port: int, kind: socket.SocketKind) -> str | None:
    """Return the program that listens on a port, if this user may see it."""
    inodes = set()
    for table in TABLES[kind]:
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                listening = kind is socket.SOCK_DGRAM or fields[3] == _LISTEN
                if listening and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return None
