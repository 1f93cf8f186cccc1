"""Facts about calls: what is put is found by the next run, whatever happens to the file meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bridge.ari.model import Channel, StasisStart
from bridge.calls.addresses import NOBODY, Address
from bridge.calls.journal import MAX_FACT_BYTES, Journal
from bridge.calls.records import Records
from bridge.events.hub import Events


async def left_by(path: Path) -> dict[str, dict[str, dict[str, object]]]:
    """Return what a run that starts now finds, without changing it."""
    journal = Journal(str(path))
    await journal.start()
    await journal.freeze()
    await journal.stop()
    return journal.found


async def opened(path: Path) -> Journal:
    """Return a journal that has read what the previous run has left."""
    journal = Journal(str(path))
    await journal.start()
    return journal


async def test_the_next_run_finds_what_was_put_last(tmp_path: Path) -> None:
    path = tmp_path / "state" / "calls"
    journal = await opened(path)
    for at in range(20):
        journal.put("flow", "c1", {"at": at})
    journal.put("flow", "c2", {"at": 1})
    journal.put("held", "c1", {})
    journal.drop("flow", "c2")
    journal.drop("flow", "c3")
    await journal.stop()
    assert await left_by(path) == {"flow": {"c1": {"at": 19}}, "held": {"c1": {}}}
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_is_not_taken_up_is_discarded(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    journal = await opened(path)
    for call in ("c1", "c2"):
        journal.put("flow", call, {"at": 1})
    await journal.stop()
    journal = await opened(path)
    assert journal.take("flow", "c1") == {"at": 1}
    assert journal.take("flow", "c1") is None
    journal.put("flow", "c1", {"at": 2})
    journal.settled()
    await journal.stop()
    assert await left_by(path) == {"flow": {"c1": {"at": 2}}}


async def test_a_channel_inherits_what_another_did_and_not_the_call_of_the_same_id(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    journal = await opened(path)
    for kind in ("flow", "programs", "record", "sensitive"):
        journal.put(kind, "c1", {"kind": kind})
    await journal.freeze()  # written before the transfer
    await journal.stop()
    journal = await opened(path)
    for kind in ("flow", "programs", "record", "sensitive"):
        journal.put(kind, "c1", {"kind": kind})
    journal.renamed("c1", "c2")
    journal.drop("record", "c1")
    journal.drop("programs", "c2")
    await journal.stop()
    assert await left_by(path) == {"flow": {"c2": {"kind": "flow"}}, "sensitive": {"c1": {"kind": "sensitive"}}}


async def test_a_channel_that_is_replaced_during_a_failing_write_keeps_its_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, failed = tmp_path / "calls", asyncio.Event()
    journal, loop, write = await opened(path), asyncio.get_running_loop(), Journal._write  # noqa: SLF001 - fails once

    def fail_once(it: Journal, *args: Any) -> None:
        if not failed.is_set():
            asyncio.run_coroutine_threadsafe(replace(), loop).result()
            raise sqlite3.OperationalError("disk I/O error")
        write(it, *args)

    async def replace() -> None:
        journal.renamed("c1", "c2")
        failed.set()

    monkeypatch.setattr(Journal, "_write", fail_once)
    journal.put("flow", "c1", {"at": 1})
    await failed.wait()
    await journal.stop()
    assert await left_by(path) == {"flow": {"c2": {"at": 1}}}


async def test_calls_that_come_and_go_while_writes_fail_leave_nothing_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, failures = tmp_path / "calls", asyncio.Event()
    journal, loop, write = await opened(path), asyncio.get_running_loop(), Journal._write  # noqa: SLF001 - fails
    journal.put("flow", "before", {})
    journal.put("flow", "lasting", {"at": 1})
    await journal.freeze()
    journal._frozen = False  # noqa: SLF001 - written, and continued
    come_and_gone = 0

    async def come_and_go() -> None:
        nonlocal come_and_gone
        for name in (f"c{come_and_gone + at}" for at in range(1000)):
            journal.put("flow", name, {})
            journal.renamed(name, f"{name}-new")
            journal.drop("flow", f"{name}-new")
        come_and_gone += 1000

    def fail(*_: Any) -> None:
        asyncio.run_coroutine_threadsafe(come_and_go(), loop).result()
        loop.call_soon_threadsafe(failures.set)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Journal, "_write", fail)
    journal.put("flow", "during", {})
    await come_and_go()
    await failures.wait()
    journal.drop("flow", "during")
    journal.drop("flow", "before")
    journal.put("flow", "late", {"at": 2})
    await come_and_go()
    assert len(journal._pending) <= 4  # noqa: SLF001 - what may grow
    assert not journal._renames  # noqa: SLF001 - what may grow
    monkeypatch.setattr(Journal, "_write", write)
    await journal.stop()
    assert await left_by(path) == {"flow": {"lasting": {"at": 1}, "late": {"at": 2}}}
    assert not journal._pending  # noqa: SLF001


async def test_a_record_is_taken_up_with_the_channel_that_has_its_channels_place(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    journal = await opened(path)
    records = Records(Events(), time.time, journal)
    records.originated("c1", source=NOBODY, destination=Address("extension", "1002"))
    journal.renamed("c1", "c2")
    records.on_event(
        StasisStart(type="StasisStart", channel=Channel(id="c2", state="Up"), replace_channel=Channel(id="c1"))
    )
    journal.put("record", "old", {"record": {"of": "another version"}})
    await journal.stop()
    journal = await opened(path)
    records = Records(Events(), time.time, journal)
    records.restore()
    assert [record.id for record in records.live()] == ["c1"]
    records.channels_there(set(), records.channels)
    assert (records.live(), [record.id for record in records.ended()]) == ([], ["c1"])
    journal.settled()
    await journal.stop()
    assert await left_by(path) == {}


async def test_a_frozen_journal_keeps_what_ends_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    journal = await opened(path)
    journal.put("flow", "c1", {"at": 1})
    await journal.freeze()
    journal.drop("flow", "c1")
    journal.put("flow", "c1", {"at": 2})
    await journal.stop()
    assert await left_by(path) == {"flow": {"c1": {"at": 1}}}


async def test_a_fact_that_is_too_large_replaces_none_by_half(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    journal = await opened(path)
    journal.put("flow", "c1", {"at": 1})
    journal.put("flow", "c2", {"at": 1})
    journal.put("flow", "c1", {"text": "x" * MAX_FACT_BYTES})
    await journal.stop()
    assert await left_by(path) == {"flow": {"c2": {"at": 1}}}


@pytest.mark.parametrize("damage", ["text", "torn", "version"])
async def test_a_file_that_cannot_be_read_costs_its_facts_only(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "calls"
    journal = await opened(path)
    for number in range(300):
        journal.put("flow", f"c{number}", {"text": "x" * 100})
    await journal.stop()
    if damage == "text":
        path.write_text("no database, however one looks at it" * 100)
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:10_000])
    else:
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    journal = await opened(path)
    assert journal.found == {}
    assert "calls of the previous run are not resumed" in caplog.text
    journal.put("flow", "new", {})
    await journal.stop()
    assert await left_by(path) == {"flow": {"new": {}}}


async def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    program = (
        "import asyncio, itertools\n"
        "from bridge.calls.journal import Journal\n"
        "async def main():\n"
        f"    journal = Journal({str(path)!r})\n"
        "    await journal.start()\n"
        "    for number in itertools.count():\n"
        "        for call in range(50):\n"
        "            journal.put('flow', f'c{call}', {'at': number, 'text': 'x' * 2000})\n"
        "        await asyncio.sleep(0.001)\n"
        "asyncio.run(main())\n"
    )
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        try:
            while _size(path, "") + _size(path, "-wal") < 300_000:  # another process writes it
                await asyncio.sleep(0.01)
        finally:
            process.kill()
            await process.wait()
        found = (await left_by(path))["flow"]
        assert len(found) == 50
        assert len({fact["at"] for fact in found.values()}) == 1, "what was put together is found together"


def _size(path: Path, suffix: str) -> int:
    side = path.with_name(path.name + suffix)
    return side.stat().st_size if side.exists() else 0


async def test_without_a_file_nothing_is_kept() -> None:
    journal = Journal()
    await journal.start()
    journal.put("flow", "c1", {})
    journal.drop("flow", "c1")
    journal.settled()
    await journal.freeze()
    await journal.stop()
    assert not journal.kept


@pytest.mark.parametrize("value", [date(2026, 1, 31), {1, 2}], ids=["date", "set"])
async def test_a_fact_that_cannot_be_written_does_not_stop_others(
    tmp_path: Path, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "calls"
    journal = await opened(path)
    journal.put("flow", "c1", {"at": 1})
    await journal.stop()
    journal = await opened(path)
    journal.put("flow", "c1", {"value": value})
    journal.put("flow", "c2", {"at": 1})
    await journal.stop()
    assert await left_by(path) == {"flow": {"c2": {"at": 1}}}, "what was known before is not true any more"
    assert "state of a call cannot be stored, a restart would lose the call type=flow" in caplog.text


@pytest.mark.parametrize("text", ["[" * 100_000, "no JSON", "[]", "1", 1, b"\xff"])
async def test_a_fact_that_cannot_be_read_costs_no_other_call(tmp_path: Path, text: object) -> None:
    path = tmp_path / "calls"
    journal = await opened(path)
    for call in ("c1", "c2"):
        journal.put("flow", call, {"at": 1})
    await journal.stop()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE facts SET fact = ? WHERE id = 'c1'", (text,))
    database.close()
    for _ in range(2):
        assert await left_by(path) == {"flow": {"c2": {"at": 1}}}
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT id FROM facts").fetchall() == [("c2",)]
    database.close()
