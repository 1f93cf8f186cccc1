"""The audit log's interface for the other packages."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from bridge import __version__
from bridge.access import CONFIGURATION, Principal
from bridge.audit.actions import AuditAction
from bridge.audit.line import LineValue, line_of
from bridge.audit.rejections import WINDOW_S, RejectionKind, Rejections
from bridge.audit.writer import FileSink, StdoutSink, Writer
from bridge.config import AuditConfig
from bridge.times import utc

OK = "ok"
FAILED = "failed"
REJECTED = "rejected"


class Audit(Protocol):
    """The record of actions."""

    def record(self, action: AuditAction, principal: Principal, outcome: str = OK, /, **values: LineValue) -> None:
        """Record one action.

        Args:
            action: the action.
            principal: who acts.
            outcome: `OK`, `FAILED` or `REJECTED`.
            values: the objects concerned: ids of calls, parties, recordings ...; never DTMF digits, spoken texts,
                tokens or tickets. Empty ones are omitted.
        """

    def reject(self, kind: RejectionKind, /) -> None:
        """Record a rejected request; repetitions within seconds are summarized in one line with their count."""

    @property
    def totals(self) -> Mapping[str, float]:
        """Counts since the start, for metrics, by name without the prefix."""


class NoAudit:
    """Records nothing."""

    totals: Mapping[str, float] = {}

    def record(self, action: AuditAction, principal: Principal, outcome: str = OK, /, **values: LineValue) -> None:
        """See `Audit`."""

    def reject(self, kind: RejectionKind, /) -> None:
        """See `Audit`."""


NO_AUDIT = NoAudit()


class AuditLog:
    """Records actions as lines in a file or on standard output.

    Args:
        config: where lines are written.
        node: the name of this node.
        worker: the number of this worker; 0: there is one process.
        clock: seconds since 1970.
    """

    def __init__(
        self, config: AuditConfig, *, node: str, worker: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self._where: dict[str, LineValue] = {"node": node}
        if worker:
            self._where["worker"] = worker
        self._clock = clock
        self._sequence = itertools.count(1)  # its next() is safe in several threads
        self._rejections = Rejections()
        self._flushing: asyncio.TimerHandle | None = None
        self._writer: Writer | None = None
        self._started = False
        if config.output != "off":
            sink = StdoutSink() if config.output == "stdout" else FileSink(config.output)
            self._writer = Writer(sink, self._missing_line)

    def start(self) -> None:
        """Open the file, and begin to write.

        Raises:
            ConfigError: the file is not writable.
        """
        if self._writer is not None:
            self._writer.start()
            self._started = True
            self.record("audit.start", CONFIGURATION, version=__version__)

    async def stop(self) -> None:
        """Write the queued lines; after a bounded time, log the number of the others."""
        if self._flushing is not None:
            self._flushing.cancel()
        if self._writer is not None and self._started:
            self._record_rejections(all_of_them=True)
            self.record("audit.stop", CONFIGURATION)
            await asyncio.to_thread(self._writer.stop)

    def reopen(self) -> None:
        """Open the file again after logrotate has moved it."""
        if self._writer is not None:
            self._writer.reopen()

    def record(self, action: AuditAction, principal: Principal, outcome: str = OK, /, **values: LineValue) -> None:
        """See `Audit`."""
        if self._writer is not None:
            who: dict[str, LineValue] = {"principal": principal.id, "address": principal.address}
            self._writer.put(self._line(action, who | {"outcome": outcome} | values))

    def reject(self, kind: RejectionKind, /) -> None:
        """See `Audit`."""
        if self._writer is None:
            return
        now = self._clock()
        if self._rejections.add(kind, now):
            self._record_rejection(kind, 1, now)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(WINDOW_S, self._flush)

    @property
    def totals(self) -> Mapping[str, float]:
        """See `Audit`."""
        if self._writer is None:
            return {}
        return {"audit_lines": self._writer.written, "audit_lines_missing": self._writer.missing}

    def _flush(self) -> None:
        self._flushing = None
        self._record_rejections()
        if len(self._rejections):
            self._flushing = asyncio.get_running_loop().call_later(WINDOW_S, self._flush)

    def _record_rejections(self, *, all_of_them: bool = False) -> None:
        for kind, count, since in self._rejections.due(self._clock(), all_of_them=all_of_them):
            self._record_rejection(kind, count, since)

    def _record_rejection(self, kind: RejectionKind, count: int, since: float) -> None:
        values: dict[str, LineValue] = {"status": kind.status, "reason": kind.reason, "attempted": kind.attempted}
        values |= {"count": count} | ({"since": utc(since)} if count > 1 else {})
        self.record("request.reject", Principal(kind.principal, kind.address), REJECTED, **values)

    def _missing_line(self, missing: int, since: float) -> bytes:
        # Called by the writing thread.
        return self._line("audit.missing", {"outcome": FAILED, "count": missing, "since": utc(since)})

    def _line(self, action: AuditAction, values: Mapping[str, LineValue]) -> bytes:
        head: dict[str, LineValue] = {"time": utc(self._clock()), "action": action}
        return line_of(head | dict(values) | self._where | {"seq": next(self._sequence)})
