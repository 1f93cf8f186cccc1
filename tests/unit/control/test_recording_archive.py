"""Recordings in the spool: what their names say, whose they are, and when there is no room for more."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.calls.ids import OwnIds
from bridge.config.recording import RecordingConfig
from bridge.control.recording_archive import Archive, ArchivedRecording
from bridge.errors import Overloaded

NOW = 1_769_856_000.5


class Spool:
    """What Asterisk has stored, by name, in bytes."""

    def __init__(self, **sizes: int) -> None:
        self.files = sizes
        self.asked: list[str] = []

    @property
    def recordings(self) -> Spool:
        return self

    async def stored(self) -> list[Any]:
        return [SimpleNamespace(name=name, format="wav") for name in self.files]

    async def size(self, name: str) -> int:
        self.asked.append(name)
        return self.files[name]


def archive(spool: Spool, worker: int = 0, workers: int = 1, **limits: float) -> Archive:
    client: Any = spool
    app = f"bridge_w{worker}" if worker else "bridge"
    config = RecordingConfig.model_validate(limits)
    return Archive(client, OwnIds(app), config, app="bridge", worker=worker, workers=workers, clock=lambda: NOW)


@pytest.mark.parametrize("call_id", ["1767225600.12", "ab-bridge-0123abcd-call-00000007", "Zimmer 7/ä~=", ""])
async def test_a_restarted_bridge_reads_from_the_name_what_it_is(call_id: str) -> None:
    name = archive(Spool()).new_id(call_id, "crm")
    assert re.fullmatch(r"[A-Za-z0-9._=~-]+", name)
    again = archive(Spool(**{name: 44 + 16_000 * 3}))
    (found,) = await again.look(())
    assert found == ArchivedRecording(name, "wav", int(NOW), "crm", call_id, 48_044)
    assert found.duration_s == 3.0
    assert await again.look([name]) == []  # it is being made


async def test_a_name_never_gets_too_long_for_a_file() -> None:
    name = archive(Spool()).new_id("x" * 149, "p" * 200)
    assert len(name) < 240
    (found,) = await archive(Spool(**{name: 0})).look(())
    assert (found.call_id, found.duration_s) == ("", 0.0)


async def test_what_others_have_stored_is_not_ours() -> None:
    files = ["voicemail", "ab-other-0123abcd-rec-00000001", "ab-bridge-0123abcd-snoop-00000001", "../ab-bridge"]
    assert await archive(Spool(**dict.fromkeys(files, 1))).look(()) == []


async def test_each_recording_belongs_to_exactly_one_worker() -> None:
    """Also those of a run with more workers, or without any."""
    names = [f"ab-bridge{part}-0123abcd-rec-00000001~1~a~b" for part in ("", "_w1", "_w2", "_w3")]
    spool = Spool(**dict.fromkeys(names, 1))
    owned = [[found.name for found in await archive(spool, worker, 2).look(())] for worker in (1, 2)]
    assert sorted(owned[0] + owned[1]) == sorted(names)
    assert owned[1] == [names[2]]
    assert len(await archive(spool).look(())) == 4


async def test_no_room_is_said_with_what_to_do() -> None:
    mine, other = ("ab-bridge_w1-0123abcd-rec-00000001~1~a~b", "ab-bridge_w2-0123abcd-rec-00000001~1~a~b")
    kept = archive(Spool(**{mine: 400_000, other: 500_000}), 1, 2, max_total_mb=1.0)
    await kept.look(())
    kept.check_room([("wav", 6.0)])
    with pytest.raises(Overloaded, match=r"1\.0 MB of recording\.max_total_mb=1"):
        kept.check_room([("wav", 7.0)])
    kept.add("ab-bridge_w1-0123abcd-rec-00000002~1~a~b", "wav", 10)
    with pytest.raises(Overloaded):
        kept.check_room([])
    kept.forget(mine)
    kept.check_room([])
    archive(Spool()).check_room([("wav", 1e9)])


async def test_sizes_are_asked_once_but_for_what_another_worker_may_be_making() -> None:
    old, young = ("ab-bridge_w2-0123abcd-rec-00000001~1~a~b", f"ab-bridge_w2-0123abcd-rec-00000002~{int(NOW):x}~a~b")
    mine = f"ab-bridge_w1-0123abcd-rec-00000003~{int(NOW):x}~a~b"
    spool = Spool(**{old: 1, young: 1, mine: 1})
    kept = archive(spool, 1, 2, max_total_mb=1.0)
    for _ in range(2):
        await kept.look(())
    assert sorted(spool.asked) == sorted([old, young, young, mine])
    unlimited = archive(other := Spool(**{old: 1, mine: 1}), 1, 2)
    await unlimited.look(())
    assert other.asked == [mine]
