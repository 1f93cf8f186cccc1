"""Tells servers what happens: each webhook has a queue and a task of its own, so that none waits for another.

Requests are those of Standard Webhooks 1.0 (https://www.standardwebhooks.com): headers ``webhook-id``,
``webhook-timestamp`` and ``webhook-signature``, the event as JSON body. An event is delivered when the server answers
2xx. Until then those behind it wait: a server sees events in the order in which they happened.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from yarl import URL

from bridge.config.webhooks import WebhookConfig, signing_key
from bridge.events.hub import Event, Events
from bridge.events.signing import retry_after_s, signature
from bridge.logs import cause
from bridge.outbound.gate import Gate
from bridge.outbound.http import RequestFailed, Requests
from bridge.tasks import BackgroundTasks
from bridge.tls import client_context

log = logging.getLogger(__name__)

STOP_S = 5.0
"""How long what is queued may take to be delivered when the bridge stops."""
REFUSALS = 5
"""How often an event is tried that the server answers with 4xx: as it seems, it does not want this one."""
KEEPALIVE_S = 4.0
"""Less than the 5 s after which Node's servers close: a request must not meet a connection that is being closed."""
MAX_RETRY_AFTER_S = 3600.0
MAX_QUEUED_BYTES = 64 << 20
"""Of the events' JSON that wait for one server."""

_GONE = 410
_NOT_NOW = frozenset({408, 425, 429})
"""Answers 4xx that say "later"."""


class Queued(NamedTuple):
    """What is kept of an event that waits: not its data, which take several times the memory."""

    id: str
    type: str
    time: float
    text: str


class Counts(Protocol):
    """Where deliveries are counted (`bridge.media.counters.Counters`)."""

    events_delivered: int
    event_attempts_failed: int
    events_dropped: int


