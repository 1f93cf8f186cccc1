"""One instance at a time uses a state file; a standby waits for it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from bridge.cli import instance
from bridge.cli.instance import InstanceRunning, only_instance
from bridge.errors import ConfigError


def test_a_second_instance_is_rejected_and_a_standby_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "STOPPING_S", 0.1)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # a thread has none
    file, took_over = str(tmp_path / "state" / "state.sqlite3"), threading.Event()

    def stand_by() -> None:
        with only_instance(file, standby=True):
            took_over.set()

    waiting = threading.Thread(target=stand_by)
    with only_instance(file, standby=False):
        with (
            pytest.raises(InstanceRunning, match=rf"in use by pid {os.getpid()}; .* --standby"),
            only_instance(file, standby=False),
        ):
            pass
        waiting.start()
        assert not took_over.wait(0.2)
    assert took_over.wait(30)
    waiting.join()
    with only_instance(file, standby=False):
        pass


def test_a_start_waits_for_an_instance_that_is_stopping(tmp_path: Path) -> None:
    file = str(tmp_path / "state.sqlite3")
    first = only_instance(file, standby=False)
    first.__enter__()
    threading.Timer(0.2, lambda: first.__exit__(None, None, None)).start()
    with only_instance(file, standby=False):
        pass


def test_a_standby_needs_a_file_and_a_bridge_does_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for nowhere in (":memory:", str(tmp_path / "file" / "below")):
        with only_instance(nowhere, standby=False) as lock:
            assert lock is None
        with pytest.raises(ConfigError, match="state_file"), only_instance(nowhere, standby=True):
            pass
