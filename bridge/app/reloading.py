"""Reload at SIGHUP: the configuration is read again, and what can change at run time is applied."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from bridge.config import Config, each_error
from bridge.errors import ConfigError

log = logging.getLogger(__name__)


class Reloadable(Protocol):
    """The application, one worker of it, or the supervisor."""

    async def reload(self, config: Config) -> None:
        """Apply the settings that can change at run time.

        Raises:
            ConfigError: the configuration is invalid, and nothing has changed.
        """


class Reloading:
    """Reads the configuration again at SIGHUP, in a thread, and passes it to the service.

    Args:
        service: applies it.
        read: reads it; None: there is no configuration to read.
    """

    def __init__(self, service: Reloadable, read: Callable[[], Config] | None) -> None:
        self._service = service
        self._read = read
        self._started = False
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def start(self) -> None:
        """Apply signals from now on; reload immediately if one has arrived before."""
        self._started = True
        if self._again:
            self.begin()

    def begin(self) -> None:
        """Reload now, or once more after the reload in progress."""
        if self._read is None:
            log.info("SIGHUP ignored, there is no configuration to read")
        elif not self._started or (self._task is not None and not self._task.done()):
            self._again = True
        else:
            self._again = False
            self._task = asyncio.create_task(self._reload(self._read), name="reload")
            self._task.add_done_callback(lambda _: self.begin() if self._again else None)

    def stop(self) -> None:
        """Stop reloading."""
        self._started = self._again = False
        if self._task is not None:
            self._task.cancel()

    async def _reload(self, read: Callable[[], Config]) -> None:
        try:
            config = await asyncio.to_thread(read)
            await self._service.reload(config)
        except ConfigError as problem:
            for error in each_error(problem):
                log.error("reload failed, nothing has changed error=%s", error)
        except Exception:
            log.exception("reload failed with an internal error")
        else:
            logging.getLogger().setLevel(config.log.level.upper())
            log.info("configuration reloaded")