class Webhooks:
    """All configured webhooks.

    Args:
        configs: who is to be told; those that are switched off are left out.
        events: what happens.
        counts: totals for ``/metrics``.
        gate: what may be connected to.
        clock: seconds since 1970.
        jitter: a number from 0 to 1; makes bridges that lost the same server come back at different times.
    """

    def __init__(
        self,
        configs: Iterable[WebhookConfig],
        events: Events,
        counts: Counts,
        *,
        gate: Gate | None = None,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._events = events
        self._new = partial(Webhook, counts=counts, gate=gate or Gate(), clock=clock, jitter=jitter)
        self._configs = tuple(configs)
        self._hooks: dict[str, Webhook] = {}
        """By id."""
        self._tasks = BackgroundTasks("webhooks")
        self._unsubscribe = _nothing

    @property
    def queued(self) -> int:
        """Events that wait for their delivery now."""
        return sum(map(len, self._hooks.values()))

    async def start(self) -> None:
        """Begin to deliver what happens from now on.

        Raises:
            TrustError: a ``ca_file`` cannot be used.
        """
        await self.configure(self._configs)

    async def configure(self, configs: Iterable[WebhookConfig]) -> None:
        """Replace the webhooks; those that have not changed continue with what is queued.

        One that is gone, or has changed, delivers what is queued as at a stop, in the background.

        Raises:
            TrustError: a ``ca_file`` cannot be used; nothing has changed.
        """
        wanted = {config.id: config for config in configs if config.enabled}
        await trusted(wanted.values())
        for hook in [hook for hook in self._hooks.values() if wanted.get(hook.config.id) != hook.config]:
            del self._hooks[hook.config.id]
            self._tasks.spawn(self._finish((hook,), STOP_S))
        for config in wanted.values():
            if config.id not in self._hooks:
                hook = self._hooks[config.id] = self._new(config)
                hook.begin()
        self._unsubscribe()
        self._unsubscribe = self._events.subscribe(self._queue) if self._hooks else _nothing

    async def stop(self, timeout_s: float = STOP_S) -> None:
        """Deliver what is queued, without repeating what fails, for at most ``timeout_s``; then nothing more."""
        self._unsubscribe()
        await self._finish(tuple(self._hooks.values()), timeout_s)
        await self._tasks.stop(grace_s=timeout_s)

    async def _finish(self, hooks: Collection[Webhook], timeout_s: float) -> None:
        await asyncio.gather(*(hook.end(timeout_s) for hook in hooks))

    def _queue(self, event: Event) -> None:
        for hook in self._hooks.values():
            hook.add(event)


def _nothing() -> None:
    """Do nothing."""


async def trusted(configs: Iterable[WebhookConfig]) -> None:
    """Check the files of the webhooks' TLS.

    Raises:
        TrustError: a ``ca_file`` cannot be used.
    """
    for config in configs:
        if config.enabled:
            await client_context(config.trust())


class Webhook:
    """One server that is told; see `Webhooks`."""

    def __init__(
        self,
        config: WebhookConfig,
        counts: Counts,
        gate: Gate,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.config = config
        self._counts = counts
        self._gate = gate
        self._clock = clock
        self._jitter = jitter
        self._key = signing_key(config.secret.get_secret_value())
        self._url = URL(config.url, encoded=True)
        self._queue: deque[Queued] = deque()
        self._queued_bytes = 0
        self._current: Queued | None = None
        self._changed = asyncio.Event()  # there is something to deliver, or it is time to finish
        self._finishing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._gone = False
        self._failing = False
        self._full = False

    def __len__(self) -> int:
        return len(self._queue) + (self._current is not None)

    def add(self, event: Event) -> None:
        """Queue an event if it is one that this webhook is told."""
        if self._gone or not self.config.events.match(event.type):
            return
        # The text is made now, once for all webhooks: what the data refers to may change later.
        self._queue.append(Queued(event.id, event.type, event.time, event.text))
        self._queued_bytes += len(event.text)  # ASCII
        while len(self._queue) > self.config.max_queued_events or self._queued_bytes > MAX_QUEUED_BYTES:
            self._take()
            self._counts.events_dropped += 1
            if not self._full:
                self._full = True
                log.warning("webhook=%s queue is full: the oldest events are dropped", self.config.id)
        self._changed.set()

    def begin(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run(), name=f"webhook {self.config.id}")

    async def end(self, timeout_s: float) -> None:
        """Deliver what is queued, without repeating what fails, for at most ``timeout_s``; count and log the rest."""
        self._finishing.set()
        self._changed.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if lost := len(self):
            self._counts.events_dropped += lost
            self._clear()
            log.warning("stopped before all events were delivered webhook=%s dropped=%d", self.config.id, lost)

    async def _run(self) -> None:
        """Deliver until `end`, or until the server responds that it wants no more."""
        async with Requests(self._gate, limit=1, keepalive_timeout=KEEPALIVE_S) as requests:
            while not self._gone:
                if not self._queue:
                    self._full = False
                    if self._finishing.is_set():
                        return
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                self._current = self._take()
                done = await self._deliver(requests, self._current)
                if not done:
                    return  # finishing; `end` counts what is left
                self._current = None

    def _take(self) -> Queued:
        event = self._queue.popleft()
        self._queued_bytes -= len(event.text)
        return event

    def _clear(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0
        self._current = None

    async def _deliver(self, requests: Requests, event: Queued) -> bool:
        """Try until it is delivered or given up; False: it is neither, and there is no more time."""
        wait_s = self.config.retry_first_s
        refusals = 0
        while True:
            status, asked_s, trouble = await self._attempt(requests, event)
            if 200 <= status < 300:
                self._counts.events_delivered += 1
                if self._failing:
                    self._failing = False
                    log.info("webhook=%s delivers again queued=%d", self.config.id, len(self._queue))
                return True
            self._counts.event_attempts_failed += 1
            if status == _GONE:
                self._disable()
                return True
            refusals += 400 <= status < 500 and status not in _NOT_NOW
            # The jitter takes away up to half. The first wait is also what a server's Retry-After prolongs.
            pause_s = max(wait_s * (1 - self._jitter() / 2), asked_s)
            late = self._clock() + pause_s > event.time + self.config.give_up_s
            if refusals >= REFUSALS or late:
                self._counts.events_dropped += 1
                log.warning(
                    "webhook=%s event=%s type=%s given up: %s",
                    *(self.config.id, event.id, event.type, trouble),
                    extra=cause(f"{self.config.id} {trouble}"),
                )
                return True
            if self._finishing.is_set():
                return False
            if not self._failing:
                self._failing = True
                log.warning("webhook=%s does not deliver, tries again: %s", self.config.id, trouble)
            await self._pause(pause_s)
            wait_s = min(wait_s * 2, self.config.retry_last_s)

    async def _attempt(self, requests: Requests, event: Queued) -> tuple[int, float, str]:
        """One request: the status (0: no answer), how long the server asks to wait, and what is wrong in words."""
        body = event.text.encode()
        timestamp = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._key, event.id, timestamp, body),
        }
        try:
            response = await requests.fetch(
                "POST",
                self._url,
                configured=True,
                trust=self.config.trust(),
                timeout_s=self.config.timeout_s,
                max_bytes=0,
                body=body,
                headers=headers,
            )
        except RequestFailed as problem:
            return 0, 0.0, str(problem)
        asked_s = retry_after_s(response.headers.get("Retry-After", ""), self._clock())
        trouble = f"the server answered {response.status}"
        if 300 <= response.status < 400:
            trouble += ", a redirect, which is not followed: configure the address that it leads to"
        return response.status, min(asked_s, MAX_RETRY_AFTER_S), trouble

    async def _pause(self, pause_s: float) -> None:
        """Wait, but not when it is time to finish."""
        try:
            async with asyncio.timeout(pause_s):
                await self._finishing.wait()
        except TimeoutError:
            pass

    def _disable(self) -> None:
        self._gone = True
        dropped = len(self)
        self._counts.events_dropped += dropped
        self._clear()
        log.warning(
            "webhook disabled until restart webhook=%s status=410 dropped=%d",
            self.config.id,
            dropped,
        )
