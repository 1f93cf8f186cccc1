"""The audit log on real files and pipes: lines stay whole, none is lost silently, and nobody else reads them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bridge.access import Principal
from bridge.audit import AuditLog, RejectionKind
from bridge.audit import writer as module
from bridge.config import AuditConfig
from bridge.errors import ConfigError
from tests.waiting import until

ROOT = Path(__file__).parents[2]
CRM = Principal("crm", "192.0.2.7")


def lines_of(*paths: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def log_to(path: Path) -> AuditLog:
    return AuditLog(AuditConfig(output=str(path)), node="pbx1", worker=2)


def start(how: str, output: Path | str, count: int, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.loopback.audit_writing", how, str(output), str(count)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **more)


async def test_a_line_says_when_who_what_and_where(tmp_path: Path) -> None:
    audit = log_to(tmp_path / "audit.jsonl")
    audit.start()
    audit.record("call.hangup", CRM, call="c1", status=200)
    await audit.stop()
    first, line, last = lines_of(tmp_path / "audit.jsonl")
    assert (first["action"], last["action"]) == ("audit.start", "audit.stop")
    assert line.pop("time").endswith("Z")
    assert line == {
        "action": "call.hangup", "principal": "crm", "address": "192.0.2.7", "outcome": "ok", "call": "c1",
        "status": 200, "node": "pbx1", "worker": 2, "seq": 2,
    }  # fmt: skip


async def test_the_file_is_nobody_elses_and_is_appended_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"action":"before"}\n')
    path.chmod(0o644)
    audit = log_to(path)
    audit.start()
    await audit.stop()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "mode=644" in caplog.text
    assert [line["action"] for line in lines_of(path)] == ["before", "audit.start", "audit.stop"]
    fresh = log_to(tmp_path / "fresh.jsonl")
    fresh.start()
    await fresh.stop()
    assert stat.S_IMODE((tmp_path / "fresh.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["folder", "pipe", "no folder"])
async def test_what_cannot_be_written_ends_the_start(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "audit.jsonl"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = tmp_path / "missing" / "audit.jsonl"
    with pytest.raises(ConfigError, match=r"audit.output: .*cannot be written"):
        log_to(path).start()


async def test_switched_off_it_does_nothing() -> None:
    audit = AuditLog(AuditConfig(output="off"), node="n")
    audit.start()
    audit.record("call.hangup", CRM)
    audit.reject(RejectionKind())
    audit.reopen()
    await audit.stop()
    assert audit.totals == {}


@pytest.mark.parametrize("signaled", [True, False])
async def test_logrotate(tmp_path: Path, signaled: bool) -> None:
    path, moved = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    audit = log_to(path)
    audit.start()
    audit.record("call.hangup", CRM, call="before")
    await until(lambda: path.read_text().count("\n") == 2)
    path.rename(moved)
    if signaled:
        audit.reopen()
        await until(path.exists)
    audit.record("call.hangup", CRM, call="after")
    await audit.stop()
    assert [line.get("call") for line in lines_of(moved)] == [None, "before"]
    assert [line.get("call") for line in lines_of(path)] == ["after", None]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_of_several_processes_stay_whole_while_the_file_is_moved(tmp_path: Path) -> None:
    path, count = tmp_path / "audit.jsonl", 2000
    writers = [start("plainly", path, count) for _ in range(4)]
    moved: list[Path] = []
    while any(each.poll() is None for each in writers):
        time.sleep(0.02)
        if path.exists() and path.stat().st_size:
            moved.append(path.rename(tmp_path / f"audit.{len(moved)}"))
    for each in writers:
        _, said = each.communicate()
        assert each.returncode == 0, said
    lines = lines_of(*moved, *([path] if path.exists() else []))
    calls = Counter(line["call"] for line in lines if "call" in line)
    assert calls == {f"{number}": len(writers) for number in range(count)}


def test_a_full_disk_delays_lines_and_tears_none(tmp_path: Path) -> None:
    path, count = tmp_path / "audit.jsonl", 100
    writer = start("on a full disk", path, count)
    assert writer.stdin is not None
    assert writer.stderr is not None
    said = ""
    while "writing the audit log failed" not in said or "recorded" not in said:
        said += writer.stderr.readline()
    there = lines_of(path)  # no piece of a line
    assert 0 < len(there) < count
    _, rest = writer.communicate("\n")
    assert writer.returncode == 0, rest
    assert "missing 0" in rest
    assert [line["seq"] for line in lines_of(path)] == list(range(1, count + 3))


def test_a_reader_that_does_not_read_costs_lines_that_are_counted_and_no_time() -> None:
    count = 3 * module.MAX_QUEUED_LINES
    writer = start("unread", "stdout", count)
    assert writer.stdin is not None
    assert writer.stderr is not None
    said = ""
    while "recorded" not in said:
        said += writer.stderr.readline()
    assert float(said.rpartition("recorded ")[2]) < 30
    assert "audit log queue full" in said
    out, rest = writer.communicate("\n")
    assert writer.returncode == 0, rest
    lines = [json.loads(line) for line in out.splitlines()]
    gone = [line for line in lines if line["action"] == "audit.missing"]
    kept = sum(line["action"] == "call.hangup" for line in lines)
    assert gone
    assert kept + sum(line["count"] for line in gone) == count
    assert f"missing {count - kept}" in rest
    assert kept + 1 >= module.MAX_QUEUED_LINES  # the line of the start may be in the queue as well
    # The line stands where the others would.
    numbers = [int(line["call"]) for line in lines if "call" in line]
    assert numbers == sorted(numbers)


async def test_without_a_standard_output_the_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ConfigError, match="standard output is closed"):
        AuditLog(AuditConfig(), node="n").start()


async def test_what_cannot_be_written_at_the_end_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    reading, writing = os.pipe()
    monkeypatch.setattr(os, "dup", lambda _: writing)
    monkeypatch.setattr(module, "STOP_S", 0.1)
    audit = AuditLog(AuditConfig(), node="n")
    audit.start()
    for _ in range(1000):  # more than a pipe holds
        audit.record("call.hangup", CRM, call="x" * 200)
    await audit.stop()
    assert "audit log incomplete, lines could not be written lines_missing=" in caplog.text
    drain = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reading, 65536), b"")])
    drain.start()
    for thread in threading.enumerate():
        if thread.name == "audit log":
            await asyncio.to_thread(thread.join)
    drain.join()
    os.close(reading)


async def test_rejections_are_recorded_with_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bridge.audit import log as log_module

    monkeypatch.setattr(log_module, "WINDOW_S", 0.05)
    path, now = tmp_path / "audit.jsonl", [1000.0]
    audit = AuditLog(AuditConfig(output=str(path)), node="n", clock=lambda: now[0])
    audit.start()
    kind = RejectionKind("", "192.0.2.9", "call.hangup", 401, "INVALID_CREDENTIALS")
    for _ in range(500):
        audit.reject(kind)
    now[0] += 11
    await until(lambda: path.read_text().count("request.reject") == 2)
    audit.reject(kind)
    audit.reject(kind)
    await audit.stop()
    found = [line for line in lines_of(path) if line["action"] == "request.reject"]
    assert [line["count"] for line in found] == [1, 499, 2]
    assert found[1]["since"] == "1970-01-01T00:16:40.000Z"
    assert all(line["outcome"] == "rejected" and line["address"] == "192.0.2.9" for line in found)
    assert all(line["attempted"] == "call.hangup" and line["status"] == 401 for line in found)
