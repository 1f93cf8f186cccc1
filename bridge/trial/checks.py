"""What a trial judges, and how. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from msgspec import Struct

from bridge.trial.pace import Talkspurt

Name = Literal["connect", "answer", "interruption", "dtmf", "rate", "messages", "hangup"]
NAMES: tuple[Name, ...] = get_args(Name)
"""All checks, in the order of the report."""
CONVERSATION: tuple[Name, ...] = ("answer", "interruption", "dtmf")
"""The checks that the caller's script makes."""
PASSED, FAILED, NOT_JUDGED = "passed", "failed", "not judged"


class Check(Struct, frozen=True):
    """One judgment.

    Args:
        name: one of `NAMES`.
        outcome: ``passed``, ``failed`` or ``not judged``.
        text: what was observed and, after a failure, what was expected.
    """

    name: Name
    outcome: str
    text: str


def rate(spurt: Talkspurt | None, expected: str) -> Check:
    """Judge how fast audio arrives.

    Args:
        spurt: the longest spurt of audio.
        expected: the format that was agreed.
    """
    if spurt is None:
        return Check("rate", NOT_JUDGED, "no second of continuous audio arrived in several messages")
    measured = f"{spurt.ratio:.2f} times real time during {spurt.seconds:.1f} s"
    if spurt.is_real_time:
        return Check("rate", PASSED, f"audio arrives at {measured}")
    if spurt.mistake is not None:
        return Check(
            "rate", FAILED, f"audio arrives at {measured}: another sampling rate or encoding? Expected {expected}"
        )
    if spurt.ratio < 1:
        return Check("rate", FAILED, f"audio arrives at {measured}, so it has holes. Expected {expected} in real time")
    return Check("rate", NOT_JUDGED, f"audio is sent ahead of time: {measured}")


def messages(discarded: Sequence[tuple[str, str]], accepted: int) -> Check:
    """Judge whether all messages were valid.

    Args:
        discarded: descriptions of the invalid messages, and what was expected.
        accepted: number of messages without audio.
    """
    if not discarded:
        return Check("messages", PASSED, f"every message was understood; {accepted} without audio")
    what, expected = discarded[0]
    more = f", and {len(discarded) - 1} more" if len(discarded) > 1 else ""
    return Check("messages", FAILED, f"discarded: {what}{more}. Expected {expected}")


def hangup(took_s: float | None, limit_s: float) -> Check:
    """Judge whether the application closes its side after the caller has hung up.

    Args:
        took_s: time until the WebSocket was closed, in seconds; None: it was not.
        limit_s: the limit.
    """
    if took_s is None:
        return Check("hangup", FAILED, f"the application did not answer the Close frame within {limit_s:g} s")
    return Check("hangup", PASSED, f"the application closed its side after {took_s * 1000:.0f} ms")
