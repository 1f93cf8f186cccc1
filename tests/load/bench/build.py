"""Builds the C and Go programs of the bench from this checkout, with Debian's compilers.

The C compiler is the machine's (`gcc` or `cc`). Go and its WebSocket library are Debian's packages, unpacked into the
cache folder like those of the lab: no root, nothing installed. What cannot be built is left out, with the reason.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BridgeError
from bridge.testing.packages import PackagesUnavailable, cache_folder, ensure_tree

PEERS = Path(__file__).parents[1] / "peers"
C_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
GO_PACKAGES = ("golang-go", "golang-github-gorilla-websocket-dev")
GO_PARTS = ("golang-1.", "golang-github-gorilla-websocket-dev")
"""Of all that these packages depend on, what compiling takes."""


class CannotBuild(BridgeError):
    """A program cannot be built here; the message names what is needed."""


@dataclass(frozen=True)
class Programs:
    """What was built.

    Args:
        generator: plays the Asterisks and the applications.
        bridge_c: the copy in C.
        bridge_go: the bridge in Go, or None.
        no_go: why there is none.
        compilers: what was used, in words.
    """

    generator: Path
    bridge_c: Path
    bridge_go: Path | None
    no_go: str
    compilers: dict[str, str]


def build(progress: Callable[[str], None] = print, *, go: bool = True) -> Programs:
    """Build what is not built yet; an unchanged source is not compiled again.

    Raises:
        CannotBuild: there is no C compiler, or a source does not compile.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CannotBuild("the bench needs a C compiler: apt-get install gcc libc6-dev")
    compilers = {"c": _first_line([compiler, "--version"])}
    header = PEERS / "common.h"
    generator = _c_program(compiler, "generator", PEERS / "generator.c", header, progress)
    bridge_c = _c_program(compiler, "bridge_c", PEERS / "bridge_c" / "bridge.c", header, progress)
    bridge_go, no_go = None, "not asked for"
    if go:
        try:
            bridge_go, compilers["go"] = _go_program(progress)
            no_go = ""
        except (PackagesUnavailable, CannotBuild) as problem:
            no_go = str(problem)
            progress(f"the bridge in Go is left out: {problem}")
    return Programs(generator, bridge_c, bridge_go, no_go, compilers)


def _c_program(compiler: str, name: str, source: Path, header: Path, progress: Callable[[str], None]) -> Path:
    program = _program(name, source.read_bytes() + header.read_bytes() + compiler.encode())
    if not program.exists():
        progress(f"compiling {source.name}")
        _compile(program, [compiler, *C_FLAGS, str(source), "-lm"], "-o")
    return program


def _go_program(progress: Callable[[str], None]) -> tuple[Path, str]:
    tree = ensure_tree("go", GO_PACKAGES, GO_PARTS, progress)
    roots = sorted(tree.glob("usr/lib/go-1.*"))
    if not roots:
        raise CannotBuild(f"there is no Go in {tree}")
    go = roots[-1] / "bin" / "go"
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.environ.get("HOME", str(cache_folder())),
        "GOROOT": str(roots[-1]),
        "GOPATH": str(tree / "usr" / "share" / "gocode"),
        "GOCACHE": str(cache_folder() / "go-build"),
        "GO111MODULE": "off",  # the library is in GOPATH, and nothing is to be fetched
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    source = PEERS / "bridge_go" / "main.go"
    program = _program("bridge_go", source.read_bytes() + str(go).encode())
    if not program.exists():
        progress("compiling the bridge in Go (the first time takes a while)")
        _compile(program, [str(go), "build"], "-o", str(source), environ=environ)
    return program, _first_line([str(go), "version"], environ)


def _program(name: str, recipe: bytes) -> Path:
    folder = cache_folder() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{hashlib.sha256(recipe).hexdigest()[:12]}"


def _compile(program: Path, command: list[str], *rest: str, environ: dict[str, str] | None = None) -> None:
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        made = Path(folder) / program.name
        output, *arguments = rest
        done = subprocess.run(
            [*command, output, str(made), *arguments], capture_output=True, text=True, env=environ, check=False
        )
        if done.returncode:
            raise CannotBuild(f"{program.name} does not compile:\n{done.stderr.strip()}")
        made.rename(program)


def _first_line(command: list[str], environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    return done.stdout.partition("\n")[0]
