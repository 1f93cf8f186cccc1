"""The check of words finds what it lists, and no more."""

from __future__ import annotations

import pytest

from tools import words


def rules(path: str, source: str) -> list[str]:
    return [f"{each.line}: {each.text}" for each in words.findings(path, source)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""The worker is told of it."""', "1: told"),
        ('"""Find it.\n\nIt goes\non.\n"""', "3: goes on"),
        ("# It waits for as long as\n# the peer is there.", "2: is there"),
        ("# It ends after so many seconds.", "1: so many"),
        ("# A message of the\n# application has no type.", "1: message of the application"),
        ('def f():\n    """Note that a call ended."""', "1: Note that a call ended."),
        ('raise ValueError("the name is no pattern")', "1: is no "),
        ('raise ValueError(f"{name} is no pattern of {kind}")', "1: is no "),
        ('def f():\n    """What a stream wants."""', "1: What a stream wants."),
        ('def f():\n    """Answer it, unless it has ended."""', "1: Answer it, unless it has ended."),
        ('@property\ndef f():\n    """Whether it has ended."""', "2: Whether it has ended."),
        ('def f():\n    """Return what a stream wants."""', "1: Return what a stream wants."),
        ('def f():\n    """Close all."""', "1: Close all."),
        ('def f():\n    """Return whether it matches."""', "1: Return whether it matches."),
        ('def f():\n    """Have the worker answer."""', "1: Have the worker answer."),
        ('def f():\n    """Check.\n\n    Raises:\n        X: 401, it has not.\n    """', "1: X: 401, it has not."),
        ('class F:\n    """Which calls to list."""', "1: Which calls to list."),
        ("# The channel is in no bridge.", "1: in no b"),
        ('log.info("no worker has the calls of worker=%d", n)', "1: no worker has the calls of worker=%d"),
        ('log.info("call=%s ended", call)', "1: call=%s ended"),
        ('log.info("ended: %s", error)', "1: ended: %s"),
        ('self._log.log(level, "call=%s ended", call)', "1: call=%s ended"),
    ],
)
def test_what_is_found_in_python(source: str, found: str) -> None:
    assert rules("bridge/x.py", source) == [found]


@pytest.mark.parametrize(
    "source",
    [
        '"""Send ``told`` if `says` is set."""',
        '"told"',
        "# There is no limit; it is no longer valid. Going once.",
        'log.info("call ended call=%s ms=%.1f", call, ms)',
        'log.info("tap closed %s error=%s", self._fields, error)',
        'log.info("started")',
        '@property\ndef f():\n    """The calls of a stream."""',
        'def f():\n    """Return the calls of a stream."""',
    ],
)
def test_what_is_not_found_in_python(source: str) -> None:
    assert rules("bridge/x.py", source) == []


def test_strings_and_log_lines_of_tests_are_data() -> None:
    source = 'assert text == "it is told"\n# It is told.\nlog.info("call=%s ended", call)\n'
    assert rules("tests/unit/test_x.py", source) == ["2: told"]


def test_what_is_found_in_documents() -> None:
    source = "# What it does\n\nIt is told\nof it.\n\n```\ntold\n```\n\n    told\n\n## How to tell\n\n`told` is sent.\n"
    assert rules("docs/x.md", source) == ["3: told", "12: tell", "7: told", "1: What it does"]


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("docs/x.md", "Text.\n\n```toml\n# what it\n# said\nx = 1\n```\n", "5: said"),
        ("docs/x.md", "1. First:\n   ```ini\n   ; until the agent is away\n   ```\n", "3: is away"),
        ("asterisk/etc/x.conf", "[general]\n; the phone is told", "2: told"),
        ("bridge/api/x.html", "<p>\nWhoever calls</p>", "2: Whoever"),
        ("examples/x.toml", "key = 1  # so that it works", "1: so that"),
        ("docs/x.lua", "-- the PBX knows it", "1: knows"),
    ],
)
def test_what_is_found_in_samples_and_configuration(path: str, source: str, found: str) -> None:
    assert rules(path, source) == [found]


def test_docstrings_of_helpers_of_tests_are_imperative() -> None:
    assert rules("tests/x.py", 'def f():\n    """What a phone sends."""') == ["1: What a phone sends."]
    assert rules("tests/x.py", 'def test_f():\n    """What a phone sends."""') == []


@pytest.mark.parametrize("word", ["is told", "so that", "anew", "whole number", "placed a call", "an earlier life"])
def test_words_of_the_table_are_found(word: str) -> None:
    assert rules("docs/x.md", f"Text {word} text.")


def test_exceptions_have_reasons_and_are_needed() -> None:
    allowed = words.exceptions()
    lines = words.EXCEPTIONS.read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    assert len(entries) == len(allowed)
    assert all("  # " in line for line in entries)
    listed = [path.relative_to(words.ROOT).as_posix() for path in words.files([])]
    for path, phrase in allowed:
        texts = [(words.ROOT / each).read_text(encoding="utf-8") for each in listed if each.startswith(path)]
        assert any(phrase in text for text in texts), (path, phrase)


def test_findings_can_be_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert words.main(["--count", "tools"]) == 0
    assert capsys.readouterr().out.endswith(" in all\n")
