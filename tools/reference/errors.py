"""Reasons of errors of the HTTP API."""

from __future__ import annotations

from bridge.api.errors import REASONS, STATUS_WORDS


def table() -> str:
    """Return all reasons, by HTTP status."""
    rows = ["| HTTP | `status` | `reason` | meaning |", "|---|---|---|---|"]
    for reason, (status, meaning) in sorted(REASONS.items(), key=lambda each: each[1][0]):
        rows.append(f"| {status} | `{STATUS_WORDS[status]}` | `{reason}` | {meaning} |")
    return "\n".join(rows)
