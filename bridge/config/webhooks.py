"""The tables of webhooks: servers that receive events, how retries work, and the secret of the signature."""

import base64
import binascii
import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from bridge.config.endpoint import Switch, TlsServer
from bridge.config.values import Slug, split_url
from bridge.patterns import Patterns

EVENT_TYPES = (
    *("call_created", "call_ringing", "call_progressing", "call_updated", "call_hangup"),
    *("call_joined", "call_left"),
    *("flow_started", "flow_action", "flow_ended"),
    *("stream_started", "stream_connected", "stream_ended"),
    *("transcript_created", "transcribe_speech_interim"),
    *("conference_created", "conference_joined", "conference_left", "conference_deleted"),
    *("recording_started", "recording_finished"),
    *("sensitive_started", "sensitive_ended"),
    *("tool_called", "tool_ended"),
    "dtmf_received",
)
"""Every type of event. ``docs/reference/events.md`` shows the data of each."""

OPT_IN = frozenset({"dtmf_received", "transcript_created", "transcribe_speech_interim", "tool_called", "tool_ended"})
"""Types that no pattern matches: a receiver gets them only by name. They hold digits, which may be a PIN, or words."""

SECRET_PREFIX = "whsec_"
"""The prefix of a secret in the notation of Standard Webhooks: base64 follows."""
SECRET_BYTES = range(24, 65)
"""The length of such a secret, according to the specification."""
MIN_SECRET_CHARACTERS = 16


def check_event_pattern(pattern: str) -> str:
    """Check a pattern of ``fnmatch`` that matches at least one type of event: ``*``, ``call_*``, ``flow_ended``.

    Raises:
        ValueError: it matches none.
    """
    if len(pattern) > 100 or not any(map(EventPatterns((pattern,)).match, EVENT_TYPES)):
        opt_in = f"{', '.join(sorted(OPT_IN))} must be named in full"
        raise ValueError(f"{pattern[:100]!r} matches no event type; expected {', '.join(EVENT_TYPES)}; {opt_in}")
    return pattern


def signing_key(secret: str) -> bytes:
    """Return the bytes of a secret: base64 after ``whsec_``, any other string is used as it is.

    Raises:
        ValueError: a message without the secret.
    """
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"must have base64 after {SECRET_PREFIX}") from None
    if len(key) not in SECRET_BYTES:
        low, high = SECRET_BYTES[0], SECRET_BYTES[-1]
        raise ValueError(f"has {len(key)} bytes after {SECRET_PREFIX}; expected {low} to {high}")
    return key


def check_optional_secret(secret: SecretStr) -> SecretStr:
    """Check a secret that may be empty."""
    return check_secret(secret) if secret.get_secret_value() else secret


def check_secret(secret: SecretStr) -> SecretStr:
    """Check a secret that signs requests."""
    text = secret.get_secret_value()
    if len(text) < MIN_SECRET_CHARACTERS or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError(
            f"must be at least {MIN_SECRET_CHARACTERS} ASCII characters without spaces; create one with:"
            f" echo {SECRET_PREFIX}$(openssl rand -base64 32)"
        )
    signing_key(text)
    return secret


def _check_url(url: str) -> str:
    split_url(url, ("http", "https"), "https://app.example.org/events", "the signature authenticates the sender")
    return url


class EventPatterns(Patterns):
    """Patterns of types of events."""

    @classmethod
    def check(cls, pattern: str) -> str:
        """Return a pattern that matches at least one type of event."""
        return check_event_pattern(pattern)

    def match(self, name: str) -> bool:
        """Return whether a pattern matches a type of event; those of `OPT_IN` only by their full name."""
        return name in self if name in OPT_IN else super().match(name)


RetryS = Annotated[float, Field(ge=0.05, le=86_400, description="a number of seconds from 0.05 to 86400")]


class WebhookConfig(TlsServer):
    """A server that receives events by POST requests, signed as Standard Webhooks specifies."""

    id: Slug
    """Names it in logs, metrics and environment variables."""
    url: Annotated[str, AfterValidator(_check_url), Field(description="an http:// or https:// URL")]
    """Server that receives the events; no user name or password in it. Redirects are not followed."""
    secret: Annotated[SecretStr, AfterValidator(check_secret), Field(description="a string")]
    """Signs every request: `whsec_` and base64 of 24 to 64 bytes, or any string of at least 16 characters."""
    enabled: Switch = True
    """`false`: nothing is sent."""
    events: Annotated[
        EventPatterns,
        Field(min_length=1, description='a list of at least one string, for example ["call_*", "flow_ended"]'),
    ] = EventPatterns(("*",))
    """Patterns of the types of events that it receives. No pattern includes digits, transcripts and tools: name these
    types in full."""
    timeout_s: Annotated[float, Field(ge=0.1, le=120, description="a number of seconds from 0.1 to 120")] = 10.0
    """How long one attempt may take, connecting included."""
    retry_first_s: RetryS = 1.0
    """Approximate wait before the second attempt; doubled before each further one."""
    retry_last_s: RetryS = 60.0
    """Longest wait, unless the server requests a longer one (`Retry-After`)."""
    give_up_s: RetryS = 3600.0
    """An event older than this is not sent again."""
    max_queued_events: Annotated[int, Field(ge=1, le=1_000_000, description="a number from 1 to 1000000")] = 10_000
    """Events that may wait, of at most 64 MiB together; beyond it the oldest is dropped and counted."""
