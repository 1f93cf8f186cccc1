"""The audit log: who listened, spoke, dialed, recorded and changed what, one JSON line for each.

docs/reference/audit-log.md describes the lines.

actions.py     the actions that are recorded, by name
line.py        one line: what is in it, and how long it may be; pure
rejections.py  rejected requests, counted so that a flood of them is a few lines; pure
writer.py      the thread that writes lines, and counts those that it cannot
log.py         what the rest of the bridge records with
"""

from bridge.audit.actions import ACTIONS, Action
from bridge.audit.line import Value
from bridge.audit.log import FAILED, NO_AUDIT, OK, REJECTED, Audit, AuditLog
from bridge.audit.rejections import Kind

__all__ = ["ACTIONS", "FAILED", "NO_AUDIT", "OK", "REJECTED", "Action", "Audit", "AuditLog", "Kind", "Value"]
