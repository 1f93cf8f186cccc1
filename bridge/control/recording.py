"""Records calls: a snoop that Asterisk writes to a file, which is fetched over ARI.

Works for any call of the PBX. A recording ends by silence or length (detected by Asterisk), by a DTMF digit of the
party (detected here, as a snoop receives none), by ``stop``, or with the call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Literal

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
from bridge.audit import FAILED, NO_AUDIT, OK, Audit, LineValue
from bridge.calls.call_record import Direction
from bridge.calls.ids import OwnIds
from bridge.calls.journal import Journal
from bridge.calls.records import Records
from bridge.control.recorder import Recorder, Recording
from bridge.control.recording_archive import Archive
from bridge.errors import AriError
from bridge.events.hub import Events
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

FORMATS = ("wav", "wav16", "sln", "ulaw", "alaw", "gsm")
"""Asterisk's names; ``wav`` is 16-bit PCM at 8 kHz, ``wav16`` at 16 kHz."""
END_TIMEOUT_S = 5.0
LATE_S = 1.0
"""Time in seconds for a recording's end to be reported after its snoop has ended."""
RECORDING = "recording"
"""Kind of facts: running recordings."""
MAX_FAILED = 1000
"""Limit of failed recordings kept for look-up; those with a file are kept as long as it exists."""


