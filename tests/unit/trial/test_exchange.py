"""What a trial prints of an application's messages."""

from __future__ import annotations

import io

from bridge.trial.exchange import RECEIVED, Exchange


def test_an_application_controls_no_terminal() -> None:
    out = io.StringIO()
    Exchange(out).message(RECEIVED, '{"event": "\x1b]0;owned\x07\x9b2J"}', 0.0)
    assert out.getvalue().rstrip("\n").isprintable()
    assert "\\x1b]0;owned" in out.getvalue()
