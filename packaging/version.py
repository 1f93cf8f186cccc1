"""Derive the version of the package from git's tags; a build evaluates `version()`, and as a program it prints that.

A tag ``v1.2.3`` gives 1.2.3; three commits later it is 1.2.4.dev3+g0a1b2c3d. Sources, the first that answers counts:

1. ``$BUILD_VERSION``: the image's build, which has no repository, is given the version.
2. The repository. Without tags (a shallow clone) the version is 0.0.0.dev0+g0a1b2c3d.
3. `DESCRIBED` and `COMMIT`, which ``git archive`` fills in: so do archives that a forge offers for download.
4. None: 0.0.0+unknown.

A build from a source distribution reads the version from its PKG-INFO and does not call this.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

DESCRIBED = "$Format:%(describe:tags=true,match=v[0-9]*,exclude=v*[!0-9.]*)$"
COMMIT = "$Format:%h$"
UNKNOWN = "0.0.0+unknown"
_DESCRIBE = ("describe", "--tags", "--long", "--always", "--dirty", "--match=v[0-9]*", "--exclude=v*[!0-9.]*")


def version(root: Path | None = None) -> str:
    """Return the version of a checkout, by PEP 440.

    Args:
        root: folder of the checkout; None: the one that holds this file.
    """
    root = root or Path(__file__).resolve().parents[1]
    if given := os.environ.get("BUILD_VERSION"):
        return given
    if (root / ".git").exists():  # not just any repository around the checkout
        line = ["git", "-C", str(root), *_DESCRIBE]
        try:
            return from_description(subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip())
        except (OSError, subprocess.CalledProcessError):
            return UNKNOWN
    if not COMMIT.startswith("$"):
        return from_description(DESCRIBED or COMMIT)
    return UNKNOWN


def from_description(described: str) -> str:
    """Return the version for what ``git describe`` prints.

    Args:
        described: ``v1.2.3``, ``v1.2.3-4-g0a1b2c3d``, ``0a1b2c3d``; each may end in ``-dirty``.
    """
    found = re.fullmatch(r"(?:v(\d+)\.(\d+)\.(\d+)(?:-(\d+)-g)?)?([0-9a-f]*)(-dirty)?", described)
    if found is None:
        return UNKNOWN
    major, minor, patch, distance, commit, dirty = found.groups()
    local = "+" + ".".join([f"g{commit}"] * bool(commit) + ["dirty"] * bool(dirty))
    if major is None:
        return f"0.0.0.dev0{local}"
    if not int(distance or 0) and not dirty:
        return f"{major}.{minor}.{patch}"
    return f"{major}.{minor}.{int(patch) + 1}.dev{int(distance or 0)}{local}"


if __name__ == "__main__":
    print(version())
