"""``asterisk-bridge`` whose clock and resolver behave as a file beside its configuration specifies.

SIGUSR1 has the file read: JSON with ``clock_s``, by how much the clock is wrong, and ``name_fails``.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from bridge.cli.main import main

NAME = "application.test"
"""A name that leads to this machine."""
FILE = "faults.json"


class _Broken:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._time, self._getaddrinfo = time.time, socket.getaddrinfo
        self._clock_s = 0.0
        self._name_fails = False
        self.read()

    def read(self, *_: object) -> None:
        if self._file.exists():
            found = json.loads(self._file.read_text())
            self._clock_s, self._name_fails = found.get("clock_s", 0.0), found.get("name_fails", False)

    def time(self) -> float:
        return self._time() + self._clock_s

    def getaddrinfo(self, host: Any, *arguments: Any, **options: Any) -> Any:
        if host == NAME and self._name_fails:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self._getaddrinfo("127.0.0.1" if host == NAME else host, *arguments, **options)


if __name__ == "__main__":
    broken = _Broken(Path(sys.argv[sys.argv.index("--config") + 1]).with_name(FILE))
    signal.signal(signal.SIGUSR1, broken.read)
    time.time, socket.getaddrinfo = broken.time, broken.getaddrinfo
    sys.exit(main())
