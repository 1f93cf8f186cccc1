"""Turns exceptions of the layers below into errors of the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bridge.api.backend import Backend, CallServices
from bridge.api.errors import ApiError, unavailable
from bridge.control.call_control import NotControlled
from bridge.control.legs import LegEnded
from bridge.errors import AriError, Overloaded

RETRY_AFTER_S = 2
_STATES = (404, 409, 412, 422)
"""ARI: the channel does not exist; is in an invalid state; not answered; not in a Stasis application."""
LOST_ARI = "asterisk-bridge is not connected to Asterisk at present, so it cannot report or control calls"


def check_connected(backend: Backend) -> None:
    """Check that the state of calls is known.

    Raises:
        ApiError: 503, Asterisk is not connected.
    """
    if not backend.ari_connected():
        raise unavailable("ASTERISK_UNREACHABLE", LOST_ARI, RETRY_AFTER_S)


def calling(backend: Backend) -> CallServices:
    """Return the services that create and control calls, after checking that Asterisk is connected.

    Raises:
        ApiError: 503, Asterisk is not connected.
    """
    check_connected(backend)
    assert backend.calling is not None  # otherwise its routes do not exist
    return backend.calling


def call_not_found(identity: str) -> ApiError:
    """Return the error for an unknown call: 404."""
    return ApiError(
        404, "CALL_NOT_FOUND", f"no call or channel has the id {identity[:160]!r}; GET /v1.0/calls lists them"
    )


@contextmanager
def acting(parts: CallServices, identity: str) -> Iterator[None]:
    """Convert the exceptions of control of the call ``identity`` into errors of the API."""
    try:
        with asterisk_failing(refused_by_state=True):
            yield
    except KeyError:
        raise _gone(parts, identity) from None
    except LegEnded as error:
        raise ApiError(409, "STATE_INVALID", "the call has just ended") from error
    except NotControlled as error:
        raise ApiError(409, "STATE_INVALID", str(error) or "asterisk-bridge does not control this call") from error


@contextmanager
def asterisk_failing(*, refused_by_state: bool = False) -> Iterator[None]:
    """Convert the exceptions of Asterisk and of internal limits into errors of the API.

    Args:
        refused_by_state: whether 409 is returned if the channel has ended or its state does not allow this.
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
