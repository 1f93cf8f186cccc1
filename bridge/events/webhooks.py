"""Webhooks: each has a queue and a task of its own, and does not wait for others.

Requests are those of Standard Webhooks 1.0 (https://www.standardwebhooks.com): headers ``webhook-id``,
``webhook-timestamp`` and ``webhook-signature``, the event as JSON body. An event is delivered when the server responds
2xx. Until then those after it wait: a server receives events in order.
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
from bridge.events.signing import retry_after_s, signed_headers
from bridge.logs import cause
from bridge.outbound.gate import Gate
from bridge.outbound.http import RequestFailed, Requests
from bridge.tasks import BackgroundTasks
from bridge.tls import client_context

log = logging.getLogger(__name__)

STOP_S = 5.0
"""How long the delivery of queued events may take when asterisk-bridge stops."""
REFUSALS = 5
"""How often an event is tried that the server rejects with 4xx: it is probably not wanted."""
KEEPALIVE_S = 4.0
"""Less than the 5 s after which Node's servers close: a request must not use a connection that is being closed."""
MAX_RETRY_AFTER_S = 3600.0
MAX_QUEUED_BYTES = 64 << 20
"""Size of the JSON of events that wait for one server."""

_GONE = 410
_NOT_NOW = frozenset({408, 425, 429})
"""Status codes 4xx after which a delivery is tried again."""


class Queued(NamedTuple):
    """A waiting event: without its data, which takes several times the memory."""

    id: str
    type: str
    time: float
    text: str


class Counts(Protocol):
    """Counts deliveries (`bridge.media.counters.Counters`)."""

    events_delivered: int
    event_attempts_failed: int
    events_dropped: int


class Webhooks:
    """All configured webhooks.

    Args:
        configs: the webhooks; disabled ones are ignored.
        events: the event hub.
        counts: totals for ``/metrics``.
        gate: decides which connections are allowed.
        clock: seconds since 1970.
        jitter: returns a number from 0 to 1; spreads the retries of instances that lost the same server.
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
        """The webhooks by id."""
        self._tasks = BackgroundTasks("webhooks")
        self._unsubscribe = _nothing

    @property
    def queued(self) -> int:
        """The number of events that wait for delivery."""
        return sum(map(len, self._hooks.values()))

    async def start(self) -> None:
        """Begin to deliver events that are published from now on.

        Raises:
            TrustError: a ``ca_file`` cannot be used.
        """
        await self.configure(self._configs)

    async def configure(self, configs: Iterable[WebhookConfig]) -> None:
        """Replace the webhooks; unchanged ones continue with their queues.

        A removed or changed one delivers its queue as at a stop, in the background.

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
        """Deliver queued events, without retries, for at most ``timeout_s``, then stop."""
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
    """One server that receives events; see `Webhooks`."""

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
        """Queue an event if its type matches this webhook's patterns."""
        if self._gone or not self.config.events.match(event.type):
            return
        # Serialized now, once for all webhooks: what the data refers to may change later.
        self._queue.append(Queued(event.id, event.type, event.time, event.text))
        self._queued_bytes += len(event.text)  # ASCII
        while len(self._queue) > self.config.max_queued_events or self._queued_bytes > MAX_QUEUED_BYTES:
            self._take()
            self._counts.events_dropped += 1
            if not self._full:
                self._full = True
                log.warning("webhook queue is full, the oldest events are dropped webhook=%s", self.config.id)
        self._changed.set()

    def begin(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run(), name=f"webhook {self.config.id}")

    async def end(self, timeout_s: float) -> None:
        """Deliver queued events, without retries, for at most ``timeout_s``; count and log the rest."""
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
        """Deliver until `end`, or until the server responds 410."""
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
        """Try until it is delivered or given up; return False if it is neither, and the time is over."""
        wait_s = self.config.retry_first_s
        refusals = 0
        while True:
            status, asked_s, trouble = await self._attempt(requests, event)
            if 200 <= status < 300:
                self._counts.events_delivered += 1
                if self._failing:
                    self._failing = False
                    log.info("webhook delivers again webhook=%s queued=%d", self.config.id, len(self._queue))
                return True
            self._counts.event_attempts_failed += 1
            if status == _GONE:
                self._disable()
                return True
            refusals += 400 <= status < 500 and status not in _NOT_NOW
            # The jitter subtracts up to half. A server's Retry-After prolongs the first wait as well.
            pause_s = max(wait_s * (1 - self._jitter() / 2), asked_s)
            late = self._clock() + pause_s > event.time + self.config.give_up_s
            if refusals >= REFUSALS or late:
                self._counts.events_dropped += 1
                log.warning(
                    "event given up webhook=%s event=%s type=%s error=%s",
                    *(self.config.id, event.id, event.type, trouble),
                    extra=cause(f"{self.config.id} {trouble}"),
                )
                return True
            if self._finishing.is_set():
                return False
            if not self._failing:
                self._failing = True
                log.warning("delivery failed, trying again webhook=%s error=%s", self.config.id, trouble)
            await self._pause(pause_s)
            wait_s = min(wait_s * 2, self.config.retry_last_s)

    async def _attempt(self, requests: Requests, event: Queued) -> tuple[int, float, str]:
        """Send one request; return the status (0: no response), the seconds of Retry-After, and an error."""
        body = event.text.encode()
        signed = signed_headers(self._key, event.id, self._clock(), body)
        try:
            response = await requests.fetch(
                "POST",
                self._url,
                configured=True,
                trust=self.config.trust(),
                timeout_s=self.config.timeout_s,
                max_bytes=0,
                body=body,
                headers={"Content-Type": "application/json", **signed},
            )
        except RequestFailed as problem:
            return 0, 0.0, str(problem)
        asked_s = retry_after_s(response.headers.get("Retry-After", ""), self._clock())
        trouble = f"the server responded {response.status}"
        if 300 <= response.status < 400:
            trouble += ", a redirect, which is not followed: configure its target instead"
        return response.status, min(asked_s, MAX_RETRY_AFTER_S), trouble

    async def _pause(self, pause_s: float) -> None:
        """Wait, except when it is time to finish."""
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
            "webhook disabled until restart webhook=%s status=%d dropped=%d",
            self.config.id,
            410,
            dropped,
        )
