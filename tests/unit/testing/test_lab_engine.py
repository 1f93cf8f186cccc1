"""Free ports, and who holds the taken ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from bridge.testing import lab_engine
from bridge.testing.lab_engine import LabError, LabSettings, free_port, free_port_block
from tools.lab.ports import Wanted, check_free, holder

HOST = "127.0.0.1"
KINDS = [socket.SOCK_STREAM, socket.SOCK_DGRAM]


def test_secrets_are_fresh_and_not_shown() -> None:
    one, other = LabSettings(), LabSettings()
    assert one.ari_password != other.ari_password
    assert one.ari_password not in repr(one)
    assert one.phone_password not in repr(one)


@pytest.mark.parametrize("kind", KINDS)
def test_a_free_port_can_be_bound(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as holding:
        holding.bind((HOST, free_port()))


def test_a_block_begins_even_and_can_be_bound_whole() -> None:
    first = free_port_block(16)
    assert first % 2 == 0
    check_free(HOST, [Wanted(first + n, kind, "x", "--x") for n in range(16) for kind in KINDS])


def test_nobody_else_is_given_the_same_ports_though_nothing_is_bound_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four draws from four places that no other process uses get four different ones; the next one fails."""
    first = 70_400
    monkeypatch.setattr(lab_engine, "_FIRST", first)
    monkeypatch.setattr(lab_engine, "_LAST", first + 64)
    monkeypatch.setattr(lab_engine, "_is_free", lambda *_: True)
    monkeypatch.setattr(lab_engine, "_taken", [])
    assert sorted(free_port() for _ in range(4)) == [first, first + 16, first + 32, first + 48]
    with pytest.raises(LabError, match="no 1 free ports"):
        free_port()
    for name in lab_engine._taken:
        name.close()
    assert first <= free_port_block(17) <= first + 32
    for name in lab_engine._taken:
        name.close()


def test_a_process_that_ends_with_reserved_ports_leaves_no_socket_open() -> None:
    code = "from bridge.testing.lab_engine import free_port_block; free_port_block(17)"
    line = [sys.executable, "-W", "always::ResourceWarning", "-c", code]
    ran = subprocess.run(line, capture_output=True, text=True, check=True)
    assert ran.stderr == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_taken_port_is_named_with_its_holder_and_the_way_out(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as holding:
        holding.bind((HOST, 0))
        if kind is socket.SOCK_STREAM:
            holding.listen()
        port = holding.getsockname()[1]
        assert f"process {os.getpid()} " in (holder(port, kind) or "")
        with pytest.raises(LabError) as caught:
            check_free(HOST, [Wanted(port, kind, "the bridge's HTTP", "--http-port")])
    message = str(caught.value)
    assert str(port) in message
    assert "the bridge's HTTP" in message
    assert f"process {os.getpid()} " in message
    assert "./lab up --http-port" in message
    assert holder(port, kind) is None
