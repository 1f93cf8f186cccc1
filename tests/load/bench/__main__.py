"""What a call costs: our bridge, a bridge in Go, a copy in C and the obvious bridge in Python, under the same load.

    python -m tests.load.bench                                  everything, about an hour
    python -m tests.load.bench --quick                          the most important, under 3 minutes
    python -m tests.load.bench --calls 500 --dialects sln --ways both --patterns aligned --rounds 5

The bridge has one core to itself and the generator another. Every round runs the variants one after the other; what is
shown are medians over the rounds. "This bridge" runs as shipped, metrics, limits and logging on; with `no lead` its
``media.playout_lead_ms`` is 0 instead of the default, to compare what it adds to an answer. Times are the kernel's:
from the sender's write until the data is in the receiver's socket.

To application: from Asterisk's write to the WebSocket. To call: from the application's write to AudioSocket; there a
frame waits for its call's next 20 ms, so "beyond pace" is what it took longer than the quickest frame of its call.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError
from tests.load.bench.build import Programs, build
from tests.load.bench.report import Outcome, tables
from tests.load.bench.run import Case, RunFailed, Settings, faults, run
from tests.load.bench.variants import EVERY_DIALECT, Variant, variants

WAYS = {
    "sln": ("both", "capture", "playout"),
    "rtp": ("both",),
    "audiosocket": ("both",),
    "twilio": ("both", "capture", "playout"),
    "voxology": ("capture",),
    "yeastar": ("capture",),
}
"""What each dialect can do and is measured by default; the last two are one way."""
PATTERNS = ("aligned", "spread")
QUICK = (("sln", "both", "aligned"), ("sln", "both", "spread"), ("twilio", "both", "aligned"))
VARIANTS = ("bridge", "bridge0", "bare", "go", "c", "naive", "tracks", "workers")
PACKAGES = ("picows", "aiofastnet", "msgspec", "websockets", "numpy", "audioop-lts")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    options.calls = options.calls or ([300] if options.quick else [200, 400])
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (2.0 if options.quick else 3.0)
    try:
        programs = build(_say, go="go" in options.variants)
    except BridgeError as problem:
        _say(str(problem))
        return 1
    known = variants(programs, options.python)
    chosen = {name: known[name] for name in options.variants if name in known}
    if options.build_only:
        return 0
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        _say("the bench needs two cores: one for the bridge, one for the generator")
        return 1
    settings = Settings(options.warmup, options.seconds, cores[-1], cores[0], options.fifo)
    os.sched_setaffinity(0, {cores[0]})
    machine = _machine(programs, options.python)
    _say(f"load before: {machine['load']}")
    runs: list[dict[str, Any]] = []
    results = {case: _measure(case, chosen, programs, settings, options.rounds, runs) for case in _cases(options)}
    text = json.dumps({"machine": machine, "settings": asdict(settings), "runs": runs}, indent=1)
    if options.json:
        Path(options.json).write_text(text + "\n")
    print(_heading(machine, settings, options.rounds))
    print(tables(results))
    return 0


def _measure(
    case: Case,
    chosen: dict[str, Variant],
    programs: Programs,
    settings: Settings,
    rounds: int,
    runs: list[dict[str, Any]],
) -> dict[str, Outcome]:
    outcomes = {
        name: Outcome(variant.label, [], [])
        for name, variant in chosen.items()
        if case.dialect in variant.dialects and case.way in variant.ways
    }
    for number in range(rounds):
        for name, outcome in outcomes.items():
            try:
                report = run(case, chosen[name], programs, settings)
            except RunFailed as problem:
                outcome.failures.append(str(problem))
                _say(f"{case}: {name}: {problem}")
                continue
            report["round"] = number
            runs.append(report)
            outcome.reports.append(report)
            _say(f"{case}: {name}: {report['cpu_ms_per_call_second']:.3f} {faults(report) or ''}")
    return outcomes


def _cases(options: argparse.Namespace) -> list[Case]:
    if options.quick:
        sorts = [each for each in QUICK if each[0] in options.dialects]
    else:
        sorts = [
            (dialect, way, pattern)
            for dialect in options.dialects
            for way in WAYS[dialect]
            if way in options.ways
            for pattern in options.patterns
        ]
    return [Case(*each, calls) for each in sorts for calls in options.calls]


def _machine(programs: Programs, python: str) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    asked = "import sys; print(sys.version.split()[0])"
    version = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": version,
        "packages": _versions(python),
        "compilers": programs.compilers,
        "load": Path("/proc/loadavg").read_text().split()[:3],
    }


def _versions(python: str) -> dict[str, str]:
    asked = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    installed: dict[str, str] = json.loads(done.stdout)
    return {name: installed[name] for name in PACKAGES if name in installed}


def _heading(machine: dict[str, Any], settings: Settings, rounds: int) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, Python {machine['python']}, "
        f"{packages}; {', '.join(machine['compilers'].values())}. Medians of {rounds} rounds of {settings.seconds:g} s"
        f"{' under FIFO scheduling' if settings.fifo else ''}.\n"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _list(known: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def _numbers(text: str) -> list[int]:
    numbers = [int(each) for each in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("a number of calls is 1 or more")
    return numbers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three cases, short windows, one round")
    parser.add_argument("--calls", type=_numbers, help="how many calls at once, for example 200,400")
    parser.add_argument("--rounds", type=int, help="how often everything is run")
    parser.add_argument("--seconds", type=float, help="length of the window that counts")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before it")
    parser.add_argument("--dialects", type=_list(EVERY_DIALECT), default=list(EVERY_DIALECT))
    parser.add_argument("--ways", type=_list(("both", "capture", "playout")), default=["both", "capture", "playout"])
    parser.add_argument("--patterns", type=_list(PATTERNS), default=list(PATTERNS))
    parser.add_argument("--variants", type=_list(VARIANTS), default=list(VARIANTS[:-1]))
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the bridges in Python")
    parser.add_argument("--fifo", action="store_true", help="run bridge and generator above all else (needs root)")
    parser.add_argument("--json", metavar="FILE", help="write every run's figures there")
    parser.add_argument("--build-only", action="store_true", help="compile and fetch what is needed, and no more")
    return parser


if __name__ == "__main__":
    sys.exit(main())
