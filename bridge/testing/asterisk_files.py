"""The Asterisk that a lab runs: Debian's from the cache, or one that the user has built or installed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bridge.testing.lab_engine import LabError
from bridge.testing.packages import Root


@dataclass(frozen=True)
class AsteriskFiles:
    """An Asterisk that can be run with another configuration.

    Args:
        command: the program, with what is needed before its own arguments.
        modules: the folder of its modules.
        data: the folder of its sounds and documentation; only read.
    """

    command: tuple[str, ...]
    modules: Path
    data: Path


def of_packages(root: Root) -> AsteriskFiles:
    """Return the Asterisk of the unpacked packages."""
    return AsteriskFiles(
        tuple(root.command("usr/sbin/asterisk")), root.asterisk_modules, root.path / "usr" / "share" / "asterisk"
    )


def at_prefix(prefix: Path) -> AsteriskFiles:
    """Return the Asterisk that was installed with ``./configure --prefix=PREFIX``, or by a package below ``/usr``.

    Raises:
        LabError: the program, its modules or its data do not exist; the message names what was searched.
    """
    prefix = prefix.expanduser().resolve()
    program = prefix / "sbin" / "asterisk"
    if not os.access(program, os.X_OK):
        raise LabError(f"no Asterisk in {prefix}: {program} is not an executable file")
    modules = _with("res_stasis.so", *prefix.glob("lib*/asterisk/modules"), *prefix.glob("lib/*/asterisk/modules"))
    # The last one belongs to a prefix of /usr.
    below = (prefix / "var" / "lib", prefix / "share", prefix.parent / "var" / "lib")
    data = _with("rest-api", *(folder / "asterisk" for folder in below))
    libraries = ":".join(str(prefix / name) for name in ("lib", "lib64") if (prefix / name).is_dir())
    if inherited := os.environ.get("LD_LIBRARY_PATH"):
        libraries += f":{inherited}"
    return AsteriskFiles(("env", f"LD_LIBRARY_PATH={libraries}", str(program)), modules, data)


def _with(mark: str, *folders: Path) -> Path:
    """Return the first folder that contains a file."""
    for folder in folders:
        if (folder / mark).exists():
            return folder
    searched = " or ".join(map(str, folders)) or "lib*/asterisk/modules"
    raise LabError(f"Asterisk is incomplete: {mark} is not in {searched}")
