"""Records calls: a snoop that Asterisk writes to a file of its own, fetched over ARI.

It works for any call of the PBX, and holds what the party says and what it hears. What ends a recording: its silence or
length (Asterisk sees to that), a key of the party (we do: a snoop hears none), ``stop``, the call's end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass, field

from bridge.access import CONFIGURATION, Principal
from bridge.ari.client import AriClient
from bridge.ari.model import (
    Channel,
    ChannelDestroyed,
    ChannelDtmfReceived,
    Event,
    LiveRecording,
    RecordingFailed,
    RecordingFinished,
)
from bridge.audit import FAILED, NO_AUDIT, OK, Audit
from bridge.calls.ids import OwnIds
from bridge.calls.records import Records
from bridge.control.recording_archive import Archive, Found
from bridge.errors import AriError
from bridge.events.hub import Events
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

FORMATS = ("wav", "wav16", "sln", "ulaw", "alaw", "gsm")
"""Asterisk's names; ``wav`` is 16-bit PCM at 8 kHz, ``wav16`` at 16 kHz."""
START_TIMEOUT_S = 5.0
END_TIMEOUT_S = 5.0
LATE_S = 1.0
"""After the snoop has gone the news of the recording's end may take so long."""
MAX_FAILED = 1000
"""So many that failed are remembered; those that have a file, for as long as that exists."""
CANNOT_WRITE = (
    "Asterisk cannot write a recording; is there a folder 'recording' in its spool (/var/spool/asterisk/recording), "
    "and may it write there?"
)
"""Seen on 22.10: Asterisk does not make that folder, and says only "Internal Server Error"."""


@dataclass(slots=True)
class Recording:
    """One recording; times are seconds since 1970."""

    id: str
    call_id: str
    channel_id: str
    format: str
    principal: str
    """Id of who started it (`bridge.access.Principal`)."""
    status: str
    """``recording``, ``ended`` or ``failed``."""
    tm_start: float
    tm_end: float | None = None
    duration_s: float = 0.0
    trouble: str = ""
    """Why it failed."""
    paused: bool = False
    """Nothing is written at the moment: the call is in sensitive mode."""
    _over: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    async def finished(self) -> None:
        """Wait until it has ended and its file is whole."""
        await self._over.wait()


