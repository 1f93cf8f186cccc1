"""A stream whose client requests changes of its call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.streams.origin import Origin


@dataclass
class OpenStream:
    """A stream that a client has opened on the call ``c1`` (`Stream`)."""

    origin: Origin
    queued_ms: float = 0.0
    ended: bool = False
    stream_id: str = "s1"
    answers: list[tuple[str, Mapping[str, Any], str]] = field(default_factory=list)

    def request_answered(self, name: str, answer: Mapping[str, Any], error: str = "") -> None:
        self.answers.append((name, answer, error))
