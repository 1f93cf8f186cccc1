"""The actions that the audit log records."""

from __future__ import annotations

from typing import Literal, get_args

AuditAction = Literal[
    # calls
    "call.originate",
    "call.hangup",
    "call.hold",
    "call.resume",
    "call.mute",
    "call.unmute",
    "call.moh",
    "call.moh_stop",
    "call.silence",
    "call.silence_stop",
    "call.talk",
    "call.play",
    "call.dtmf",
    "call.transfer",
    "call.update",
    "call.sensitive",
    "call.sensitive_end",
    "tool.call",
    # audio and events
    "stream.start",
    "stream.end",
    "events.start",
    "events.end",
    # recordings
    "recording.start",
    "recording.stop",
    "recording.end",
    "recording.download",
    "recording.delete",
    # conferences
    "conference.create",
    "conference.delete",
    "conference.kick",
    "conference.mute",
    "conference.unmute",
    # settings
    "subscription.create",
    "subscription.replace",
    "subscription.modify",
    "subscription.delete",
    # access
    "ticket.create",
    "tokens.reload",
    "tokens.revoke",
    "request.reject",
    # the log itself
    "audit.start",
    "audit.stop",
    "audit.missing",
]
"""An action that was done or attempted: the object, a period, the verb."""

ACTIONS: frozenset[AuditAction] = frozenset(get_args(AuditAction))
