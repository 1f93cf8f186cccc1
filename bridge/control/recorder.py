"""Records one channel: a snoop whose audio Asterisk writes to a file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.ari.client import AriClient
from bridge.errors import AriError

log = logging.getLogger(__name__)

START_TIMEOUT_S = 5.0
CANNOT_WRITE = (
    "Asterisk cannot write a recording. Check the folder 'recording' in its spool (/var/spool/asterisk/recording): "
    "it must exist, and Asterisk must be allowed to write to it"
)
"""Seen on 22.10: Asterisk does not create that folder, and responds only with "Internal Server Error"."""


@dataclass(slots=True)
class Recording:
    """One recording; times are seconds since 1970."""

    id: str
    call_id: str
    channel_id: str
    format: str
    principal: str
    """Id of the principal who started it (`bridge.access.Principal`)."""
    status: str
    """``recording``, ``ended`` or ``failed``."""
    tm_start: float
    tm_end: float | None = None
    duration_s: float = 0.0
    trouble: str = ""
    """Why the recording failed."""
    paused: bool = False
    """Whether nothing is written now, as the call is in sensitive mode."""
    direction: str = "both"
    """Recorded audio: ``in`` from the party, ``out`` to it, ``both``; empty if unknown."""
    continues: str = ""
    """Id of the recording that it continues: another party has taken the place of the recorded one."""
    continued_by: Recording | None = field(default=None, repr=False)
    """The recording that continues it; None if none does, or after a restart."""
    over: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """Set when the recording has ended and its file is complete."""

    @property
    def data(self) -> dict[str, Any]:
        """The data of its events."""
        return {
            "id": self.id,
            "call_id": self.call_id,
            "channel_id": self.channel_id,
            "direction": self.direction,
            "principal": self.principal,
            "format": self.format,
            "status": self.status,
            "duration": round(self.duration_s, 3),
            "continues": self.continues,
        }

    async def finished(self) -> None:
        """Wait until the recording and those that continue it have ended and their files are complete."""
        await self.over.wait()
        if self.continued_by is not None:
            await self.continued_by.finished()


class Recorder:
    """Makes one recording.

    Args:
        client: ARI.
        recording: updated when Asterisk records, pauses and resumes.
        snoop_id: id of the channel to create.
        terminate_on: a digit that ends it, ``any`` for every digit; empty: none.
        max_silence_s: Asterisk ends it after this many seconds of silence; 0: never.
        max_duration_s: Asterisk ends it after this many seconds; 0: unknown, as a former version has begun it.
        beep: play a beep to the party first.
    """

    def __init__(
        self,
        client: AriClient,
        recording: Recording,
        snoop_id: str,
        *,
        terminate_on: str,
        max_silence_s: int,
        max_duration_s: int,
        beep: bool,
    ) -> None:
        self.recording = recording
        self.snoop_id = snoop_id
        self.opened = False
        """Whether Asterisk records, or is about to.

        One that is started in sensitive mode is opened when that ends, as Asterisk cannot begin a recording paused.
        """
        self.turn = asyncio.Lock()
        """Held during opening, pausing and resuming."""
        self._client = client
        self._terminate_on = terminate_on
        self._max_silence_s = max_silence_s
        self._max_duration_s = max_duration_s
        self._beep = beep

    @property
    def fact(self) -> dict[str, Any]:
        """The stored form, for another run to continue the recording."""
        recording = self.recording
        names = ("id", "call_id", "channel_id", "direction", "format", "principal", "tm_start", "continues")
        return {
            "recording": {name: getattr(recording, name) for name in names},
            "snoop_id": self.snoop_id,
            "terminate_on": self._terminate_on,
            "max_silence_s": self._max_silence_s,
            "max_duration_s": self._max_duration_s,
        }

    @classmethod
    def resumed(cls, client: AriClient, fact: Mapping[str, Any]) -> Recorder:
        """Return the recorder of a recording that a previous run has begun and Asterisk continues."""
        recorder = cls(
            client,
            Recording(**fact["recording"], status="recording"),
            fact["snoop_id"],
            terminate_on=fact["terminate_on"],
            max_silence_s=fact.get("max_silence_s", 0),  # enforced by Asterisk; for recordings that continue it
            max_duration_s=fact.get("max_duration_s", 0),
            beep=False,
        )
        recorder.opened = True
        return recorder

    def following(self, recording_id: str, channel_id: str, snoop_id: str, now: float) -> Recorder:
        """Return a recorder that continues the recording on another channel, within the same limits.

        Args:
            recording_id: id of the recording that it makes.
            channel_id: the channel.
            snoop_id: id of the channel to create.
            now: seconds since 1970.
        """
        elapsed_s = int(now - self.recording.tm_start)
        following = self.recording.continued_by = replace(
            self.recording,
            id=recording_id,
            channel_id=channel_id,
            tm_start=now,
            continues=self.recording.id,
            over=asyncio.Event(),
        )
        return Recorder(
            self._client,
            following,
            snoop_id,
            terminate_on=self._terminate_on,
            max_silence_s=self._max_silence_s,
            max_duration_s=max(self._max_duration_s - elapsed_s, 1) if self._max_duration_s else 0,
            beep=False,
        )

    def ends_with(self, digit: str) -> bool:
        """Return whether a digit of the party ends the recording."""
        return self._terminate_on != "" and self._terminate_on in ("any", digit)

    async def open(self) -> None:
        """Begin; return when Asterisk records.

        Raises:
            AriError: Asterisk does not record.
        """
        recording = self.recording
        self.opened = True
        with self._client.expect("StasisStart", self.snoop_id) as started:
            # The beep is played to the snoop, so it reaches the party only by whispering.
            await self._client.channels.snoop(
                recording.channel_id,
                snoop_id=self.snoop_id,
                spy=recording.direction,
                whisper="out" if self._beep else "none",
            )
            await started.wait(START_TIMEOUT_S)
        with self._client.expect("RecordingStarted", recording.id) as recording_started:
            try:
                await self._client.channels.record(
                    self.snoop_id,
                    recording.id,
                    format=recording.format,
                    max_duration_s=self._max_duration_s,
                    max_silence_s=self._max_silence_s,
                    beep=self._beep,
                )
            except AriError as error:
                if error.status != 500:
                    raise
                raise AriError(500, error.method, error.path, CANNOT_WRITE) from error
            if not recording.over.is_set():  # may be over already
                await recording_started.wait(START_TIMEOUT_S)
        recording.paused = False

    async def set_paused(self, paused: bool) -> None:
        """Pause or resume the recording."""
        if paused:
            await self._client.recordings.pause(self.recording.id)
        else:
            await self._client.recordings.unpause(self.recording.id)
        self.recording.paused = paused

    async def hang_up(self) -> None:
        """Hang up the snoop."""
        try:
            await self._client.channels.hangup(self.snoop_id)
        except AriError as error:
            log.warning("cleanup failed, next sweep retries channel=%s error=%s", self.snoop_id, error)