@dataclass(slots=True)
class _Run:
    """A recording that is being made."""

    recording: Recording
    snoop_id: str
    terminate_on: str
    max_silence_s: int
    max_duration_s: int
    beep: bool
    opened: bool = False
    """Asterisk records it, or is about to. One that is started in sensitive mode is not opened before that ends, as
    Asterisk cannot begin a recording paused."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """Held while it is opened, paused or resumed."""


class Recordings:
    """Starts and ends recordings, and reads them.

    Args:
        client: where requests go; make this before it is started.
        ids: makes the recordings' ids.
        records: where a call's recordings are told.
        events: where ``recording_started`` and ``recording_finished`` go.
        archive: names recordings, and finds them in the spool again.
        clock: seconds since 1970.
        audit: where the end of each is recorded; its start is recorded by who has it started.
    """

    def __init__(
        self,
        client: AriClient,
        ids: OwnIds,
        records: Records,
        events: Events,
        archive: Archive,
        clock: Callable[[], float] = time.time,
        audit: Audit = NO_AUDIT,
    ) -> None:
        self._client = client
        self._ids = ids
        self._records = records
        self._events = events
        self._archive = archive
        self._clock = clock
        self._audit = audit
        self.is_sensitive: Callable[[str], bool] = lambda _: False
        """Whether a channel must not be recorded now: a recording of it pauses."""
        self._runs: dict[str, _Run] = {}
        self._known: dict[str, Recording] = {}
        self._tasks = BackgroundTasks("recordings")
        client.on_event("RecordingFinished", self._on_end)
        client.on_event("RecordingFailed", self._on_end)
        client.on_channel_event("ChannelDtmfReceived", self._on_digit)
        client.on_channel_event("ChannelDestroyed", self._on_destroyed)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of the channels in use."""
        return {run.snoop_id for run in self._runs.values()}

    async def start(
        self,
        channel_id: str,
        *,
        principal: Principal,
        format: str = "wav",
        max_silence_s: int = 0,
        max_duration_s: int = 0,
        terminate_on: str = "",
        beep: bool = False,
    ) -> Recording:
        """Record what a channel says and hears; returns when it records.

        Args:
            principal: who asks.
            format: one of `FORMATS`.
            max_silence_s: ends it when nobody has said anything for so long; 0: never.
            max_duration_s: ends it after so long; 0: after ``recording.max_s``, as every longer one does.
            terminate_on: a key that ends it, ``any`` for every key; the key goes to others as well.
            beep: the party hears a beep before.

        Raises:
            ValueError: no such format.
            AriError: Asterisk does not record it; 404: the channel has gone.
            Overloaded: ``recording.max_total_mb`` is reached.
        """
        if format not in FORMATS:
            raise ValueError(f"format {format!r} cannot be recorded; expected one of {', '.join(FORMATS)}")
        now = self._clock()
        self._archive.check_room((run.recording.format, now - run.recording.tm_start) for run in self._runs.values())
        longest_s = self._archive.config.max_s
        record = self._records.get(channel_id)
        call_id = record.id if record is not None else channel_id
        recording = Recording(
            self._archive.new_id(call_id, principal.id),
            call_id,
            channel_id,
            format,
            principal.id,
            "recording",
            now,
        )
        run = self._runs[recording.id] = _Run(
            recording,
            self._ids.new("snoop"),
            terminate_on,
            max_silence_s,
            min(max_duration_s or longest_s, longest_s),
            beep,
        )
        try:
            async with run.turn:
                recording.paused = self.is_sensitive(channel_id)
                if not recording.paused:
                    await self._open(run)
        except BaseException as problem:
            if recording.id in self._runs:
                self._over(run, "failed", 0.0, str(problem))
            raise
        self._known[recording.id] = recording  # no await from here on
        failed = [each for each in self._known.values() if each.status == "failed"]
        for each in failed[:-MAX_FAILED]:  # the others are in the spool
            del self._known[each.id]
        if record is not None and recording.status == "recording":
            ids = [*record.recording_ids, recording.id]
            self._records.update(record.id, recording_id=recording.id, recording_ids=ids)
        self._publish("recording_started", recording)
        if recording.status != "recording":
            self._publish("recording_finished", recording)
            self._record_end(recording)
        return recording

    async def stop(self, recording_id: str) -> Recording:
        """End one; returns when its file is whole. One that has ended is fine. KeyError if there is none."""
        recording = self.get(recording_id)
        run = self._runs.get(recording_id)
        if run is not None and not run.opened:
            self._over(run, "ended", 0.0, "")
        elif run is not None:
            await self._client.recordings.stop(recording_id)
            try:
                async with asyncio.timeout(END_TIMEOUT_S):
                    await recording.finished()
            except TimeoutError:
                run = self._runs.get(recording_id)
                if run is not None:
                    self._over(run, "failed", 0.0, "Asterisk did not tell that it has ended")
        return recording

    async def settled(self) -> None:
        """Pause every recording whose call is in sensitive mode, and resume the others; returns when that is done.

        Raises:
            AriError: Asterisk did not pause or resume one.
        """
        runs = [run for run in self._runs.values() if run.turn.locked() or self._differs(run)]
        results = await asyncio.gather(*map(self._adopt_mode, runs), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _differs(self, run: _Run) -> bool:
        return self.is_sensitive(run.recording.channel_id) != run.recording.paused

    async def _adopt_mode(self, run: _Run) -> None:
        async with run.turn:
            await self._pause_or_resume(run)

    async def _pause_or_resume(self, run: _Run) -> None:
        recording = run.recording
        while recording.id in self._runs and self._differs(run):
            pause = not recording.paused
            if not run.opened:
                try:
                    await self._open(run)
                except BaseException as problem:
                    if recording.id in self._runs:
                        self._over(run, "failed", 0.0, str(problem))
                    raise
            elif pause:
                await self._client.recordings.pause(recording.id)
            else:
                await self._client.recordings.unpause(recording.id)
            recording.paused = pause

    def list(self) -> list[Recording]:
        """Those that run, and those that are in Asterisk's spool, also from previous runs, oldest first."""
        return sorted(self._known.values(), key=lambda each: each.tm_start)

    async def refresh(self) -> None:
        """Find recordings of previous runs again, and delete those that are older than ``recording.retention_days``.

        Raises:
            AriError: Asterisk does not say which there are, or does not delete one.
        """
        for found in await self._archive.look(self._runs):
            if found.name not in self._known and found.name not in self._runs:
                self._known[found.name] = self._adopted(found)
        kept_s = self._archive.config.retention_days * 86_400
        oldest = self._clock() - kept_s
        for recording in self.list() if kept_s else ():
            if recording.id not in self._runs and recording.tm_start < oldest:
                await self.delete(recording.id)
                log.info("recording deleted recording=%s reason=retention", recording.id)
                self._audit.record(
                    "recording.delete",
                    CONFIGURATION,
                    OK,
                    recording=recording.id,
                    call=recording.call_id,
                    reason="retention",
                )

    def _adopted(self, found: Found) -> Recording:
        start = found.started_at if found.started_at is not None else self._clock()
        recording = Recording(
            found.name,
            found.call_id,
            "",  # not known any more
            found.format,
            found.principal,
            "ended",
            start,
            start + found.duration_s,
            found.duration_s,
        )
        recording._over.set()
        return recording

    def get(self, recording_id: str) -> Recording:
        """One of them; KeyError if there is none."""
        return self._known[recording_id]

    def read(self, recording_id: str) -> AsyncGenerator[bytes, None]:
        """The file, in blocks. KeyError if there is none, AriError 404 if Asterisk has no file."""
        return self._client.recordings.read(self.get(recording_id).id)

    async def delete(self, recording_id: str) -> None:
        """Remove one and its file; one that runs is stopped first. KeyError if there is none, AriError."""
        await self.stop(recording_id)
        await self._client.recordings.delete(recording_id)
        self._known.pop(recording_id, None)
        self._archive.forget(recording_id)

    async def close(self) -> None:
        """End all that run; their files stay."""
        results = await asyncio.gather(*(self.stop(each) for each in tuple(self._runs)), return_exceptions=True)
        for result in results:
            if isinstance(result, AriError):
                log.warning("a recording could not be ended: %s", result)
        await self._tasks.stop(END_TIMEOUT_S)

    async def _open(self, run: _Run) -> None:
        recording = run.recording
        run.opened = True
        with self._client.expect("StasisStart", run.snoop_id) as started:
            # A beep is played to the snoop, so the party hears it only if that whispers.
            await self._client.channels.snoop(
                recording.channel_id, snoop_id=run.snoop_id, spy="both", whisper="out" if run.beep else "none"
            )
            await started.wait(START_TIMEOUT_S)
        with self._client.expect("RecordingStarted", recording.id) as recording_started:
            try:
                await self._client.channels.record(
                    run.snoop_id,
                    recording.id,
                    format=recording.format,
                    max_duration_s=run.max_duration_s,
                    max_silence_s=run.max_silence_s,
                    beep=run.beep,
                )
            except AriError as error:
                if error.status != 500:
                    raise
                raise AriError(500, error.method, error.path, CANNOT_WRITE) from error
            if not recording._over.is_set():  # it may have been over at once
                await recording_started.wait(START_TIMEOUT_S)
        recording.tm_start = self._clock()

    def _on_end(self, event: Event) -> None:
        if isinstance(event, RecordingFinished | RecordingFailed):
            run = self._runs.get(event.recording.name)
            if run is not None:
                failed = isinstance(event, RecordingFailed)
                self._over(run, "failed" if failed else "ended", _seconds(event.recording), event.recording.cause)

    def _on_digit(self, channel: Channel, event: Event) -> None:
        for run in tuple(self._runs.values()):
            if run.recording.channel_id != channel.id or not isinstance(event, ChannelDtmfReceived):
                continue
            if run.terminate_on and run.terminate_on in ("any", event.digit):
                self._tasks.spawn(self._stop_safely(run.recording.id))

    def _on_destroyed(self, channel: Channel, event: Event) -> None:
        for run in tuple(self._runs.values()):
            if run.snoop_id == channel.id and isinstance(event, ChannelDestroyed):
                self._tasks.spawn(self._expect_end(run))
            elif run.recording.channel_id == channel.id and not run.opened:
                self._over(run, "ended", 0.0, "")  # there is no snoop yet

    async def _stop_safely(self, recording_id: str) -> None:
        try:
            await self.stop(recording_id)
        except (AriError, KeyError) as error:
            log.warning("recording=%s could not be ended: %s", recording_id, error)

    async def _expect_end(self, run: _Run) -> None:
        """The snoop has gone: the end of its recording is told, or never will be."""
        try:
            async with asyncio.timeout(LATE_S):
                await run.recording.finished()
        except TimeoutError:
            if run.recording.id in self._runs:
                self._over(run, "ended", self._clock() - run.recording.tm_start, "")

    def _over(self, run: _Run, status: str, duration_s: float, trouble: str) -> None:
        recording = run.recording
        del self._runs[recording.id]
        recording.status, recording.trouble, recording.paused = status, trouble, False
        recording.tm_end = self._clock()
        ran = status == "ended" and run.opened
        recording.duration_s = duration_s or (recording.tm_end - recording.tm_start if ran else 0.0)
        if ran:
            self._archive.add(recording.id, recording.format, recording.duration_s)
        recording._over.set()
        self._tasks.spawn(self._hang_up(run.snoop_id))
        record = self._records.get(recording.call_id)
        if record is not None and record.recording_id == recording.id:
            self._records.update(record.id, recording_id="")
        if recording.id in self._known:
            self._publish("recording_finished", recording)
            self._record_end(recording)

    async def _hang_up(self, snoop_id: str) -> None:
        try:
            await self._client.channels.hangup(snoop_id)
        except AriError as error:
            log.warning("cleanup failed, next sweep retries channel=%s error=%s", snoop_id, error)

    def _publish(self, kind: str, recording: Recording) -> None:
        self._events.publish(
            kind,
            {
                "id": recording.id,
                "call_id": recording.call_id,
                "channel_id": recording.channel_id,
                "principal": recording.principal,
                "format": recording.format,
                "status": recording.status,
                "duration": round(recording.duration_s, 3),
            },
        )

    def _record_end(self, recording: Recording) -> None:
        self._audit.record(
            "recording.end",
            Principal(recording.principal),
            FAILED if recording.status == "failed" else OK,
            recording=recording.id,
            call=recording.call_id,
            party=recording.channel_id,
            reason=recording.trouble,
            seconds=round(recording.duration_s, 3),
        )


def _seconds(recording: LiveRecording) -> float:
    return float(recording.duration or 0)
