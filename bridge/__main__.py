"""``python -m bridge`` and the command ``asterisk-bridge``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import ModuleType


def main() -> int:
    """Run the command of ``sys.argv``, and return its exit code."""
    if sys.argv[1:2] == ["serve"]:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload while it starts would end the process
    # Imports leave almost no garbage: collecting it takes a tenth of a start. Commands that keep running enable it.
    gc.disable()
    _disable_pydantic_plugins()
    from bridge.cli.main import main as run

    return run()


def _disable_pydantic_plugins() -> None:
    """Keep pydantic from searching all installed packages for plugins; none may see the values of models.

    pydantic reads its switch only after importing what reads the metadata of packages, a sixtieth of a start. So its
    module that searches is replaced as well.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    loader = ModuleType("pydantic.plugin._loader")
    vars(loader)["get_plugins"] = tuple
    sys.modules[loader.__name__] = loader


if __name__ == "__main__":
    sys.exit(main())
