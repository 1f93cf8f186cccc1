"""``python -m tests.fuzz.search TARGET [CORPUS...] [OPTIONS]``: fuzz one target; `tools/fuzz` calls this."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["bridge"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run libFuzzer's loop until it ends the process."""
    name, *arguments = sys.argv[1:]
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
