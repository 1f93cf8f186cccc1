"""The supported part of Plivo's API: hanging up a call."""

from bridge.api.models.base import Shown


class PlivoError(Shown):
    """An error in Plivo's shape."""

    error: str
