"""How log records are written: one line each, as text or as JSON, to standard error."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import TextIO

from bridge.config import LogConfig

# The fields that the bridge writes into its messages ("call=... stream=..."): in JSON they become keys of their own.
_FIELD = re.compile(r"\b(worker|call|party|stream|uuid|peer|request)=(\S+)")


class TextFormatter(logging.Formatter):
    """``2026-11-21T10:00:00.123Z INFO bridge.streams call=.. stream=.. opened``."""

    def format(self, record: logging.LogRecord) -> str:
        # A caller's name or a peer's answer may hold line breaks; they must not look like log lines of ours.
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = f"{_utc(record)} {record.levelname} {record.name} {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the message's fields, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        entry = {"time": _utc(record), "level": record.levelname.lower(), "logger": record.name, "message": message}
        entry.update(_FIELD.findall(message))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_up(config: LogConfig, stream: TextIO | None = None, worker: int = 0) -> None:
    """Send every record of at least ``config.level`` to ``stream`` (standard error); ``worker``: whose they are."""
    output = logging.StreamHandler(stream or sys.stderr)
    output.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    if worker:
        output.addFilter(lambda record: _of_worker(record, worker))
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(config.level.upper())
    # These tell of every connection, and picows and aiohttp would repeat URLs, which may hold a token.
    for name in ("aiohttp", "asyncio", "picows", "websockets"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _of_worker(record: logging.LogRecord, worker: int) -> bool:
    record.msg = f"worker={worker} {record.msg}"
    return True


def _utc(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"
