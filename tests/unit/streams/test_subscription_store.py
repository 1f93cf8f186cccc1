"""Stored subscriptions survive a restart, in a private file; an unusable file is named."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.streams.subscription_store import EnabledSwitch, Kept, StoreFailed, SubscriptionStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "x" / "state.sqlite3"


async def test_it_is_there_after_a_restart(path: Path) -> None:
    store = SubscriptionStore(str(path))
    await store.put("a", {"id": "a", "url": "ws://ä"})
    await store.put("b", {"id": "b"})
    await store.put("b", {"id": "b", "name": "2"})
    await store.put("c", {})
    await store.delete("c")
    await store.delete("never")
    await store.switch("k", EnabledSwitch(True, False))
    await store.switch("l", EnabledSwitch(False, True))
    await store.switch("l", None)
    assert SubscriptionStore(str(path)).read() == Kept(
        {"a": {"id": "a", "url": "ws://ä"}, "b": {"id": "b", "name": "2"}}, {"k": EnabledSwitch(True, False)}
    )


async def test_nothing_is_made_before_something_is_kept(path: Path) -> None:
    assert SubscriptionStore(str(path)).read() == Kept()
    assert not path.parent.exists()


@pytest.mark.parametrize("nowhere", ["", ":memory:"])
async def test_it_can_keep_nothing(nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SubscriptionStore(nowhere)
    await store.put("a", {})
    assert store.read() == Kept()
    assert os.listdir(tmp_path) == []


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_nobody_else_can_read_it(path: Path) -> None:
    store = SubscriptionStore(str(path))
    await store.put("a", {"auth_value": "confidential"})
    assert mode(path.parent) == 0o700
    with closing(sqlite3.connect(path)) as reader:  # which keeps the side files alive
        reader.execute("SELECT * FROM subscriptions").fetchall()
        await store.put("b", {})
        modes = {file.name: mode(file) for file in sorted(path.parent.iterdir())}
    assert modes == dict.fromkeys(("state.sqlite3", "state.sqlite3-shm", "state.sqlite3-wal"), 0o600)


async def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    await SubscriptionStore(str(path)).put("a", {})
    os.chmod(path, 0o644)
    SubscriptionStore(str(path)).read()
    assert mode(path) == 0o600


def refusal(path: Path) -> str:
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        SubscriptionStore(str(path)).read()
    assert caught.value.key == "streams.state_file"
    assert str(path) in caught.value.reason
    assert path.read_bytes() == before
    return caught.value.reason


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("nothing of the kind " * 100)
    assert "not a database" in refusal(path)


@pytest.mark.slow
async def test_a_damaged_file(path: Path) -> None:
    store = SubscriptionStore(str(path))
    for number in range(200):
        await store.put(f"s{number:04}", {"x": "y" * 100})
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    assert "move it away" in refusal(path)


def test_a_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE subscriptions (id, body)")
        other.commit()
    assert "another program" in refusal(path)


@pytest.mark.parametrize("body", ["[]", "1", "no JSON", "[" * 100_000, b"\xff", 1])
async def test_a_subscription_that_is_not_a_table(path: Path, body: object) -> None:
    await SubscriptionStore(str(path)).put("a", {})
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE subscriptions SET body = ?", (body,))
        database.commit()
    assert "move it away" in refusal(path)


async def test_a_later_version(path: Path) -> None:
    await SubscriptionStore(str(path)).put("a", {})
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 2")
    assert "later version" in refusal(path)


def test_a_file_that_was_made_and_not_filled(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    assert SubscriptionStore(str(path)).read() == Kept()


async def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match=r"streams\.state_file"):
        await SubscriptionStore(str(tmp_path / "file" / "state.sqlite3")).put("a", {})
    with pytest.raises(ConfigError):
        SubscriptionStore(str(tmp_path)).read()


@pytest.fixture
def nobody() -> Iterator[None]:
    """Become a user who is subject to permissions: root may write everywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.usefixtures("nobody")
def test_a_place_that_cannot_be_written_is_found_before_something_is_kept() -> None:
    assert SubscriptionStore(":memory:").trouble is None
    usable = Path(tempfile.mkdtemp())
    assert SubscriptionStore(str(usable / "state" / "x.sqlite3")).trouble is None
    usable.chmod(0o500)
    locked = SubscriptionStore(str(usable / "state" / "x.sqlite3")).trouble
    assert locked is not None
    assert f"no permission for {str(usable)!r}" in locked
    usable.chmod(0o700)
    file = usable / "x.sqlite3"
    file.touch(mode=0o400)
    assert f"no permission for {str(file)!r}" in (SubscriptionStore(str(file)).trouble or "")
    assert "is not a directory" in (SubscriptionStore(str(file / "state" / "x.sqlite3")).trouble or "")
    assert [each.name for each in usable.iterdir()] == ["x.sqlite3"], "nothing is created"
    file.unlink()
    usable.rmdir()
