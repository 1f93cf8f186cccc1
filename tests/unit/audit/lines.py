"""An audit log whose lines tests read immediately."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.access import Principal
from bridge.audit import AuditAction, RejectionKind

Line = tuple[AuditAction, Principal, str, dict[str, Any]]


class Lines:
    """Keeps what is recorded (`bridge.audit.Audit`)."""

    totals: Mapping[str, float] = {}

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.rejected: list[RejectionKind] = []

    def record(self, action: AuditAction, principal: Principal, outcome: str = "ok", /, **values: Any) -> None:
        self.lines.append((action, principal, outcome, values))

    def reject(self, kind: RejectionKind, /) -> None:
        self.rejected.append(kind)

    def the_only(self) -> Line:
        """Return the only line."""
        (line,) = self.lines
        assert self.rejected == []
        return line
