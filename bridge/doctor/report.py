"""What the doctor found, one line for each check."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Args:
        verdict: ``ok``, ``warn`` (it works, but) or ``FAIL``.
        name: what was checked.
        text: what was found.
        advice: what to do about it; empty if nothing needs doing.
    """

    verdict: str
    name: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:<5} {self.name:<18} {self.text}"
        return f"{line}\n      {'':<18} -> {self.advice}" if self.advice else line


class Report:
    """Prints findings as they come: a check may take seconds, and one that hangs is to be seen."""

    def __init__(self, output: TextIO | None = None) -> None:
        self.findings: list[Finding] = []
        self._output = output

    def ok(self, name: str, text: str) -> None:
        """All is well."""
        self._add(Finding("ok", name, text))

    def warn(self, name: str, text: str, advice: str) -> None:
        """It works, or may; somebody should look at it."""
        self._add(Finding("warn", name, text, advice))

    def fail(self, name: str, text: str, advice: str) -> None:
        """It does not work."""
        self._add(Finding("FAIL", name, text, advice))

    @property
    def exit_code(self) -> int:
        """1 if anything failed."""
        return int(any(finding.verdict == "FAIL" for finding in self.findings))

    def summary(self) -> None:
        """The last line."""
        counts = {verdict: sum(f.verdict == verdict for f in self.findings) for verdict in ("ok", "warn", "FAIL")}
        print(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['FAIL']} failed", file=self._out, flush=True)

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        print(finding, file=self._out, flush=True)

    @property
    def _out(self) -> TextIO:
        return self._output or sys.stdout
