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
    # Imports leave almost no garbage: collecting it takes a tenth of a start. Commands that keep running enable it.
    gc.disable()
    # pydantic would read the metadata of all installed packages to find plugins; none may see the values of models.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from bridge.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
