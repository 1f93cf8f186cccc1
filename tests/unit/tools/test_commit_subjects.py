"""Which subjects of commits the check accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.commit_subjects import MAX_CHARACTERS, fault_of, main


@pytest.mark.parametrize(
    "subject",
    [
        "Fix the playout clock",
        "media: end a leg that floods small AudioSocket messages",
        "SECURITY.md: promise linear work of flows",
        "Process events in order",
        "Need a token for every route",
        "Add " + "x" * (MAX_CHARACTERS - 4),
    ],
)
def test_an_imperative_is_accepted(subject: str) -> None:
    assert fault_of(subject) == ""


@pytest.mark.parametrize(
    ("subject", "fault"),
    [
        ("Add " + "x" * (MAX_CHARACTERS - 3), "73 characters"),
        ("Fix the clock.", "full stop"),
        ("Fixed the clock", "imperative"),
        ("media: fixing the clock", "imperative"),
        ("Fixes the clock", "imperative"),
        ("One clock for all legs", "imperative"),
        ("docs: what a frame costs", "imperative"),
        ("#12 Fix the clock", "word"),
        ("", "word"),
    ],
)
def test_what_is_wrong_is_named(subject: str, fault: str) -> None:
    assert fault in fault_of(subject)


def test_a_message_is_judged_by_its_first_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = tmp_path / "COMMIT_EDITMSG"
    message.write_text("Fix the clock\n\nIt drifted, which was heard.\n")
    assert main([str(message)]) == 0
    message.write_text("It drifted\n")
    assert main([str(message)]) == 1
    assert "imperative" in capsys.readouterr().err
    message.write_text("fixup! It drifted\n")
    assert main([str(message)]) == 0
