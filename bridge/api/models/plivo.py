"""The supported part of Plivo's API: hanging up a call."""

from __future__ import annotations

from bridge.api.models.base import Shown


class PlivoError(Shown):
    """An error in Plivo's shape."""

    error: str
