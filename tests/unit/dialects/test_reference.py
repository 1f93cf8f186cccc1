"""docs/reference/dialects.md has a row for each dialect: what it can do, and which tests judge it."""

from __future__ import annotations

import re
from pathlib import Path

from bridge import dialects

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/dialects.md").read_text()
ABILITIES = {"two-way", "rates", "marks", "clear", "DTMF", "hang"}


def rows(heading: str) -> dict[str, list[str]]:
    """Return the cells of the first table after a string, by the dialect of the row."""
    table: list[str] = []
    for line in PAGE[PAGE.index(heading) :].splitlines():
        if line.startswith("|"):
            table.append(line)
        elif table:
            break
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {row[0].strip("`"): row[1:] for row in cells[2:]}


def test_every_dialect_is_described_once() -> None:
    described = [*rows("# Dialects"), *rows("## Models")]
    assert sorted(described) == sorted(dialects.known())
    head = next(line for line in PAGE.splitlines() if line.startswith("| dialect | two-way"))
    assert all(ability in head for ability in ABILITIES)


def test_every_dialect_names_what_judges_it_and_where() -> None:
    judged = rows("## Interoperability tests")
    assert sorted(judged) == sorted(dialects.known())
    for name, (judge, tests) in judged.items():
        assert judge, name
        named = re.findall(r"`([a-z_/]*test_\w+\.py)`", tests)
        assert named, name
        for each in named:
            path = ROOT / (each if "/" in each else f"tests/lab/{each}")
            assert path.is_file(), f"{name}: {each}"
