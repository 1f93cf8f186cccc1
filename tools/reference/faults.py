"""The table of faults: what the lab has measured (``faults.json``), in the order and with the titles of its tests.

Measure again, with the machine to itself: ``FAULT_CALLS=10 FAULT_ROWS=rows ./lab test tests/lab/test_faults.py``; then
``python -m tools.reference.faults rows`` takes what was measured, and ``python -m tools.reference`` writes the page.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.lab.faults import FAULTS

FILE = Path(__file__).with_name("faults.json")
HEAD = ("Fault", "Callers of applications", "Callers of observed calls", "Applications", "Works again after")
KEYS = ("title", "caller", "observed", "application")


def measured() -> list[dict[str, Any]]:
    """Return the rows that were measured."""
    rows: list[dict[str, Any]] = json.loads(FILE.read_text())
    return rows


def table() -> str:
    """Return the table in Markdown."""
    lines = [HEAD, ("---",) * len(HEAD)]
    lines += [(*(row[key] for key in KEYS), f"{row['back_s']} s") for row in measured()]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    most = max(row["calls"] for row in measured())
    fewer = "".join(f"; {row['calls']}: {row['title']}" for row in measured() if row["calls"] < most)
    return f"Calls that were up: {most}{fewer}.\n\n{text}"


def main(arguments: list[str]) -> None:
    """Keep the newest measurement of each fault."""
    found = {row["name"]: row for row in measured()} if FILE.exists() else {}
    found |= {row["name"]: row for row in map(json.loads, Path(arguments[0]).read_text().splitlines())}
    rows = [found[name] | {"title": fault.title} for name, fault in FAULTS.items() if name in found]
    FILE.write_text("[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1:])
