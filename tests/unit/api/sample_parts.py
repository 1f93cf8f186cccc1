"""Parts of the sample PBX that hold a few things each."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from typing import Protocol

from msgspec.structs import replace

from bridge.audio.sound import Sound
from bridge.calls.records import Records
from bridge.conferences.conferences import Conference, ConferenceExists, NoSuchConference, Participant
from bridge.control.call_control import NotControlled
from bridge.control.recorder import Recording
from bridge.speech.fetch import SoundUnavailable

NOW = 1_769_856_000.5
"""2026-01-31 10:40:00.5 UTC."""


class Doing(Protocol):
    """Who remembers what is done."""

    failure: Exception | None
    lasting: bool
    records: Records

    def do(self, *what: object) -> None: ...

    def act(self, verb: str, call_id: str, *more: object) -> None: ...


RECORDINGS = {
    "r1": Recording("r1", "c1", "c1", "wav", "token", "ended", NOW, NOW + 2, 2.0),
    "r2": Recording("r2", "c1", "c1", "wav", "config", "recording", NOW + 1),
}


class Sounds:
    """One sound."""

    async def get(self, url: str, /) -> Sound:
        if not url.startswith("https://sounds.example/"):
            raise SoundUnavailable(f"{url[:80]}: not an http(s) URL")
        return Sound(bytes(640), 16000)


class FewRecordings:
    """A recording that has ended and one that runs; the file of ``gone`` does not exist."""

    def __init__(self, pbx: Doing) -> None:
        self._pbx = pbx
        self._all = dict(RECORDINGS)

    def list(self) -> list[Recording]:
        return list(self._all.values())

    def get(self, recording_id: str, /) -> Recording:
        return self._all[recording_id]

    async def read(self, _: str, /) -> AsyncGenerator[bytes, None]:
        if self._pbx.failure is not None:
            raise self._pbx.failure
        for block in (b"RIFF", b"data"):
            yield block

    async def stop(self, recording_id: str, /) -> Recording:
        recording = self._all[recording_id]
        self._pbx.act("recordings.stop", recording.call_id, recording_id)
        return dataclasses.replace(recording, status="ended", tm_end=NOW + 3, duration_s=2.0)

    async def delete(self, recording_id: str, /) -> None:
        if not self._pbx.lasting:
            del self._all[recording_id]


class SensitiveCalls:
    """Sensitive mode of the sample PBX's calls."""

    def __init__(self, pbx: Doing) -> None:
        self._pbx = pbx

    async def start(self, call_id: str, timeout_s: float, /) -> None:
        self._pbx.act("sensitive", call_id, timeout_s)
        self._pbx.records.update(call_id, sensitive=True)

    async def stop(self, call_id: str, /) -> None:
        self._pbx.act("sensitive_stop", call_id)
        self._pbx.records.update(call_id, sensitive=False)


class FewConferences:
    """``sales``, a conference of this bridge with two participants, and ``room``, a ConfBridge room."""

    def __init__(self, pbx: Doing) -> None:
        self._pbx = pbx
        members = (Participant("p1", "c1", "Alice", "1001", False, NOW), Participant("p2", "c2", "Bob", "1002"))
        self._all = {
            "sales": Conference("sales", "Sales", "bridge", False, NOW, members),
            "room": Conference("room", "room", "confbridge", True, NOW + 1, ()),
        }

    def get(self, conference_id: str, /) -> Conference | None:
        return self._all.get(conference_id)

    def list(self) -> list[Conference]:
        return list(self._all.values())

    async def create(self, name: str = "", id: str | None = None, *, auto_delete: bool = False) -> Conference:
        identity = id or "made-up"
        if "/" in identity:
            raise ValueError(f"id: {identity[:40]!r} is none: it has no slashes")
        if identity in self._all and not (self._pbx.lasting and identity == "made-up"):
            raise ConferenceExists(f"there is a conference {identity[:40]!r} already")
        self._all[identity] = Conference(identity, name, "bridge", auto_delete, NOW, ())
        return self._all[identity]

    async def delete(self, conference_id: str, /) -> None:
        if not self._pbx.lasting:
            del self._all[conference_id]

    async def kick(self, conference_id: str, channel_id: str, /) -> None:
        self._pbx.do("kick", conference_id, channel_id)

    async def mute(self, conference_id: str, channel_id: str, /) -> None:
        self._set_muted(conference_id, channel_id, True)

    async def unmute(self, conference_id: str, channel_id: str, /) -> None:
        self._set_muted(conference_id, channel_id, False)

    def _set_muted(self, conference_id: str, channel_id: str, muted: bool) -> None:
        conference = self._all[conference_id]
        if channel_id not in [each.channel_id for each in conference.participants]:
            raise NoSuchConference(f"{channel_id[:40]!r} does not take part")
        if channel_id == "p2":
            raise NotControlled("the conference is a room of the dialplan")
        members = (
            replace(each, muted=muted) if each.channel_id == channel_id else each for each in conference.participants
        )
        self._all[conference_id] = replace(conference, participants=tuple(members))
