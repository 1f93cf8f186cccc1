"""What is public does not change unseen: the names of the product are those of public_surface.json."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from bridge.testing.phone import Phone
from tests import surface

PLUGIN_PAGE = Path(__file__).parents[2] / "docs/reference/pytest-plugin.md"


def test_the_public_surface_is_the_one_that_was_reviewed() -> None:
    reviewed, found = surface.FILE.read_text(encoding="utf-8"), surface.as_text()
    difference = "\n".join(
        difflib.unified_diff(reviewed.splitlines(), found.splitlines(), "reviewed", "now", n=1, lineterm="")
    )
    assert not difference, (
        f"intended? Then run `.venv/bin/python -m tests.surface`, and add a line to CHANGELOG.md\n{difference}"
    )


def test_every_interface_of_the_policy_has_names() -> None:
    for interface, names in surface.surface().items():
        assert len(names) >= 4, interface


def test_the_reference_of_the_plugin_names_what_exists() -> None:
    page = PLUGIN_PAGE.read_text(encoding="utf-8")
    plugin = surface.surface()["pytest plug-in"]
    fixtures, options, phones = (
        re.findall(pattern, page.split(f"## {heading}")[1].split("\n## ")[0], re.MULTILINE)
        for heading, pattern in (
            ("Fixtures", r"^\| `(\w+)` \|"),
            ("Options", r"^\| `(--[\w-]+)"),
            ("Phones", r"`(\w+)\("),
        )
    )
    assert sorted(fixtures) == plugin["fixtures"]
    assert sorted(options) == plugin["options"]
    assert phones
    assert [name for name in phones if not hasattr(Phone, name)] == []
