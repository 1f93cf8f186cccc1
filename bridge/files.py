"""Files whose names come from outside: only regular files, of bounded size, and never one that blocks the reader.

A FIFO, a terminal or a device in place of a file would block the reading thread indefinitely. Everything here blocks:
call it in a thread while calls are active.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_NAME_CHARACTERS = 1000


def read_regular(path: str | Path, max_bytes: int) -> bytes:
    """Return the content of a regular file; symbolic links are followed.

    Args:
        path: anywhere.
        max_bytes: limit of the file's size.

    Raises:
        OSError: not a regular file, not readable, or larger than the limit; ``strerror`` has the reason.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for its other side. O_NOCTTY: no terminal may become the controlling
        # one.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError:  # a NUL byte
        raise OSError(errno.EINVAL, "not a path") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes")
    return content


def find_below(folder: str | Path, name: str) -> Path:
    """Return the path of a regular file below a directory, with every symbolic link resolved.

    Args:
        folder: the directory.
        name: relative to it, for example ``ca.pem`` or ``de/welcome.wav``.

    Raises:
        FileNotFoundError: no such file, not a regular one, or one outside of the directory: callers must not be able to
            distinguish these.
    """
    missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not name or "\0" in name or name.startswith("/") or ".." in name.split("/") or len(name) > MAX_NAME_CHARACTERS:
        raise missing
    try:
        base = Path(folder).resolve()
        path = (base / name).resolve(strict=True)
        regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, RuntimeError):  # RuntimeError: circular links, before Python 3.13
        raise missing from None
    if not regular or not path.is_relative_to(base):
        raise missing
    return path


def writing_trouble(path: Path) -> str | None:
    """Return why this user cannot write or create a file, judging by permissions; None: they can.

    Nothing is created.
    """
    if path.exists():
        wanted, mode = path, os.R_OK | os.W_OK
    else:
        wanted, mode = next(each for each in path.absolute().parents if each.exists()), os.W_OK | os.X_OK
        if not wanted.is_dir():
            return f"{str(path)!r} cannot be written: {str(wanted)!r} is not a directory"
    if not os.access(wanted, mode, effective_ids=True):
        return f"{str(path)!r} cannot be written: no permission for {str(wanted)!r}"
    return None
