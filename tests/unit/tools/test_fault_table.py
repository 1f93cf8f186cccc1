"""The table of faults in the documentation has a row for every fault that the lab tests, and no other."""

from __future__ import annotations

from tests.lab.faults import FAULTS
from tools.reference.faults import measured


def test_every_fault_was_measured() -> None:
    assert [(row["name"], row["title"]) for row in measured()] == [
        (name, fault.title) for name, fault in FAULTS.items()
    ]
