"""The bridges that are compared, and how each is started."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BridgeError
from bridge.testing.lab_engine import free_port_block
from tests.load.bench.build import Programs

ROOT = Path(__file__).parents[3]
START_S = 120.0
WORKERS = 2
TRACKS = 2
EVERY_DIALECT = ("sln", "rtp", "audiosocket", "twilio", "voxology", "yeastar")


class BridgeFailed(BridgeError):
    """A bridge did not come up; the message holds the end of its log."""


@dataclass(frozen=True)
class Ports:
    """Where a run takes place, all on loopback.

    Args:
        audiosocket: where the bridge listens for Asterisk.
        application: where the generator listens for WebSockets.
        http: the bridge's own port.
        nobody: a port where nobody listens, in place of Asterisk's ARI.
    """

    audiosocket: int
    application: int
    http: int
    nobody: int


@dataclass(frozen=True)
class Variant:
    """One bridge.

    Args:
        name: short, for the command line.
        label: for the table.
        dialects: those that it supports.
        command: how it is started, from ports, dialect and a folder for its files.
        workers: how many processes it is, each with the next AudioSocket port.
        tracks: how many connections from Asterisk are one call.
        ways: which ways of audio it is measured with.
        loaded: what the log of each process holds when the start is over; calls are what is measured.
    """

    name: str
    label: str
    dialects: Sequence[str]
    command: Callable[[Ports, str, Path], list[str]]
    workers: int = 1
    tracks: int = 1
    ways: Sequence[str] = ("both", "capture", "playout")
    loaded: str = ""


def variants(programs: Programs, python: str = sys.executable) -> dict[str, Variant]:
    """Return all variants that can run here, by name."""
    found = [
        _ours("bridge", "this bridge", python),
        _ours("bridge0", "this bridge, no lead", python, lead_ms=0),
        _ours("workers", f"{WORKERS} workers, no lead", python, lead_ms=0, workers=WORKERS),
        Variant(
            "tracks",
            f"this bridge, {TRACKS} tracks",
            ("twilio", "voxology", "yeastar"),
            lambda ports, dialect, folder: [
                *(python, "-m", "tests.load.peers.bridge_tracks"),
                *(str(_written(ports, dialect, folder)), dialect, str(TRACKS)),
            ],
            tracks=TRACKS,
            ways=("capture",),
        ),
        Variant(
            "c",
            "C copy",
            ("sln",),
            lambda ports, *_: [str(programs.bridge_c), str(ports.audiosocket), str(ports.application)],
        ),
        Variant(
            "bare",
            "our loop and libraries, bare",
            ("sln",),
            lambda ports, *_: [
                *(python, "-m", "tests.load.peers.bridge_bare"),
                *(str(ports.audiosocket), str(ports.application)),
            ],
        ),
        Variant(
            "naive",
            "asyncio streams + websockets",
            ("sln", "twilio"),
            lambda ports, dialect, _: [
                *(python, "-m", "tests.load.peers.bridge_naive"),
                *(str(ports.audiosocket), str(ports.application), dialect),
            ],
        ),
    ]
    if (go := programs.bridge_go) is not None:
        found.append(
            Variant(
                "go",
                "Go",
                EVERY_DIALECT,
                lambda ports, dialect, _: [str(go), str(ports.audiosocket), str(ports.application), dialect],
            )
        )
    return {variant.name: variant for variant in found}


def bad(fault: str, where: str, python: str = sys.executable) -> Variant:
    """Return a bridge with a fault, as `peers/bridge_bad.py` names them."""
    return Variant(
        "bad",
        f"{fault} on {where}",
        ("sln", "twilio"),
        lambda ports, dialect, _: [
            *(python, "-m", "tests.load.peers.bridge_bad"),
            *(str(ports.audiosocket), str(ports.application), dialect, fault, where),
        ],
    )


def _ours(name: str, label: str, python: str, lead_ms: int | None = None, workers: int = 1) -> Variant:
    def command(ports: Ports, dialect: str, folder: Path) -> list[str]:
        more = f"\n[workers]\ncount = {workers}\n" if workers > 1 else ""
        return [python, "-m", "bridge", "serve", "--config", str(_written(ports, dialect, folder, lead_ms, more))]

    return Variant(name, label, EVERY_DIALECT, command, workers, loaded="preloading done")


def _written(ports: Ports, dialect: str, folder: Path, lead_ms: int | None = None, more: str = "") -> Path:
    config = folder / "bridge.toml"
    config.write_text(configuration(ports, dialect, lead_ms) + more)
    return config


def configuration(ports: Ports, dialect: str, lead_ms: int | None = None) -> str:
    """Return the product's configuration: defaults, and a route that takes every AudioSocket connection.

    Args:
        lead_ms: ``media.playout_lead_ms``; None is the default.
    """
    kind, options = dialect, ""
    if dialect in ("sln", "rtp", "audiosocket"):
        kind, options = "voipbin", f'options = {{encapsulation = "{dialect}"}}'
    lead = "" if lead_ms is None else f"playout_lead_ms = {lead_ms}"
    return f"""
[http]
port = {ports.http}
tokens = ["a-token-that-nobody-uses"]

[audiosocket]
bind_port = {ports.audiosocket}
max_unordered = 5000

[ari]
url = "http://127.0.0.1:{ports.nobody}"
user = "bench"
password = "bench"

[media]
max_streams = 5000
refuse_late_ms = 0
{lead}

[streams]
state_file = ":memory:"

[[dialplan]]
id = "bench"
match = "uuid:*"
url = "ws://127.0.0.1:{ports.application}/"
dialect = "{kind}"
{options}
"""


@contextlib.contextmanager
def free_ports() -> Iterator[Ports]:
    """Ports that are free now."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        others = [each.getsockname()[1] for each in taken]
    yield Ports(free_port_block(WORKERS), *others)


@contextlib.contextmanager
def running(
    variant: Variant, ports: Ports, dialect: str, folder: Path, prepare: Callable[[], None] | None = None
) -> Iterator[tuple[list[int], float]]:
    """Run the bridge, and yield the processes that carry calls and the time in ms until it listened.

    Args:
        prepare: called in the new process before the program begins.

    Raises:
        BridgeFailed: it does not listen.
    """
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    log = folder / f"{variant.name}.log"
    began = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            variant.command(ports, dialect, folder),
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=prepare,  # noqa: PLW1509  # this program has one thread
        )
    try:
        while not all(_listens(ports.audiosocket + number) for number in range(variant.workers)):
            if process.poll() is not None or time.monotonic() - began > START_S:
                raise BridgeFailed(f"{variant.label} does not listen: {log.read_text()[-1000:]}")
            time.sleep(0.01)
        start_ms = 1000 * (time.monotonic() - began)
        while variant.loaded and log.read_text().count(variant.loaded) < variant.workers:
            if process.poll() is not None or time.monotonic() - began > START_S:
                raise BridgeFailed(f"{variant.label} does not load everything: {log.read_text()[-1000:]}")
            time.sleep(0.01)
        workers = [int(pid) for pid in re.findall(r"worker started worker=\d+ pid=(\d+)", log.read_text())]
        yield workers or [process.pid], start_ms
        if process.poll() is not None:
            raise BridgeFailed(f"{variant.label} has ended: {log.read_text()[-1000:]}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    """Return whether a program listens on a port of loopback, without a connection."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(fields[1].endswith(wanted) and fields[3] == "0A" for fields in map(str.split, lines))
