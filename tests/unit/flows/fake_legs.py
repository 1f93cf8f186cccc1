"""Stand-ins for calls that actions work on: legs, players, outbound calls.

Each records what was requested, with the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from bridge.calls.addresses import Address
from bridge.calls.call_record import HangupReason
from bridge.calls.records import Records
from bridge.control.dial_policy import NotAllowed
from bridge.control.dtmf import DigitQueue
from bridge.control.legs import LegEnded
from bridge.control.originate import NotAnswered
from bridge.errors import Overloaded
from tests.fakes.virtual_time import now, pass_time


class FakeLeg:
    """A leg; ``did`` lists the requests to it as (time, what, ...)."""

    def __init__(self, channel_id: str = "call-1", *, answered: bool = True) -> None:
        self.id = channel_id
        self.name = f"PJSIP/{channel_id}"
        self.answered = answered
        self.gone = asyncio.Event()
        self.departure = "the call ended"
        self.cause = 0
        self.bridge_id: str | None = None
        self.digits = DigitQueue()
        self.did: list[tuple[Any, ...]] = []
        self.variables: dict[str, str] = {}
        self.visit_s = 3.0
        self.answered_at = -1.0  # long ago
        self.away: asyncio.Future[None] | None = None

    def note(self, *what: Any) -> None:
        if self.gone.is_set():
            raise LegEnded("gone")
        self.did.append((now(), *what))

    def leave(self) -> None:
        """Hang up as the party does."""
        self.gone.set()

    async def press(self, digits: str, *, after_s: float = 0, between_s: float = 0.1) -> None:
        await pass_time(after_s)
        for digit in digits:
            self.digits.put(digit)
            await pass_time(between_s)

    async def answer(self) -> None:
        self.note("answer")
        self.answered = True

    async def hold_in_bridge(self) -> str:
        if self.gone.is_set():
            raise LegEnded("gone")
        if self.bridge_id is None:
            self.note("hold_in_bridge")
            self.bridge_id = f"bridge-of-{self.id}"
        self.answered = True
        return self.bridge_id

    async def hang_up(self, reason: str = "normal", *, recorded: HangupReason = "") -> None:
        if not self.gone.is_set():
            self.note("hang_up", reason, recorded)
            self.gone.set()
            for _ in range(5):  # the event arrives before the request's response
                await asyncio.sleep(0)

    async def continue_in_dialplan(
        self,
        context: str | None = None,  # noqa: ARG002
        extension: str | None = None,  # noqa: ARG002
        priority: int | None = None,  # noqa: ARG002
    ) -> None:
        self.note("continue")
        self.gone.set()

    async def ring(self) -> None:
        self.note("ring")

    async def ring_stop(self) -> None:
        self.note("ring_stop")

    async def mute(self, direction: str = "in") -> None:
        self.note("mute", direction)

    async def send_digits(self, digits: str, *, duration_ms: int | None = None, between_ms: int | None = None) -> None:
        self.note("send_digits", digits, duration_ms, between_ms)

    async def unless_gone(self, act: Awaitable[Any]) -> Any:
        return await act

    async def visit_dialplan(self, extension: str) -> None:
        self.note("visit_dialplan", extension)
        await pass_time(self.visit_s)

    async def get_variable(self, name: str) -> str:
        return self.variables.get(name, "")


class FakeLegs:
    def __init__(self) -> None:
        self.known: dict[str, FakeLeg] = {}

    def get(self, channel_id: str) -> FakeLeg | None:
        return self.known.get(channel_id)

    def take(self, channel_id: str) -> FakeLeg | None:  # noqa: ARG002
        return None

    async def bridge_together(self, leg: FakeLeg, other: FakeLeg) -> FakePartners:
        other.bridge_id = leg.bridge_id
        return FakePartners(leg, other)


class FakePartners:
    def __init__(self, leg: FakeLeg, other: FakeLeg) -> None:
        self.leg, self.other = self._legs = (leg, other)

    async def peer_left(self) -> FakeLeg:
        waits = [asyncio.ensure_future(each.gone.wait()) for each in self._legs]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return next(each for each in self._legs if each.gone.is_set())


class FakePlayer:
    """Takes as long to play as it sounds."""

    def __init__(self, leg: FakeLeg, heard: list[tuple[Any, ...]]) -> None:
        self._leg = leg
        self._heard = heard
        self._stopped = asyncio.Event()
        self.closed = False

    async def play(self, pcm: bytes, rate: int) -> None:
        began = now()
        self._stopped.clear()
        try:
            async with asyncio.timeout(len(pcm) / 2 / rate):
                await self._stopped.wait()
        except TimeoutError:
            pass
        finally:
            self._heard.append((self._leg.id, began, now(), bytes(pcm[:1])))
        if self._leg.gone.is_set():
            raise LegEnded("gone")

    def stop(self) -> None:
        self._stopped.set()

    async def close(self) -> None:
        self.closed = True
        self.stop()


class FakePlayers:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        """(leg, from, to, first byte): what was heard when."""
        self.made: list[FakePlayer] = []

    def of(self, leg: FakeLeg) -> FakePlayer:
        self.made.append(FakePlayer(leg, self.heard))
        return self.made[-1]


class FakeOutboundCall:
    def __init__(self, leg: FakeLeg, after_s: float, reason: str) -> None:
        self.id = leg.id
        self.leg = leg
        self._after_s = after_s
        self._reason = reason
        self.cancelled_at: float | None = None

    async def answered(self) -> FakeLeg:
        await pass_time(self._after_s)
        if self._reason:
            raise NotAnswered(self._reason)  # type: ignore[arg-type]
        self.leg.answered = True
        return self.leg

    async def cancel(self, *, answered_elsewhere: bool = False) -> None:
        self.cancelled_at = now()
        self.answered_elsewhere = answered_elsewhere
        self.leg.gone.set()


class FakeOriginator:
    """Answers as in ``outcomes`` for a target: (seconds, "" or the reason that nobody answers)."""

    def __init__(self, records: Records) -> None:
        self.outcomes: dict[str, tuple[float, str]] = {}
        self.rung: list[FakeOutboundCall] = []
        self.asked: list[tuple[float, Address, dict[str, Any]]] = []
        self.limit = 100
        self._records = records

    def check(self, destination: Address, source: Address | None = None) -> None:
        if destination.target == "bad":
            raise ValueError("cannot be dialed")
        if source is not None and source.target == "forged":
            raise NotAllowed("source is not allowed")

    async def originate(self, destination: Address, *, groupcall_id: str = "", flow_id: str = "", **how: Any) -> Any:
        self.check(destination)
        if len(self.rung) >= self.limit:
            raise Overloaded("no more")
        self.asked.append((now(), destination, how))
        leg = FakeLeg(f"placed-{len(self.rung) + 1}", answered=False)
        self._records.originated(
            leg.id,
            source=how.get("source") or Address(),
            destination=destination,
            groupcall_id=groupcall_id,
            flow_id=flow_id,
        )
        call = FakeOutboundCall(leg, *self.outcomes.get(destination.target, (1.0, "")))
        self.rung.append(call)
        return call
