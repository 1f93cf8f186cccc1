"""A server's HTTP response to a WebSocket request, and its description."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from bridge.events.signing import retry_after_s

MAX_BODY_BYTES = 4096
"""Limit for the body of a refusal; the rest is not awaited."""
EXCERPT_CHARS = 200
MAX_RETRY_AFTER_S = 300.0
"""Limit for a server's Retry-After, in seconds: calls are short."""
SECRET_CHARS = 6
"""Minimum length of a secret: hiding shorter strings would make other words unreadable."""


class NotHttp(Exception):
    """The server sent something other than an HTTP response, or an excessive one."""


class ResponseHead(Struct, frozen=True):
    """The head of a response.

    Args:
        status: HTTP status.
        phrase: reason phrase.
        headers: names in lowercase; the last of several counts.
    """

    status: int
    phrase: str
    headers: dict[str, str]

    def upgrade(self) -> bytes:
        """Return the head of a 101 for picows.

        picows 2.3 rejects ``Connection: keep-alive, Upgrade`` and an empty phrase, both of which RFC 9110 allows.
        """
        headers = dict(self.headers)
        if "upgrade" in re.split(r"[\s,]+", headers.get("connection", "").lower()):
            headers["connection"] = "upgrade"
        lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def retry_after_s(self, now: float) -> float:
        """Return the server's Retry-After in seconds; 0 if there is none.

        Args:
            now: seconds since 1970.
        """
        return min(retry_after_s(self.headers.get("retry-after", "")[:EXCERPT_CHARS], now), MAX_RETRY_AFTER_S)

    def words(self, body: bytes, secrets: Iterable[str]) -> str:
        """Return status, phrase and an excerpt of the body, with ``secrets`` hidden that the server may repeat."""
        hidden = {part for secret in secrets for part in (secret, *secret.split()) if len(part) >= SECRET_CHARS}
        text = f"{self.status} {_line(self.phrase, hidden)}".rstrip()
        location = self.headers.get("location", "")
        if 300 <= self.status < 400:
            target = re.split(r"[?#]", location)[0]
            text += f" to {_line(target, hidden)} (redirects are not followed)"
        excerpt = _line(self._text(body), hidden)
        return f"{text}: {excerpt}" if excerpt else text

    def _text(self, body: bytes) -> str:
        if "content-encoding" in self.headers:
            return ""
        text = body[:MAX_BODY_BYTES].decode("utf-8", "replace")
        if "html" in self.headers.get("content-type", "").lower():
            text = re.sub(r"(?is)<(style|script|title)\b.*?(?:</\1>|\Z)|<[^<>]*>", " ", text)
        return text


def _line(text: str, hidden: Iterable[str]) -> str:
    """Return at most 200 characters on one line."""
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 3] + "..."
