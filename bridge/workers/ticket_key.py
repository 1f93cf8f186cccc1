"""The key that signs the stream tickets of all workers: a file beside the supervisor's socket."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from bridge.api.tickets import KEY_BYTES

FILE_NAME = "ticket-key"


def write_ticket_key(control: Path) -> None:
    """Create a key for the workers to read.

    Args:
        control: the supervisor's socket, in a directory that only its owner can access.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(control.with_name(FILE_NAME), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))


def read_ticket_key(control: Path) -> bytes:
    """Return the key that the supervisor has created.

    Args:
        control: the supervisor's socket.

    Raises:
        OSError: the supervisor does not run.
    """
    return control.with_name(FILE_NAME).read_bytes()
