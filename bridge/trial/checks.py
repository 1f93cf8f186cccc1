"""What a trial judges, and how. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from bridge.audio.arrival import another_format
from bridge.trial import CheckName
from bridge.trial.pace import Talkspurt

CONVERSATION: tuple[CheckName, ...] = ("answer", "interruption", "dtmf")
"""The checks that the caller's script makes."""
PASSED, FAILED, NOT_JUDGED = "passed", "failed", "not judged"


class Check(Struct, frozen=True):
    """One judgment.

    Args:
        name: one of `bridge.trial.CHECKS`.
        outcome: ``passed``, ``failed`` or ``not judged``.
        text: what was observed and, after a failure, what was expected.
    """

    name: CheckName
    outcome: str
    text: str


CONTINUOUS = 0.8
"""Share of the conversation above which one talkspurt cannot be an answer that is sent ahead of time."""


def rate(spurt: Talkspurt | None, conversation_s: float, agreed_rate: int, expected: str) -> Check:
    """Judge how fast audio arrives.

    Too slow is always wrong. Twice as fast may be a usual rate taken for another, but also an answer that is sent ahead
    of time: some frameworks send at exactly this pace. Audio that never pauses is not an answer.

    Args:
        spurt: the longest talkspurt.
        conversation_s: how long audio could arrive, in seconds.
        agreed_rate: the sampling rate that was agreed, in Hz.
        expected: the format that was agreed.
    """
    if spurt is None:
        return Check("rate", NOT_JUDGED, "no second of continuous audio arrived in several messages")
    measured = f"{spurt.ratio:.2f} times real time during {spurt.seconds:.1f} s"
    if spurt.is_real_time:
        return Check("rate", PASSED, f"audio arrives at {measured}")
    if spurt.ratio > 1 and spurt.seconds < CONTINUOUS * conversation_s:
        return Check("rate", NOT_JUDGED, f"answers are sent ahead of time, at {measured}")
    if found := another_format(spurt.ratio, agreed_rate):
        why = f"audio arrives at {measured}, as {found} would."
    elif spurt.ratio < 1:
        why = f"audio arrives at {measured}, so it has holes."
    else:
        why = f"audio arrives at {measured} without a pause, so ever more of it waits."
    return Check("rate", FAILED, f"{why} Expected {expected}")


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
