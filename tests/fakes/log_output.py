"""The log as a bridge writes it, in memory."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

from bridge import logs
from bridge.config import LogConfig


@contextlib.contextmanager
def log_output(**config: Any) -> Iterator[io.StringIO]:
    """Write all records to memory within the context.

    Args:
        config: as in ``[log]``.
    """
    root, output = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    logs.set_up(LogConfig(**config), output)
    try:
        yield output
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
