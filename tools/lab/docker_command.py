"""Docker's command line: short commands, long ones with progress, and what a build needs from this machine."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.testing.lab_engine import LabError
from bridge.testing.packages import Progress

COMMAND_TIMEOUT_S = 60.0
# Where administrators put CA certificates on Debian (update-ca-certificates(8)), and variables that name a bundle.
_LOCAL_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_BUNDLE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def docker_answers() -> bool:
    """Return whether a Docker daemon responds, which selects the engine."""
    if shutil.which("docker") is None:
        return False
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        return (
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False).returncode
            == 0
        )
    return False


def succeeds(command: Sequence[str]) -> bool:
    """Return whether a short command succeeds, and in time."""
    with contextlib.suppress(LabError):
        run(command)
        return True
    return False


def find_compose() -> tuple[str, ...]:
    """Return the command that runs compose, in the form that this machine has.

    Raises:
        LabError: Docker or compose is missing; the message has the remedy.
    """
    if shutil.which("docker") is None:
        raise LabError("there is no docker command. Install Docker Engine (on Debian: apt-get install docker.io)")
    if not docker_answers():
        raise LabError("no Docker daemon answers. Start it (systemctl start docker), or join the group docker")
    for line in (("docker", "compose"), ("docker-compose",)):
        if succeeds([*line, "version"]):
            return line
    raise LabError("Docker has no compose. Install it (on Debian: apt-get install docker-compose)")


async def step(
    what: str,
    command: Sequence[str],
    log: Path,
    timeout_s: float,
    *,
    environ: Mapping[str, str],
    folder: Path,
    progress: Progress,
) -> None:
    """Run one long command; append its output to ``log``, and report its progress every two seconds.

    Raises:
        LabError: it failed or took longer than ``timeout_s``; the message holds the end of its output.
    """
    began = told = time.monotonic()
    with log.open("ab") as file:
        first_byte = file.tell()
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            cwd=folder,
        )
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 0.25)
                    break
                now = time.monotonic()
                if now - began > timeout_s:
                    raise LabError(f"{what}: not done after {timeout_s:.0f} s; {_tail(log, first_byte)}")
                if now - told > 2:
                    told = now
                    progress(f"{what} ({now - began:.0f} s) {_last_words(log, first_byte)}")
        finally:
            await _end(process)
    if process.returncode:
        raise LabError(f"{what}: {command[0]} failed ({process.returncode}); {_tail(log, first_byte)}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Make sure that a process has ended: asks first, insist after 10 s."""
    if process.returncode is not None:
        return
    process.terminate()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 10)
        return
    process.kill()
    await process.wait()


def collect_certificates(folder: Path, environ: Mapping[str, str]) -> None:
    """Copy the CA certificates of this machine to where the build of the bridge's image looks for them.

    Behind a proxy that re-signs TLS, packages cannot be fetched without them. Nothing is written where there are none.
    """
    found = sorted(_LOCAL_CERTIFICATES.rglob("*.crt")) if _LOCAL_CERTIFICATES.is_dir() else []
    texts = [path.read_bytes() for path in found]
    for variable in _BUNDLE_VARIABLES:
        bundle = Path(environ.get(variable, ""))
        if environ.get(variable) and bundle.is_file() and bundle.read_bytes() not in texts:
            texts.append(bundle.read_bytes())
    target = folder / "this-machine.crt"
    content = b"\n".join(texts)
    if content and not (target.is_file() and target.read_bytes() == content):
        folder.mkdir(exist_ok=True)
        target.write_bytes(content)


def run(command: Sequence[str], *, check: bool = True) -> str:
    """Run a short command and return what it printed.

    Raises:
        LabError: it failed or did not end in time.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"there is no {command[0]} command. Install Docker Engine") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)}: no end after {COMMAND_TIMEOUT_S:.0f} s") from None
    if check and done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stdout.strip()}")
    return done.stdout


def _tail(log: Path, first_byte: int) -> str:
    lines = _read(log, first_byte).splitlines()[-20:]
    return f"its output, {log}, ends:\n" + "\n".join(lines)


def _last_words(log: Path, first_byte: int) -> str:
    return " ".join(_read(log, first_byte).split()[-8:])[-60:]


def _read(log: Path, first_byte: int) -> str:
    with log.open("rb") as file:
        file.seek(first_byte)
        return file.read().decode(errors="replace")
