"""Feeds a CallModel from one Asterisk: events, linkedids, and the whole state after each (re)connect."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from bridge.ari.client import AriClient
from bridge.ari.dispatch import Unsubscribe, call_safely, subscribe
from bridge.ari.model import PRESENTATION, Channel, ChannelHangupRequest, Event
from bridge.calls.call import Call, Change, Party, is_party
from bridge.calls.model import CallModel
from bridge.errors import AriError
from bridge.tasks import BackgroundTasks

log = logging.getLogger("bridge.calls")

MAX_QUESTIONS = 16
"""Limit of concurrent requests for linkedids."""
RESTARTED = "Asterisk was restarted"
STOPPED = "Asterisk was stopped"
QUESTION_TRIES = 3
RETRY_S = 0.5
"""Wait before a request is repeated, in seconds."""
LATE_S = 5.0
"""Time since the last response, in seconds, after which a fetch of the whole state does not wait for the others.

Asterisk does not respond about a channel that is deadlocked; three requests for its variable would take 46 s.
"""
LINKEDID = "CHANNEL(linkedid)"


class CallTracker:
    """The current calls of one PBX.

    Construct before the client is started, to receive every event. Callbacks run in the event's own turn and must not
    block.

    Args:
        client: ARI.
        clock: returns seconds, for ``Call.answered_at``.
        shared_app: the application that hands calls over to the Stasis application.
        withholds: hide restricted numbers of callers.
    """

    def __init__(
        self,
        client: AriClient,
        clock: Callable[[], float] = time.time,
        *,
        shared_app: str = "",
        withholds: bool = True,
    ) -> None:
        self._client = client
        self._clock = clock
        self._model = CallModel(client.app, shared_app, withholds=withholds)
        self._callbacks: list[Callable[[Change], object]] = []
        self.on_lost: Callable[[str], object] = _ignore
        """Called with the reason when Asterisk stops or was restarted, before the calls of that run end."""
        self._stopping = False
        """Whether Asterisk has begun to stop since the last connect."""
        self._started_at = ""
        """Start time of the Asterisk of the last connection, as it wrote it."""
        self._questions = asyncio.Semaphore(MAX_QUESTIONS)
        self._asking: dict[str, bool] = {}
        """Channels whose linkedid is being requested; True: repeat, as it may have changed meanwhile."""
        self._tasks = BackgroundTasks("calls", expected=(AriError,))  # the client reports lost connections
        self._resyncing: asyncio.Task[None] | None = None
        self._held: list[Event] | None = None
        """Events that arrived during a fetch of the whole state; they are applied after it."""
        self._synced = asyncio.Event()
        self._unsubscribe = [
            client.on_event("*", self._on_event),
            client.on_connected(self._on_connected),
            client.on_disconnected(self._on_disconnected),
        ]
        if client.connected:
            self._on_connected()

    @property
    def calls(self) -> Mapping[str, Call]:
        """All calls by linkedid."""
        return self._model.calls

    @property
    def ids(self) -> Iterator[str]:
        """Every id by which a call is found, also those of calls that have merged into others."""
        return self._model.ids()

    @property
    def model(self) -> CallModel:
        """The model itself, for reading."""
        return self._model

    @property
    def synced(self) -> bool:
        """Whether the whole state was fetched since the last connect; otherwise calls may be missing or ended."""
        return self._synced.is_set()

    def find(self, any_id: str) -> tuple[Call, Party] | None:
        """Return a call and its primary party by linkedid, or a party and its call by channel id."""
        return self._model.find(any_id)

    def person_behind(self, channel_id: str) -> tuple[Call, Party] | None:
        """Return the party whose audio comes through a channel, and its call; None if unknown."""
        member = self._model.member(channel_id)
        return self._model.find(self._model.person_behind(member[1]).id) if member is not None else None

    def subscribe(self, callback: Callable[[Change], object]) -> Unsubscribe:
        """Call ``callback(change)`` for every change; return a function that removes it."""
        return subscribe(self._callbacks, callback)

    async def wait_synced(self, timeout_s: float) -> None:
        """Wait until the whole state is known.

        Raises:
            AriError: not within ``timeout_s``; with the client's reason if there is one.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._synced.wait()
        except TimeoutError:
            reason = self._client.trouble or f"no state of the PBX within {timeout_s:g} s"
            raise AriError(0, "GET", "/channels", reason) from None

    async def resync(self) -> None:
        """Fetch the whole state and correct differences; happens automatically after each connect.

        Raises:
            AriError: there is no connection.
        """
        await asyncio.shield(self._begin_resync())

    async def close(self) -> None:
        """Stop following; closing twice is harmless."""
        while self._unsubscribe:
            self._unsubscribe.pop()()
        await self._tasks.stop()

    def _on_connected(self) -> None:
        self._stopping = False
        self._begin_resync()

    def _on_disconnected(self) -> None:
        self._synced.clear()
        self._held = None
        if self._resyncing is not None:
            self._resyncing.cancel()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ChannelHangupRequest) and event.is_shutdown and not self._stopping:
            self._stopping = True
            log.warning("Asterisk was stopped, its calls end calls=%d", len(self.calls))
            call_safely(self.on_lost, STOPPED)
        if self._held is not None:
            self._held.append(event)
        else:
            self._notify(self._model.apply(event, self._clock()))
            self._ask_unplaced()

    def _notify(self, changes: list[Change]) -> None:
        for change in changes:
            for callback in list(self._callbacks):
                call_safely(callback, change)

    def _begin_resync(self) -> asyncio.Task[None]:
        task = self._resyncing
        if task is None or task.done() or task.cancelling():
            self._held = []
            task = self._resyncing = self._tasks.spawn(self._resync())
        return task

    async def _resync(self) -> None:
        held: list[Event] = []
        try:
            while True:
                held = self._held = []
                try:
                    channels, bridges = await asyncio.gather(self._client.channels.list(), self._client.bridges.list())
                    linkedids, presentations, late = await self._answers_about(channels)
                    started_at = await self._asterisk_started_at()
                    break
                except AriError as exc:
                    if not self._client.connected:
                        raise
                    log.warning("calls of the PBX not fetched, retrying error=%s", exc)
                    await asyncio.sleep(RETRY_S)
        finally:
            if self._held is held:
                self._held = None
        # No await from here on: new events wait in the socket until the state is consistent.
        before, self._started_at = self._started_at, started_at or self._started_at
        if before and started_at and before != started_at:
            log.warning("Asterisk was restarted, its calls have ended started=%s calls=%d", started_at, len(self.calls))
            call_safely(self.on_lost, RESTARTED)
        self._notify(self._model.reconcile(channels, linkedids, bridges, self._clock(), presentations))
        for event in held:
            self._notify(self._model.apply(event, self._clock()))
        self._ask_unplaced(late)
        self._synced.set()
        log.info("synchronized with Asterisk calls=%d channels=%d", len(self.calls), len(channels))

    async def _asterisk_started_at(self) -> str:
        try:
            return (await self._client.asterisk.info()).status.startup_time
        except AriError as exc:
            if not self._client.connected:
                raise
            log.warning("start time of Asterisk unknown error=%s", exc)
            return ""

    async def _answers_about(self, channels: list[Channel]) -> tuple[dict[str, str], dict[str, str], Collection[str]]:
        """Return the linkedids of parties, the presentations of callers, and the channels that lack a response."""
        # Linkedids in the channels' variables may be outdated, so all are requested.
        questions = [(each.id, LINKEDID) for each in channels if is_party(each)]
        questions += [(each.id, PRESENTATION) for each in channels if self._model.withheld.asks(each)]
        answers: dict[str, dict[str, str]] = {LINKEDID: {}, PRESENTATION: {}}
        loop = asyncio.get_running_loop()

        async def ask(channel_id: str, variable: str) -> None:
            answers[variable][channel_id] = await self._answer_of(channel_id, variable) or ""
            if not limit.expired():
                limit.reschedule(loop.time() + LATE_S)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
                for question in questions:
                    group.create_task(ask(*question))
        late = dict.fromkeys(channel_id for channel_id, variable in questions if channel_id not in answers[variable])
        if late:
            log.warning(
                "no response about some channels, requested again in the background count=%d channel=%s",
                *(len(late), next(iter(late))),
            )
        return answers[LINKEDID], answers[PRESENTATION], late

    async def _linkedid_of(self, channel_id: str) -> str | None:
        return await self._answer_of(channel_id, LINKEDID)

    async def _answer_of(self, channel_id: str, variable: str) -> str | None:
        """Request a variable of a channel; return None if the channel has ended, or Asterisk does not respond."""
        for attempt in range(QUESTION_TRIES):
            async with self._questions:
                try:
                    return await self._client.channels.get_variable(channel_id, variable)
                except AriError as exc:
                    if exc.status == 404 or not self._client.connected:
                        return None
                    if attempt == QUESTION_TRIES - 1:
                        log.warning(
                            "no response for a variable channel=%s variable=%s error=%s", channel_id, variable, exc
                        )
            await asyncio.sleep(RETRY_S)
        return None

    def _ask_unplaced(self, others: Iterable[str] = ()) -> None:
        """Request the linkedids of the channels that lack a call, and of others, in the background."""
        for channel_id in dict.fromkeys((*self._model.take_unplaced(), *others)):
            if channel_id in self._asking:
                self._asking[channel_id] = True
                continue
            self._asking[channel_id] = False
            self._tasks.spawn(self._ask(channel_id))

    async def _ask(self, channel_id: str) -> None:
        """Request the linkedid of a channel, one request at a time: an old response must not overtake a new one."""
        try:
            while True:
                self._asking[channel_id] = False
                linkedid = await self._linkedid_of(channel_id)
                presentation = None
                if linkedid and channel_id in self._model.withheld.undisclosed:
                    presentation = await self._answer_of(channel_id, PRESENTATION) or ""
                if linkedid:
                    self._notify(self._model.learn_linkedid(channel_id, linkedid, self._clock(), presentation))
                if not self._asking[channel_id]:
                    return
        finally:
            self._asking.pop(channel_id, None)


def _ignore(_: str) -> None:
    """Do nothing: a callback that is not set."""
