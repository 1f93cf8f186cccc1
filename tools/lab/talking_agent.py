"""The talking agent of ``examples/``: its recognizer, which is fetched the first time, and its command line."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.testing.lab_engine import LabError
from bridge.testing.packages import cache_folder

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "talking_agent.py"
REQUIREMENTS = ROOT / "examples" / "talking_agent.txt"
VOICE = ("-v", "en-us+f3", "-s", "140")
"""Options of espeak-ng: a voice that the recognizer understands through a telephone."""
_COMPLETE = "complete"  # the file that marks a complete installation
_INSTALL_TIMEOUT_S = 120.0


def environment() -> Mapping[str, str]:
    """Return the environment that the agent runs in; two processes that install it do not conflict.

    Raises:
        LabError: the recognizer cannot be installed.
    """
    version = ".".join(map(str, sys.version_info[:2]))
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:10]
    folder = cache_folder() / f"talking-agent-{version}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(f"{folder.suffix}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _COMPLETE).exists():
            _install(folder)
    return {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}:{ROOT}", "PYTHONUNBUFFERED": "1"}


def command(port: int, speech_command: Sequence[str]) -> Sequence[str]:
    """Return the agent's command line.

    Args:
        port: of its WebSocket.
        speech_command: the lab's espeak-ng.
    """
    voice = shlex.join([*speech_command, *VOICE])
    return [sys.executable, str(PROGRAM), "--port", str(port), "--voice", voice]


def _install(folder: Path) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(cache_folder() / "uv" / "bin"))
    if uv is None:
        raise LabError("the talking agent needs uv to install its recognizer: ./lab fetches it; or put it on the PATH")
    shutil.rmtree(folder, ignore_errors=True)
    install = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--require-hashes", "-r", str(REQUIREMENTS)]
    environ = dict(os.environ)
    if Path("/etc/ssl/certs/ca-certificates.crt").exists():  # as in ./lab: an authority that an administrator has added
        environ.setdefault("UV_SYSTEM_CERTS", "1")
    try:
        subprocess.run(
            [*install, "--only-binary", ":all:", "--target", str(folder)],
            env=environ,
            check=True,
            capture_output=True,
            timeout=_INSTALL_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        raise LabError(f"the talking agent's recognizer cannot be installed: {error.stderr.decode()[-500:]}") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"the recognizer is not installed after {_INSTALL_TIMEOUT_S:.0f} s") from None
    (folder / _COMPLETE).touch()
