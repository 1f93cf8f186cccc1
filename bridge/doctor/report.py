"""The doctor's findings, one line for each check."""

from __future__ import annotations

import sys
from typing import TextIO

from msgspec import Struct


class Finding(Struct, frozen=True):
    """The outcome of one check.

    Args:
        verdict: ``ok``, ``warn`` (it works, but) or ``FAIL``.
        name: the check.
        text: the result.
        advice: the remedy; empty if none is needed.
    """

    verdict: str
    name: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:<5} {self.name:<18} {self.text}"
        return f"{line}\n      {'':<18} -> {self.advice}" if self.advice else line


class Report:
    """Prints findings immediately: a check may take seconds, and one that hangs must be visible."""

    def __init__(self, output: TextIO | None = None) -> None:
        self.findings: list[Finding] = []
        self._output = output

    def ok(self, name: str, text: str) -> None:
        """Report that a check passed."""
        self._add(Finding("ok", name, text))

    def warn(self, name: str, text: str, advice: str) -> None:
        """Report something that works, or may work, but needs attention."""
        self._add(Finding("warn", name, text, advice))

    def fail(self, name: str, text: str, advice: str) -> None:
        """Report that something does not work."""
        self._add(Finding("FAIL", name, text, advice))

    @property
    def exit_code(self) -> int:
        """The exit code: 1 if anything failed."""
        return int(any(finding.verdict == "FAIL" for finding in self.findings))

    def summary(self) -> None:
        """Print the last line."""
        counts = {verdict: sum(f.verdict == verdict for f in self.findings) for verdict in ("ok", "warn", "FAIL")}
        print(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['FAIL']} failed", file=self._out, flush=True)

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        print(finding, file=self._out, flush=True)

    @property
    def _out(self) -> TextIO:
        return self._output or sys.stdout
