"""The Python environment of the voice agents: separate, because a framework's pins are not the project's."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import aiohttp

from bridge.errors import BridgeError
from bridge.testing.lab_engine import free_port
from bridge.testing.packages import cache_folder
from bridge.testing.processes import BackgroundProgram

ROOT = Path(__file__).parents[2]
REQUIREMENTS = "requirements.txt"
ASTERISK_REQUIREMENTS = "asterisk.txt"
_OLDEST_PYTHON = {REQUIREMENTS: (3, 11), ASTERISK_REQUIREMENTS: (3, 12)}
_COMPLETE = "complete"  # the file that marks a complete installation
_RUN_TIMEOUT_S = 300.0
_START_TIMEOUT_S = 60.0  # a first start compiles the framework
_HAS_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt").exists()


class AgentError(BridgeError):
    """There is no environment for the agents, or an agent does not run; the message names the remedy."""


async def python(requirements: str = REQUIREMENTS) -> Path:
    """Return the Python that has the agents' packages, which are fetched the first time.

    Two processes that start simultaneously do not clash: the second waits for the first.

    Args:
        requirements: the name of a file in this folder.

    Raises:
        AgentError: they cannot be had.
    """
    version = ".".join(map(str, sys.version_info[:2]))
    digest = hashlib.sha256(Path(__file__).with_name(requirements).read_bytes()).hexdigest()[:10]
    folder = cache_folder() / f"agents-{version}-{digest}"
    if not (folder / _COMPLETE).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(f"{folder.suffix}.lock").open("w") as lock:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            if not (folder / _COMPLETE).exists():
                await _make(folder, requirements)
    return folder / "bin" / "python"


@contextlib.asynccontextmanager
async def running(
    module: str, environ: Mapping[str, str], *, port: int, requirements: str = REQUIREMENTS
) -> AsyncIterator[Path]:
    """Run an agent until it listens, and yield the file with its output.

    Args:
        module: below ``tests.agents``; is given the port as its argument.
        environ: environment variables.
        port: where it listens.
        requirements: as for `python`.

    Raises:
        AgentError: it does not come up.
    """
    interpreter = await python(requirements)
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        folder = Path(name)
        agent = BackgroundProgram(module, folder, folder / "log")
        agent.start(
            [str(interpreter), "-m", f"tests.agents.{module}", str(port)],
            outlive_us=False,
            # It sees this repository, for the modem, and none of the packages of its environment.
            environ={"PATH": os.environ["PATH"], "HOME": name, "PYTHONPATH": str(ROOT), **environ},
            folder=folder,
        )
        try:
            await _listens(agent, port)
            yield agent.log
        except BaseException:
            print(agent.log.read_text()[-20_000:])  # pytest shows it with the failure
            raise
        finally:
            await agent.stop()


async def run(module: str, *arguments: str, environ: Mapping[str, str] | None = None, given: str = "") -> str:
    """Run a program below ``tests.agents`` to its end, and return what it printed.

    Args:
        module: its name.
        arguments: of the command line.
        environ: further variables.
        given: its standard input.

    Raises:
        AgentError: it failed; the message has its output.
    """
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(environ or {})}
    command = [str(await python()), "-m", f"tests.agents.{module}", *arguments]
    return await _run(command, environ=environ, given=given)


def agent_port() -> int:
    """Return a port for an agent: a route names it before the agent runs."""
    return free_port()


async def _listens(agent: BackgroundProgram, port: int) -> None:
    try:
        async with asyncio.timeout(_START_TIMEOUT_S), aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with session.get(f"http://127.0.0.1:{port}/"):
                        return
                if agent.pid is None:
                    raise AgentError("the agent ended at its start; its output is above")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AgentError(f"the agent does not listen after {_START_TIMEOUT_S:.0f} s; its output is above") from None


async def _make(folder: Path, requirements: str) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(cache_folder() / "uv" / "bin"))
    if uv is None:
        raise AgentError("the voice agents need uv to make their environment: ./lab fetches it; or put it on the PATH")
    shutil.rmtree(folder, ignore_errors=True)
    interpreter, file = str(folder / "bin" / "python"), str(Path(__file__).with_name(requirements))
    await _install([uv, "venv", "--quiet", "--python", _interpreter(requirements), str(folder)])
    await _install([uv, "pip", "sync", "--quiet", "--python", interpreter, "--require-hashes", file])
    (folder / _COMPLETE).touch()


def _interpreter(requirements: str) -> str:
    """Return the Python to use, or a request that uv fulfills."""
    oldest = _OLDEST_PYTHON[requirements]
    if sys.version_info >= oldest:
        return sys.executable
    # uv finds pyenv's selected version only.
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [python for python in versions.glob("3.*/bin/python3") if int(python.parts[-3].split(".")[1]) >= oldest[1]]
    return str(max(found)) if found else f">=3.{oldest[1]}"


async def _install(command: Sequence[str]) -> None:
    environ = dict(os.environ)
    if _HAS_CERTIFICATES:  # as in ./lab: an authority that an administrator has added
        environ.setdefault("UV_SYSTEM_CERTS", "1")
    try:
        await _run(command, environ=environ)
    except AgentError as error:
        raise AgentError(f"the voice agents have no environment: {error}") from None


async def _run(command: Sequence[str], *, environ: Mapping[str, str], given: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_RUN_TIMEOUT_S):
            output, _ = await process.communicate(given.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AgentError(f"not done after {_RUN_TIMEOUT_S:.0f} s: {' '.join(command)}") from None
    if process.returncode:
        print(output.decode()[-20_000:])  # pytest shows it with the failure
        raise AgentError(f"exit code {process.returncode}: {' '.join(command)}; its output is above")
    return output.decode()
