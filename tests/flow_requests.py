"""The requests for streams that actions of flows make from their options."""

from __future__ import annotations

from typing import Any

from bridge.flows.actions.streams import ExternalMediaStartOptions, FlowStreamOptions
from bridge.streams.flow_options import ExternalApplication, ExternalServer, StreamStart, StreamStop


def external_media(*, configured: bool = False, **options: Any) -> ExternalApplication | ExternalServer:
    """``external_media_start``."""
    return ExternalMediaStartOptions.model_validate(options).media(configured=configured)


def stream_start(**options: Any) -> StreamStart:
    """``STREAM`` with ``action`` ``start``."""
    request = FlowStreamOptions.model_validate(options).request()
    assert isinstance(request, StreamStart)
    return request


def stream_stop(**options: Any) -> StreamStop:
    """``STREAM`` with ``action`` ``stop``."""
    request = FlowStreamOptions.model_validate({"action": "stop", **options}).request()
    assert isinstance(request, StreamStop)
    return request
