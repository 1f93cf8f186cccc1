"""The audit log: who received or sent audio, dialed, recorded and changed what, one JSON line for each.

docs/reference/audit-log.md describes the lines.

actions.py     the actions that are recorded, by name
line.py        one line: its content and its bounds; pure
rejections.py  rejected requests, counted to keep a flood of them short; pure
writer.py      the thread that writes lines, and counts those that it cannot
log.py         the interface of the other packages
"""

from bridge.audit.actions import ACTIONS, AuditAction
from bridge.audit.line import LineValue
from bridge.audit.log import FAILED, NO_AUDIT, OK, REJECTED, Audit, AuditLog
from bridge.audit.rejections import RejectionKind

__all__ = [
    "ACTIONS",
    "FAILED",
    "NO_AUDIT",
    "OK",
    "REJECTED",
    "Audit",
    "AuditAction",
    "AuditLog",
    "LineValue",
    "RejectionKind",
]