class Recordings:
    """Starts, ends and reads recordings.

    Args:
        client: ARI; construct this before it is started.
        ids: generates the ids of snoops.
        records: updated with a call's recordings.
        events: publishes ``recording_started`` and ``recording_finished``.
        archive: names recordings, and finds them in the spool.
        clock: returns seconds since 1970.
        audit: records the end of each; the requester records its start.
        journal: stores running recordings; None: none is resumed after a restart.
    """

    def __init__(
        self,
        client: AriClient,
        ids: OwnIds,
        records: Records,
        events: Events,
        archive: Archive,
        *,
        clock: Callable[[], float] = time.time,
        audit: Audit = NO_AUDIT,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal or Journal()
        self._client = client
        self._ids = ids
        self._records = records
        self._events = events
        self._archive = archive
        self._clock = clock
        self._audit = audit
        self.is_sensitive: Callable[[str], bool] = lambda _: False
        """Returns whether a channel must not be recorded now: a recording of it pauses."""
        self._recorders: dict[str, Recorder] = {}
        self._known: dict[str, Recording] = {}
        self._tasks = BackgroundTasks("recordings")
        client.on_replaced(self._on_replaced)
        client.on_event("RecordingFinished", self._on_end)
        client.on_event("RecordingFailed", self._on_end)
        client.on_channel_event("ChannelDtmfReceived", self._on_digit)
        client.on_channel_event("ChannelDestroyed", self._on_destroyed)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of the channels in use."""
        return {recorder.snoop_id for recorder in self._recorders.values()}

    async def start(
        self,
        channel_id: str,
        *,
        principal: Principal,
        direction: Direction = "both",
        format: str = "wav",
        max_silence_s: int = 0,
        max_duration_s: int = 0,
        terminate_on: str = "",
        beep: bool = False,
    ) -> Recording:
        """Record a channel; return when recording has begun.

        Args:
            channel_id: the channel.
            principal: who requests it.
            direction: audio from the party (``in``), to it (``out``), or ``both`` mixed.
            format: one of `FORMATS`.
            max_silence_s: end after this many seconds of silence; 0: never.
            max_duration_s: end after this many seconds; 0, or more than ``recording.max_s``: after that.
            terminate_on: a DTMF digit that ends it, ``any`` for every digit; others receive the digit too.
            beep: play a beep to the party first.

        Returns:
            The recording.

        Raises:
            ValueError: unknown format.
            AriError: Asterisk does not record; 404: the channel has ended.
            Overloaded: ``recording.max_total_mb`` is reached.
        """
        if format not in FORMATS:
            raise ValueError(f"format {format!r} is not supported; expected one of {', '.join(FORMATS)}")
        now = self._clock()
        self._archive.check_room(
            (recorder.recording.format, now - recorder.recording.tm_start) for recorder in self._recorders.values()
        )
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
            direction=direction,
        )
        recorder = Recorder(
            self._client,
            recording,
            self._ids.new("snoop"),
            terminate_on=terminate_on,
            max_silence_s=max_silence_s,
            max_duration_s=min(max_duration_s or longest_s, longest_s),
            beep=beep,
        )
        return await self._begin(recorder)

    async def _begin(self, recorder: Recorder) -> Recording:
        recording = recorder.recording
        self._recorders[recording.id] = recorder
        try:
            async with recorder.turn:
                recording.paused = self.is_sensitive(recording.channel_id)
                if not recording.paused:
                    await self._open(recorder)
        except BaseException as problem:
            if recording.id in self._recorders:
                self._over(recorder, "failed", 0.0, str(problem))
            raise
        self._known[recording.id] = recording  # no await from here on
        if recording.id in self._recorders:
            self._journal.put(RECORDING, recording.id, recorder.fact)
        failed = [each for each in self._known.values() if each.status == "failed"]
        for each in failed[:-MAX_FAILED]:  # the others are in the spool
            del self._known[each.id]
        record = self._records.get(recording.call_id)
        if record is not None and recording.status == "recording":
            ids = [*record.recording_ids, recording.id]
            self._records.update(record.id, recording_id=recording.id, recording_ids=ids)
        self._publish("recording_started", recording)
        if recording.status != "recording":
            self._publish("recording_finished", recording)
            self._record_end(recording)
        return recording

    def running(self, recording_id: str) -> Recording | None:
        """Return a recording that has not ended, or the one that continues it; None if both have ended."""
        recorder = self._latest(recording_id)
        return recorder.recording if recorder is not None else None

    def _latest(self, recording_id: str) -> Recorder | None:
        for recorder in self._recorders.values():
            if recorder.recording.continues == recording_id:
                return self._latest(recorder.recording.id)
        return self._recorders.get(recording_id)

    async def resume(self, channel_ids: Collection[str]) -> None:
        """Resume the recordings of the previous run that Asterisk continues; the others are in its spool.

        Args:
            channel_ids: the channels of the PBX.

        Raises:
            AriError: Asterisk does not respond.
        """
        for recording_id in tuple(self._journal.found.get(RECORDING, ())):
            fact = self._journal.found[RECORDING][recording_id]
            try:
                recorder = Recorder.resumed(self._client, fact)
                live = await self._client.recordings.live(recording_id) if recorder.snoop_id in channel_ids else None
            except AriError as error:
                if error.status != 404:
                    raise
                live = None
            except (KeyError, TypeError) as problem:
                log.error("recording not resumed recording=%s error=%r", recording_id, problem)
                live = None
            self._journal.take(RECORDING, recording_id)  # not before: retried if Asterisk does not respond
            if live is None:
                continue
            self._recorders[recording_id] = recorder
            recorder.recording.paused = live.state == "paused"
            self._known[recording_id] = recorder.recording
            self._journal.put(RECORDING, recording_id, fact)
            log.info("recording resumed recording=%s call=%s", recording_id, recorder.recording.call_id)

    async def stop(self, recording_id: str) -> Recording:
        """End a recording, or the one that continues it; return when its file is complete. Ignore one that has ended.

        Raises:
            KeyError: unknown recording.
            AriError: Asterisk refused.
        """
        recording = self.get(recording_id)
        while (recorder := self._latest(recording_id)) is not None:
            recording = recorder.recording
            await self._stop(recorder)
        return recording

    async def _stop(self, recorder: Recorder) -> None:
        recording = recorder.recording
        async with recorder.turn:  # it may just be beginning
            if recording.over.is_set():
                return
            if not recorder.opened:
                self._over(recorder, "ended", 0.0, "")
                return
            await self._client.recordings.stop(recording.id)
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await recording.over.wait()
        except TimeoutError:
            if recording.id in self._recorders:
                self._over(recorder, "failed", 0.0, "Asterisk did not report the end")

    async def settled(self) -> None:
        """Pause every recording whose call is in sensitive mode, and resume the others; return when that is done.

        Raises:
            AriError: Asterisk did not pause or resume one.
        """
        recorders = [
            recorder for recorder in self._recorders.values() if recorder.turn.locked() or self._differs(recorder)
        ]
        results = await asyncio.gather(*map(self._adopt_mode, recorders), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _differs(self, recorder: Recorder) -> bool:
        return self.is_sensitive(recorder.recording.channel_id) != recorder.recording.paused

    async def _adopt_mode(self, recorder: Recorder) -> None:
        async with recorder.turn:
            await self._pause_or_resume(recorder)

    async def _pause_or_resume(self, recorder: Recorder) -> None:
        recording = recorder.recording
        while recording.id in self._recorders and self._differs(recorder):
            pause = not recording.paused
            if recorder.opened:
                await recorder.set_paused(pause)
                continue
            try:
                await self._open(recorder)
            except BaseException as problem:
                if recording.id in self._recorders:
                    self._over(recorder, "failed", 0.0, str(problem))
                raise

    def list(self) -> list[Recording]:
        """Return running recordings and those in Asterisk's spool, also of previous runs, oldest first."""
        return sorted(self._known.values(), key=lambda each: each.tm_start)

    async def refresh(self) -> None:
        """Find recordings of previous runs, and delete those older than ``recording.retention_days``.

        Raises:
            AriError: Asterisk refused to list or delete recordings.
        """
        for found in await self._archive.look(self._recorders):
            if found.name not in self._known and found.name not in self._recorders:
                self._known[found.name] = found.recording(self._clock())
        kept_s = self._archive.config.retention_days * 86_400
        oldest = self._clock() - kept_s
        for recording in self.list() if kept_s else ():
            if recording.id not in self._recorders and recording.tm_start < oldest:
                await self.delete(recording.id)
                log.info("recording deleted, its retention period has passed recording=%s", recording.id)
                self._audit.record(
                    "recording.delete",
                    CONFIGURATION,
                    OK,
                    recording=recording.id,
                    call=recording.call_id,
                    reason="retention",
                )

    def get(self, recording_id: str) -> Recording:
        """Return a recording; raise KeyError for an unknown one."""
        return self._known[recording_id]

    def read(self, recording_id: str) -> AsyncGenerator[bytes, None]:
        """Return the file in blocks. Raise KeyError for an unknown recording, AriError 404 without a file."""
        return self._client.recordings.read(self.get(recording_id).id)

    async def delete(self, recording_id: str) -> None:
        """Delete a recording and its file, after stopping it. Raise KeyError for an unknown one, or AriError."""
        if recording_id in self._recorders:
            await self.stop(recording_id)
        await self._client.recordings.delete(recording_id)
        self._known.pop(recording_id, None)
        self._archive.forget(recording_id)

    async def close(self) -> None:
        """End all running recordings; their files stay."""
        results = await asyncio.gather(*(self.stop(each) for each in tuple(self._recorders)), return_exceptions=True)
        for result in results:
            if isinstance(result, AriError):
                log.warning("recording not ended error=%s", result)
        await self._tasks.stop(END_TIMEOUT_S)

    async def _open(self, recorder: Recorder) -> None:
        await recorder.open()
        recorder.recording.tm_start = self._clock()

    def _on_end(self, event: Event) -> None:
        if isinstance(event, RecordingFinished | RecordingFailed):
            recorder = self._recorders.get(event.recording.name)
            if recorder is not None:
                failed = isinstance(event, RecordingFailed)
                self._over(recorder, "failed" if failed else "ended", _seconds(event.recording), event.recording.cause)

    def _on_replaced(self, old: Channel, new: Channel) -> None:
        for recorder in tuple(self._recorders.values()):
            recording = recorder.recording
            if recording.channel_id != old.id:
                continue
            if not recorder.opened:
                recording.channel_id = new.id  # nothing is recorded before the end of sensitive mode
                continue
            recording_id = self._archive.new_id(recording.call_id, recording.principal)
            following = recorder.following(recording_id, new.id, self._ids.new("snoop"), self._clock())
            self._tasks.spawn(self._continue(recorder, following))

    async def _continue(self, recorder: Recorder, following: Recorder) -> None:
        """Continue a recording on the channel that replaced the recorded one: a snoop cannot move."""
        ended, recording = recorder.recording, following.recording
        try:
            await self._begin(following)
        except AriError as error:
            log.warning("recording not continued recording=%s error=%s", ended.id, error)
            ended.continued_by = None
            ended.trouble = f"not continued on the channel that replaced the recorded one: {error}"
        else:
            log.info("recording continues in a new file recording=%s replaced=%s", recording.id, ended.id)
            self._record("recording.start", recording, reason=f"continues {ended.id}")
        await self._stop_safely(recorder)

    def _on_digit(self, channel: Channel, event: Event) -> None:
        for recorder in tuple(self._recorders.values()):
            if recorder.recording.channel_id != channel.id or not isinstance(event, ChannelDtmfReceived):
                continue
            if recorder.ends_with(event.digit):
                self._tasks.spawn(self._stop_safely(recorder))

    def _on_destroyed(self, channel: Channel, event: Event) -> None:
        for recorder in tuple(self._recorders.values()):
            if recorder.snoop_id == channel.id and isinstance(event, ChannelDestroyed):
                self._tasks.spawn(self._expect_end(recorder))
            elif recorder.recording.channel_id == channel.id and not recorder.opened:
                self._over(recorder, "ended", 0.0, "")  # without a snoop

    async def _stop_safely(self, recorder: Recorder) -> None:
        try:
            await self._stop(recorder)
        except AriError as error:
            log.warning("recording not ended recording=%s error=%s", recorder.recording.id, error)

    async def _expect_end(self, recorder: Recorder) -> None:
        """Wait for the end of a recording whose snoop has ended; assume it after a timeout."""
        try:
            async with asyncio.timeout(LATE_S):
                await recorder.recording.over.wait()
        except TimeoutError:
            if recorder.recording.id in self._recorders:
                self._over(recorder, "ended", self._clock() - recorder.recording.tm_start, "")

    def _over(self, recorder: Recorder, status: str, duration_s: float, trouble: str) -> None:
        recording = recorder.recording
        del self._recorders[recording.id]
        self._journal.drop(RECORDING, recording.id)
        recording.status, recording.paused = status, False
        recording.trouble = trouble or recording.trouble
        recording.tm_end = self._clock()
        ran = status == "ended" and recorder.opened
        recording.duration_s = duration_s or (recording.tm_end - recording.tm_start if ran else 0.0)
        if ran:
            self._archive.add(recording.id, recording.format, recording.duration_s)
        recording.over.set()
        self._tasks.spawn(recorder.hang_up())
        record = self._records.get(recording.call_id)
        if record is not None and record.recording_id == recording.id:
            self._records.update(record.id, recording_id="")
        if recording.id in self._known:
            self._publish("recording_finished", recording)
            self._record_end(recording)

    def _publish(self, kind: str, recording: Recording) -> None:
        self._events.publish(kind, recording.data)

    def _record_end(self, recording: Recording) -> None:
        self._record("recording.end", recording, reason=recording.trouble, seconds=round(recording.duration_s, 3))

    def _record(
        self, action: Literal["recording.start", "recording.end"], recording: Recording, **values: LineValue
    ) -> None:
        outcome = FAILED if recording.status == "failed" else OK
        ids = {"recording": recording.id, "call": recording.call_id, "party": recording.channel_id}
        self._audit.record(action, Principal(recording.principal), outcome, **ids, **values)


def _seconds(recording: LiveRecording) -> float:
    return float(recording.duration or 0)
