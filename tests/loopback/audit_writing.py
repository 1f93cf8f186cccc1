"""Processes that write an audit log: ``python -m tests.loopback.audit_writing HOW OUTPUT COUNT``.

Each is a process of its own: the tests are about a process's limits, its standard output and its death.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time

from bridge.access import Principal
from bridge.audit import AuditLog
from bridge.config import AuditConfig

CRM = Principal("crm", "192.0.2.7")
FILE_LIMIT = 4096


async def write(how: str, output: str, count: int) -> None:
    """Record ``count`` actions.

    Args:
        how: ``plainly``; ``on a full disk``, which has room again when a line is sent to standard input; ``unread``:
            standard output is not read before this reports that all is recorded.
    """
    audit = AuditLog(AuditConfig(output=output), node="n", worker=int(how == "plainly"))
    audit.start()
    if how == "on a full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, resource.RLIM_INFINITY))
    began = time.monotonic()
    for number in range(count):
        audit.record("call.hangup", CRM, call=f"{number}", party="x" * 200)
        if number % 100 == 0:
            await asyncio.sleep(0)
    took_s = time.monotonic() - began
    print(f"recorded {took_s:.3f}", file=sys.stderr, flush=True)
    if how != "plainly":
        await asyncio.to_thread(sys.stdin.readline)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        while sum(audit.totals.values()) <= count:
            await asyncio.sleep(0.01)
    print(f"missing {audit.totals['audit_lines_missing']}", file=sys.stderr, flush=True)
    await audit.stop()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3])))
