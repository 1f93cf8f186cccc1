"""Write the generated parts of docs/, or check that they are current."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.reference import command_line, configuration, errors, events, faults, http, metrics

DOCS = Path(__file__).parents[2] / "docs"
PART = re.compile(r"<!-- generated: ([^\n]+?) -->\n.*?<!-- end -->", re.DOTALL)
FRAGMENTS: Mapping[str, Callable[[], str]] = {
    **{f"configuration {name}": text for name, text in configuration.fragments().items()},
    **{f"events {name}": text for name, text in events.fragments().items()},
    "metrics": metrics.tables,
    "command line": command_line.commands,
    "errors": errors.table,
    "faults": faults.table,
    "http operations": http.operations,
}


def current(text: str) -> str:
    """Return a page with its generated parts written again.

    Raises:
        KeyError: a part has an unknown name.
    """

    def written(part: re.Match[str]) -> str:
        return f"<!-- generated: {part[1]} -->\n\n{FRAGMENTS[part[1]]().strip()}\n\n<!-- end -->"

    return PART.sub(written, text)


def main(arguments: list[str]) -> int:
    """Write all pages that are not current; with ``--check`` report them instead.

    Returns:
        The exit code: 1 if a page was not current and was not written.
    """
    stale = []
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text()
        if (new := current(text)) != text:
            stale.append(page)
            if "--check" not in arguments:
                page.write_text(new)
    for page in stale:
        print(page.relative_to(DOCS.parent), "written" if "--check" not in arguments else "is not current")
    if stale and "--check" in arguments:
        print("reference: run `.venv/bin/python -m tools.reference`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
