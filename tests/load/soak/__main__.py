"""Hours of calls on a real Asterisk: does anything grow, is any audio lost, is anything left?

    ./lab soak --minutes 10 --calls 10
    ./lab soak --minutes 90 --calls 10 --output soak-90      writes soak-90.svg and soak-90.json

Half of the calls are long: they last as long as the soak, and each frame that they carry in each direction is
identified. The others are short, of every kind, and are ended at random moments by either side. Nothing else should
run on the machine: what is lost while it withholds its processors is shown, and not counted against asterisk-bridge.

The exit code is 0 if every check has passed, 1 if one has failed, 3 if none has failed but one could not be judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bridge.errors import BridgeError
from tests.load.soak.graph import svg
from tests.load.soak.run import Options, soak
from tests.load.soak.verdict import FAILED, NOT_JUDGED, Check, Limits, Record, verdict

SAMPLES = 360
"""About as many are taken, at least a second apart and at most 15 s."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak, write its files, print the verdict, and return the exit code."""
    options = _parser().parse_args(arguments)
    every_s = min(15.0, max(1.0, options.minutes * 60 / SAMPLES))
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        try:
            record = asyncio.run(soak(Options(options.minutes, options.calls, every_s, folder, options.faults), _say))
        except BridgeError as error:
            _say(f"soak: {error}")
            return 1
    checks = verdict(record, Limits(options.memory_percent / 100))
    title = f"{options.minutes:g} minutes, {options.calls} calls at a time; {machine()}; {began}"
    write(options.output, title, record, checks)
    print(in_words(title, record, checks))
    return exit_code(checks)


def write(output: Path, title: str, record: Record, checks: Sequence[Check]) -> None:
    """Write the graph and all figures."""
    output.with_suffix(".svg").write_text(svg(title, record, checks), encoding="utf-8")
    figures = {"title": title, "verdict": [asdict(check) for check in checks], **asdict(record)}
    output.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def in_words(title: str, record: Record, checks: Sequence[Check]) -> str:
    """Return the verdict as text."""
    lines = [title, f"{record.long_calls} long calls; {record.short_calls} answered calls and streams came and went"]
    return "\n".join([*lines, *(f"  {check.name:14}{check.outcome:12}{check.text}" for check in checks)])


def exit_code(checks: Sequence[Check]) -> int:
    """Return 0 if all have passed, 1 if one has failed, 3 otherwise."""
    outcomes = {check.outcome for check in checks}
    return 1 if FAILED in outcomes else 3 if NOT_JUDGED in outcomes else 0


def machine() -> str:
    """Return what it runs on."""
    real_time = os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)
    policy = ", real-time scheduling" if real_time else ""
    return f"{os.cpu_count()} processors{policy}, Linux {platform.release()}, Python {platform.python_version()}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./lab soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: %(default)s)")
    parser.add_argument(
        "--calls", type=int, default=10, help="how many at a time, half of them long (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("soak"), metavar="NAME", help="writes NAME.svg and NAME.json"
    )
    parser.add_argument("--folder", type=Path, help="a new folder that keeps the logs (default: a temporary one)")
    parser.add_argument(
        "--memory-percent", type=float, default=1.0, metavar="N", help="tolerated growth (default: %(default)s)"
    )
    parser.add_argument(
        "--faults", default="", help="have asterisk-bridge misbehave, to see the verdict fail: leak=KB, lose=N"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
