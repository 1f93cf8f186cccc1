"""Measure what a start costs: CPU seconds of ``check``, and of ``serve`` until its first successful ``GET /health``.

    python tests/load/startup.py OLD [--rounds 5]

OLD is a second checkout; it runs with this interpreter and this checkout's dependencies. Both start in turns, against
an ARI of this process that has no calls. User and system time of the child process are counted. The best round
of each is compared: other programs can only make a start more expensive.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import ClientError, ClientSession, web

HERE = Path(__file__).parents[2]
START_S = 60.0


def check_cpu_s(checkout: Path, environ: dict[str, str]) -> float:
    """Return the CPU seconds of one ``asterisk-bridge check``."""
    process = subprocess.Popen(_command("check"), cwd=checkout, env=environ, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"check failed in {checkout}: {process.returncode}")
    return usage.ru_utime + usage.ru_stime


async def serve_cpu_s(checkout: Path, environ: dict[str, str], session: ClientSession) -> tuple[float, float]:
    """Return the CPU seconds, and the seconds, of ``asterisk-bridge serve`` until its first healthy answer."""
    port = int(environ["ASTERISK_BRIDGE_HTTP__PORT"])
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(*_command("serve"), cwd=checkout, env=environ)
    try:
        while time.monotonic() - began < START_S:
            if process.returncode is not None:
                raise SystemExit(f"serve ended in {checkout}: {process.returncode}")
            try:
                async with session.get(f"http://127.0.0.1:{port}/health") as answer:
                    if answer.status == 200:
                        return _threads_cpu_s(process.pid), time.monotonic() - began
            except ClientError:
                pass
            await asyncio.sleep(0.02)
        raise SystemExit(f"serve was not healthy within {START_S:g} s in {checkout}")
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", "bridge", name]


def _threads_cpu_s(pid: int) -> float:
    """Return what all threads of a process have run; unlike ``/proc/PID/stat`` it is not rounded to 10 ms."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


@contextmanager
def _environment(checkout: Path, ari_port: int, http_port: int) -> Iterator[dict[str, str]]:
    with TemporaryDirectory() as state:
        yield {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(checkout),
            "STATE_DIRECTORY": state,
            "ASTERISK_BRIDGE_ARI__URL": f"http://127.0.0.1:{ari_port}",
            "ASTERISK_BRIDGE_ARI__USER": "startup",
            "ASTERISK_BRIDGE_ARI__PASSWORD": "startup",
            "ASTERISK_BRIDGE_HTTP__PORT": str(http_port),
            "ASTERISK_BRIDGE_AUDIOSOCKET__BIND_PORT": "0",
            "ASTERISK_BRIDGE_LOG__LEVEL": "error",
            "ASTERISK_BRIDGE_AUDIT__OUTPUT": "off",
        }


class EmptyAri:
    """An ARI whose PBX has no calls."""

    def __init__(self) -> None:
        self.port = 0

    async def start(self) -> None:
        """Listen on any free port of loopback."""
        app = web.Application()
        app.router.add_get("/ari/events", self._events)
        app.router.add_route("*", "/ari/{rest:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self._events_open = 0

    async def _events(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("ari",))
        await socket.prepare(request)
        self._events_open += 1
        async for _ in socket:
            pass
        self._events_open -= 1
        return socket

    async def _answer(self, request: web.Request) -> web.Response:
        if request.path.startswith("/ari/applications/"):
            return web.json_response({"name": "bridge"}, status=200 if self._events_open else 404)
        return web.json_response([])


async def main() -> None:
    """Measure in turns, and print each round and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ari = EmptyAri()
    await ari.start()
    best: dict[str, list[float]] = {}
    async with ClientSession() as session:
        for round_number in range(options.rounds + 1):
            for name, checkout in (("old", options.old.resolve()), ("new", HERE)):
                with _environment(checkout, ari.port, _free_port()) as environ:
                    check = check_cpu_s(checkout, environ)
                    serve, elapsed = await serve_cpu_s(checkout, environ, session)
                if round_number == 0:  # it compiles what has changed
                    continue
                print(f"{name}: check {check:.3f} s of CPU, serve {serve:.3f} s of CPU in {elapsed:.2f} s", flush=True)
                lowest = best.setdefault(name, [check, serve])
                best[name] = [min(lowest[0], check), min(lowest[1], serve)]
    for index, what in enumerate(("check", "serve until the first /health")):
        old, new = best["old"][index], best["new"][index]
        print(f"{what}: {old:.3f} s -> {new:.3f} s of CPU, {new / old:.2f} of the old")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    asyncio.run(main())
