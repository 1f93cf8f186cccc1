"""Signatures are those of the specification, and Retry-After means what the RFC specifies."""

from __future__ import annotations

import pytest

from bridge.config.webhooks import signing_key
from bridge.events.signing import retry_after_s, signature

NOW = 1_767_225_600.0  # Thu, 01 Jan 2026 00:00:00 GMT


def test_the_example_of_the_reference_implementation() -> None:
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    got = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert got == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_any_other_text_is_the_key_itself() -> None:
    assert signing_key("d2hhdCBpcyBub3QgYmFzZTY0") == b"d2hhdCBpcyBub3QgYmFzZTY0"


@pytest.mark.parametrize("secret", ["whsec_!!!!", "whsec_" + "A" * 28, "whsec_" + "A" * 88])
def test_a_secret_that_only_looks_like_one(secret: str) -> None:
    with pytest.raises(ValueError, match="after whsec_") as caught:
        signing_key(secret)
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("0", 0),
        (" 120 ", 120),
        ("Thu, 01 Jan 2026 00:01:30 GMT", 90),
        ("Wed, 31 Dec 2025 23:59:59 GMT", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("9999999999", 0),
        ("\u0661", 0),
        ("Thu, 99 Jan 2026 00:01:30 GMT", 0),
    ],
)
def test_retry_after(header: str, seconds: float) -> None:
    assert retry_after_s(header, NOW) == seconds
