"""Starts the workers and restarts one that ends; does what only one process can do. It carries no audio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bridge.app.addresses import log_http
from bridge.ari.client import AriClient
from bridge.config import Config
from bridge.media.sockets import bind
from bridge.workers.control import Control
from bridge.workers.handover import HandOver
from bridge.workers.ticket_key import write_ticket_key
from bridge.workers.worker_pool import WorkerPool

log = logging.getLogger(__name__)

STOP_S = 9.0
"""How long the workers may take to end their calls' streams; Docker kills after 10 s."""
KILLED_S = 1.0
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.2, 10.0
STABLE_S = 10.0
"""A worker that lived longer than this is restarted without delay."""
SILENT_S = 30.0
"""A worker reports twice a second; one that sends nothing for this time hangs, and is killed."""
START_S = 60.0
"""The same until its first report."""


class Supervisor:
    """The processes of one instance; an asynchronous context manager, or ``start`` and ``stop``.

    Args:
        config: the configuration.
        path: its file, which the workers read themselves.
        environ: the workers' environment.
        lock: the descriptor of the state file's lock, which they hold as well: they may outlive a supervisor that is
            killed.
    """

    settled = None

    def __init__(
        self, config: Config, path: Path | None, environ: Mapping[str, str], *, lock: int | None = None
    ) -> None:
        self._config = config
        self._path = path
        self._environ = environ
        self._inherited = () if lock is None else (lock,)
        self.pool = WorkerPool(config.ari.app, config.workers.count)
        self.control = Control(self.pool)
        self._client = AriClient(
            config.ari.url,
            config.ari.user,
            config.ari.password.get_secret_value(),
            config.ari.app,
            subscribe_all=False,
            ca_file=config.ari.ca_file,
        )
        self._hand_over = HandOver(self._client, self.pool, self.control, config.streams.state_file)
        self.control.on_ready = self._hand_over.worker_ready
        self._all_there = asyncio.Event()
        """Every worker listens, or one cannot."""
        self.control.on_joined = self._joined
        self.control.on_gone = self._hand_over.worker_gone
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._to_reload: set[int] = set()
        """Workers that must read the configuration again once they are up."""
        self._tasks: list[asyncio.Task[None]] = []
        self._reserved: list[socket.socket] = []
        self._stopping = False
        self._been_up: set[int] = set()
        """Workers that have been up: their ports and the configuration are valid."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.ended = asyncio.Event()
        """A worker cannot start: a port is in use, or the configuration has changed and is invalid."""

    def log_addresses(self) -> None:
        """Log the HTTP address that the workers share."""
        log_http(self._config, self.http_port)

    async def reload(self, _: Config) -> None:
        """Notify the workers to read the configuration again, which has been checked."""
        self._to_reload = set(self._processes)
        self._forward_reload()

    def _forward_reload(self) -> None:
        # A worker that does not handle the signal yet would be ended by it.
        for number in self._to_reload & set(self.pool.workers):
            self._to_reload.discard(number)
            _signal(self._processes[number], signal.SIGHUP)

    async def drain(self) -> None:
        """Drain and stop the workers, and wait for their end; new calls continue in the dialplan."""
        if not self._config.restart.drain_s:
            return
        self._stopping = True
        self._hand_over.draining = True
        self._end_workers()
        await asyncio.gather(*(process.wait() for process in self._processes.values()))

    def _end_workers(self) -> None:
        for process in self._processes.values():
            _signal(process, signal.SIGTERM)

    def abandon(self) -> None:
        """Kill the workers."""
        for process in self._processes.values():
            _signal(process, signal.SIGKILL)

    @property
    def http_port(self) -> int:
        """The port that the workers share."""
        return int(self._reserved[0].getsockname()[1])

    async def start(self) -> None:
        """Start the workers, wait until they listen, and begin to connect to Asterisk.

        Raises:
            OSError: a port cannot be bound, or there is no directory for temporary files.
        """
        await self._reserve()
        self._folder = tempfile.TemporaryDirectory(prefix="asterisk-bridge-")  # mode 0700
        write_ticket_key(self._control_path)
        await self.control.start(self._control_path)
        for number in range(1, self.pool.count + 1):
            self._tasks.append(asyncio.create_task(self._keep(number), name=f"worker {number}"))
        self._tasks.append(asyncio.create_task(self._watch(), name="watch workers"))
        await self._client.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._all_there.wait()

    async def stop(self) -> None:
        """End the workers as SIGTERM does, and kill those that take too long."""
        self._stopping = True
        await self._hand_over.stop()
        self._end_workers()
        await self._wait(STOP_S)
        for number, process in self._processes.items():
            if process.returncode is None:
                log.error("worker does not stop, killed worker=%d", number)
                _signal(process, signal.SIGKILL)
        await self._wait(KILLED_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.stop()
        await self.control.stop()
        for reserved in self._reserved:
            reserved.close()
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def _control_path(self) -> Path:
        assert self._folder is not None  # `start` has created it
        return Path(self._folder.name) / "control"

    async def _reserve(self) -> None:
        """Hold the HTTP port without listening, to prevent other programs from using it while a worker restarts.

        First without sharing it: its user must not be another instance that shares it with its own workers.
        """
        http = self._config.http
        for each in await bind(http.host, http.port):
            each.close()
        self._reserved = await bind(http.host, http.port, shared=True)

    async def _keep(self, number: int) -> None:
        """Run one worker, and restart it when it ends."""
        loop = asyncio.get_running_loop()
        wait_s = BACKOFF_FIRST_S
        while not self._stopping:
            began = loop.time()
            process = await self._launch(number)
            code = await process.wait()
            lived_s = loop.time() - began
            if self._stopping:
                return
            if code in (1, 2) and number not in self._been_up:
                self.ended.set()  # it has logged why
                self._all_there.set()
                return
            log.error("worker ended worker=%d pid=%d reason=%s seconds=%.0f", number, process.pid, _how(code), lived_s)
            wait_s = BACKOFF_FIRST_S if lived_s > STABLE_S else min(wait_s * 2, BACKOFF_LAST_S)
            self.control.count_restart(number)
            await asyncio.sleep(0.0 if lived_s > STABLE_S else wait_s)

    def _joined(self) -> None:
        self._been_up |= set(self.pool.workers)
        self._forward_reload()
        if len(self.pool.workers) == self.pool.count:
            self._all_there.set()

    async def _launch(self, number: int) -> asyncio.subprocess.Process:
        where = ["--config", str(self._path)] if self._path else []
        port = str(self.http_port)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "serve", *where),
            *("--worker", str(number), "--control", str(self._control_path), "--http-port", port),
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=self._inherited,
            process_group=0,  # Ctrl-C is for the supervisor, which forwards it once
        )
        self._processes[number] = process
        self.control.heard_at.pop(number, None)
        log.info("worker started worker=%d pid=%d", number, process.pid)
        return process

    async def _watch(self) -> None:
        """Kill a worker that hangs; it is restarted."""
        loop = asyncio.get_running_loop()
        born: dict[int, float] = {}
        while True:
            await asyncio.sleep(1)
            for number, process in self._processes.items():
                began = born.setdefault(process.pid, loop.time())
                heard = self.control.heard_at.get(number)
                silent = loop.time() - heard > SILENT_S if heard is not None else loop.time() - began > START_S
                if silent and process.returncode is None and not self._stopping:
                    log.error("worker hangs, killed worker=%d pid=%d", number, process.pid)
                    _signal(process, signal.SIGKILL)

    async def _wait(self, seconds: float) -> None:
        running = [process.wait() for process in self._processes.values() if process.returncode is None]
        if running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await asyncio.gather(*running)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
