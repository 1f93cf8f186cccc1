"""`./lab help` builds nothing, lists every command, and the command line stays out of the wheel."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.checkout import copy_checkout
from tools.lab.__main__ import make_parser

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("arguments", [[], ["help"], ["-h"], ["--help"]])
def test_help_needs_no_environment_and_builds_none(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "tools/lab").mkdir(parents=True)
    for name in ("lab", "tools/lab/help.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    # No Python and no network on this PATH: what is not a shell builtin is cat and dirname.
    (tmp_path / "bin").mkdir()
    for program in ("cat", "dirname"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program) or "")
    line = ["/bin/sh", str(tmp_path / "lab"), *arguments]
    printed = subprocess.run(line, env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True, check=True)
    assert printed.stdout == (ROOT / "tools/lab/help.txt").read_text()
    shutil.rmtree(tmp_path / "bin")
    assert sorted(tmp_path.rglob("*")) == before


def test_help_lists_every_command() -> None:
    listed = set(re.findall(r"^  (\w+)", (ROOT / "tools/lab/help.txt").read_text(), re.MULTILINE))
    (commands,) = (a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert listed == {*commands.choices, "help"}


def test_the_wheel_holds_the_kit_and_nothing_of_the_checkout(tmp_path: Path) -> None:
    (built,) = WheelBuilder(str(copy_checkout(tmp_path / "copy"))).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(built).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"bridge"}
    assert {"bridge/testing/plugin.py", "bridge/testing/asterisk/render", "bridge/py.typed"} <= set(names)
    assert not [name for name in names if re.search(r"docker|frontdoor|echo_call", name)]


def test_the_package_does_not_import_the_checkout() -> None:
    wrong = re.compile(r"^\s*(?:from|import) (?:tools|tests)\b", re.MULTILINE)
    assert [path for path in (ROOT / "bridge").rglob("*.py") if wrong.search(path.read_text())] == []
