"""``python -m bridge`` and the command ``asterisk-bridge``."""

from __future__ import annotations

import gc
import os
import signal
import sys


def main() -> int:
    """Run the command of ``sys.argv``, and return its exit code."""
    if sys.argv[1:2] == ["serve"]:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload while it starts would end the process
    # Imports leave almost no garbage: looking for it takes a tenth of a start. Commands that run on enable it.
    gc.disable()
    # To find pydantic's plugins, the metadata of all installed packages is read; and none may see what models hold.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from bridge.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
