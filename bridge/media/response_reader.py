"""Reads a server's HTTP response to a WebSocket request with h11, within limits.

A separate module: importing h11 takes 45 ms of CPU, which would delay calls at the start (``bridge.app.preload``).
"""

from __future__ import annotations

import h11

from bridge.media.response_head import MAX_BODY_BYTES, NotHttp, ResponseHead

MAX_HEAD_BYTES = 16384
"""Limit for the head of the response plus all informational responses (1xx) before it."""
MAX_INFORMATIONAL = 8
"""Limit of skipped informational responses: servers send at most one."""
MAX_BODY_PARTS = 256
"""Limit of chunks of a refusal's body: h11 takes 15 us for each."""

_UPGRADE = h11.Request(
    method="GET", target="/", headers=[("Host", ""), ("Connection", "upgrade"), ("Upgrade", "websocket")]
)
"""Makes h11 expect a 101 response; picows writes the actual request."""


class AnswerReader:
    """Reads one final response."""

    def __init__(self) -> None:
        self.answer: ResponseHead | None = None
        """The head of the response, once it has arrived."""
        self.body = b""
        """Body of a refusal so far, or the beginning of the WebSocket's frames after 101."""
        self.complete = False
        """Whether the body has ended or reached its limit."""
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._parser.send(_UPGRADE)
        self._parser.send(h11.EndOfMessage())
        self._head = b""  # the first bytes
        self._head_bytes = 0
        self._informational = 0
        self._parts = 0

    def feed(self, data: bytes) -> None:
        """Parse received data.

        Raises:
            NotHttp: the data is not a valid response.
        """
        if self.answer is None:
            head, data = data[: MAX_HEAD_BYTES - self._head_bytes], data[MAX_HEAD_BYTES - self._head_bytes :]
            self._head_bytes += len(head)
            self._head = (self._head + head)[:5]
            if not b"HTTP/".startswith(self._head):
                raise NotHttp("the server's response is not HTTP")
            if head:  # h11 takes empty data as the end of the connection
                self._parse(head)
            if self.answer is None and data:
                raise NotHttp(f"the head of the server's response exceeds {MAX_HEAD_BYTES} bytes")
        if data and self.answer is not None and self.answer.status == 101:
            self.body += data
        elif data and not self.complete:
            self._parse(data[:MAX_BODY_BYTES])

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.receive_data(data)
            while not self.complete:
                event = self._parser.next_event()
                if isinstance(event, type):  # h11.NEED_DATA, h11.PAUSED
                    return
                self._take(event)
        except h11.RemoteProtocolError:
            if self.answer is None:
                raise NotHttp("the server's response is not HTTP/1.1") from None
            self.complete = True

    def _take(self, event: h11.Event) -> None:
        if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise NotHttp(f"the server sent more than {MAX_INFORMATIONAL} responses 1xx without a final one")
        elif isinstance(event, h11.Response | h11.InformationalResponse):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            self.answer = ResponseHead(event.status_code, event.reason.decode("latin-1"), headers)
            if event.status_code == 101:
                self.body = self._parser.trailing_data[0]
                self.complete = True
        elif isinstance(event, h11.Data):
            self.body += event.data
            self._parts += 1
            self.complete = len(self.body) >= MAX_BODY_BYTES or self._parts >= MAX_BODY_PARTS
        else:
            self.complete = True
