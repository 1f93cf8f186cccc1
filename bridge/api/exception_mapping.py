"""Turns exceptions of the layers below into errors of the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bridge.api.backend import Backend, CallServices
from bridge.api.errors import ApiError, unavailable
from bridge.control.call_control import NotOurs
from bridge.control.legs import LegGone
from bridge.errors import AriError, Overloaded

RETRY_AFTER_S = 2
_STATES = (404, 409, 412, 422)
"""ARI: there is no such channel; it is in an invalid state; not answered; not in a Stasis application."""
LOST_ARI = "the bridge has no connection to Asterisk at the moment, so it does not know which calls there are"


def check_connected(backend: Backend) -> None:
    """Whether anything is known about calls.

    Raises:
        ApiError: 503, it is not.
    """
    if not backend.ari_connected():
        raise unavailable("ASTERISK_UNREACHABLE", LOST_ARI, RETRY_AFTER_S)


def calling(backend: Backend) -> CallServices:
    """What places calls and acts on them, now that Asterisk is there.

    Raises:
        ApiError: 503, it is not.
    """
    check_connected(backend)
    assert backend.calling is not None  # or its routes would not be there
    return backend.calling


def call_not_found(identity: str) -> ApiError:
    """404."""
    return ApiError(
        404, "CALL_NOT_FOUND", f"no call or channel has the id {identity[:160]!r}; GET /v1.0/calls lists them"
    )


@contextmanager
def acting(parts: CallServices, identity: str) -> Iterator[None]:
    """Turn what acts on the call ``identity`` raise into errors of the API."""
    try:
        with asterisk_failing(refused_by_state=True):
            yield
    except KeyError:
        raise _gone(parts, identity) from None
    except LegGone as error:
        raise ApiError(409, "STATE_INVALID", "the call has just ended") from error
    except NotOurs as error:
        raise ApiError(409, "STATE_INVALID", str(error) or "the bridge does not control this call") from error


@contextmanager
def asterisk_failing(*, refused_by_state: bool = False) -> Iterator[None]:
    """Turn what Asterisk and our own limits raise into errors of the API.

    Args:
        refused_by_state: that the channel is gone or cannot do this now is 409, not a failure of Asterisk's.
    """
    try:
        yield
    except Overloaded as error:
        raise unavailable("OVERLOADED", str(error), error.retry_after_s) from error
    except AriError as error:
        if refused_by_state and error.status in _STATES:
            gone = "the call has just ended" if error.status == 404 else f"Asterisk: {error.message}"
            raise ApiError(409, "STATE_INVALID", gone) from error
        raise unavailable("ASTERISK_FAILED", f"Asterisk: {error.message}", RETRY_AFTER_S) from error


def _gone(parts: CallServices, identity: str) -> ApiError:
    record = parts.records.get(identity)
    if record is not None and record.ended:
        return ApiError(409, "STATE_INVALID", "the call has ended")
    return call_not_found(identity)
