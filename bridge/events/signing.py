"""Signatures of webhooks and other requests, and the meaning of ``Retry-After`` in responses. Pure.

Source: Standard Webhooks 1.0, https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC
from email.utils import parsedate_to_datetime


def signature(key: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``: ``v1,`` and base64 of HMAC-SHA256 over ``id.timestamp.body``.

    Args:
        key: the key of the secret (`bridge.config.webhooks.signing_key`).
        event_id: the header ``webhook-id``.
        timestamp: the header ``webhook-timestamp``, seconds since 1970.
        body: the request's body, byte for byte.
    """
    signed = b".".join((event_id.encode(), str(timestamp).encode(), body))
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


def signed_headers(key: bytes, event_id: str, timestamp: float, body: bytes) -> dict[str, str]:
    """Return the headers of a signed request; arguments as for `signature`."""
    seconds = int(timestamp)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": signature(key, event_id, seconds, body),
    }


def retry_after_s(header: str, now: float) -> float:
    """Return the seconds of ``Retry-After`` (RFC 9110 section 10.2.3: seconds or a date); 0 if there are none.

    Args:
        header: the header's value, "" if there was none.
        now: seconds since 1970.
    """
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0
    return max(0.0, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now)
