"""Subscriptions of a call, and stand-ins for the streams that they start."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from bridge.calls.call import Call, Party
from bridge.config import PbxConfig
from bridge.dialects.base import CallInfo
from bridge.streams.claims import Claims
from bridge.streams.subscription import Subscription
from bridge.streams.subscriptions import Subscriptions


class Stream:
    """Records what its owner does with it."""

    def __init__(self, call: CallInfo) -> None:
        self.call = call
        self.tracks: list[str] = []
        self.ended: str | None = None
        self.code: int | None = None
        self.handover_grace_s: float | None = None

    def set_tracks(self, wanted: Iterable[Any]) -> None:
        self.tracks = [track.info.name for track in wanted]

    def end(self, reason: str, *, code: int | None = None, handover_grace_s: float | None = None) -> None:
        self.ended, self.code, self.handover_grace_s = reason, code, handover_grace_s


class World:
    """A catalog, calls, and the streams that were made."""

    def __init__(self, claims: Claims | None = None, **keys: Any) -> None:
        self.subscription = Subscription(id="s", url="ws://x.example/", **keys)
        self.calls: dict[str, Call] = {}
        self.made: list[Stream] = []
        self.on_ends: list[Any] = []
        catalog = SimpleNamespace(enabled=lambda: (self.subscription,))
        self.subscriptions = Subscriptions(catalog, self, PbxConfig(), self._make, claims)

    def _make(self, _subscription: Subscription, call: CallInfo, _tracks: object, on_end: Any) -> Any:
        self.on_ends.append(on_end)
        self.made.append(Stream(call))
        return self.made[-1]

    def call(self, call_id: str, *parties: Party) -> Call:
        call = Call(call_id, "", answered=True)
        for each in parties:
            call.add(each)
        self.calls[call_id] = call
        return call

    @property
    def running(self) -> list[Stream]:
        return [stream for stream in self.made if stream.ended is None]


def party(endpoint: str, order: int = 1, state: str = "Up") -> Party:
    return Party(f"id-{endpoint}", order, name=f"PJSIP/{endpoint}-00000001", endpoint=endpoint, state=state)
