"""What a user of the plug-in sees if something is missing: one message with the remedy, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import wave
from pathlib import Path

import pytest

from bridge.testing.bridge_program import to_toml
from bridge.testing.phone import PhoneError, read_wav
from bridge.testing.plugin import lab_folder

SESSION = (
    "--asyncio-mode=auto",
    *("-o", "asyncio_default_fixture_loop_scope=session", "-o", "asyncio_default_test_loop_scope=session"),
)
TEST = "async def test_a_call(lab):\n    pass\n"
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV", "LAB_"))}
PROLOGUE = "import sys; {}; import pytest; sys.exit(pytest.main(sys.argv[1:]))"


def run(folder: Path, *arguments: str, prologue: str = "pass", **environ: str) -> str:
    """Run pytest on `TEST` in a folder of its own, with the plug-in; return the output of its failure."""
    (folder / "test_mine.py").write_text(TEST)
    line = [sys.executable, "-P", "-c", PROLOGUE.format(prologue), "-p", "bridge.testing.plugin", "-p", "no:xdist"]
    printed = subprocess.run(
        [*line, *arguments, "test_mine.py"],
        cwd=folder,
        env=ENVIRON | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert printed.returncode == 1, printed.stdout + printed.stderr
    assert "Traceback" not in printed.stdout + printed.stderr
    return printed.stdout


@pytest.mark.parametrize("arguments", [(), ("--asyncio-mode=auto",)])
def test_a_test_on_a_loop_of_its_own(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    printed = run(tmp_path, *arguments)
    assert 'asyncio_default_test_loop_scope = "session"' in printed
    assert "the fixture 'lab'" in printed


def test_without_a_mirror_of_debian(tmp_path: Path) -> None:
    """Port 9 of this machine refuses; a unit test must not use the machine's own mirrors."""
    (tmp_path / "bin").mkdir()
    for name, body in (("apt-get", '[ "$1" = indextargets ] || { echo "E: nothing answers" >&2; exit 100; }'),):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    printed = run(
        tmp_path,
        *SESSION,
        LAB_CACHE=str(tmp_path / "cache"),
        DEBIAN_MIRROR="http://127.0.0.1:9/debian",
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    )
    assert "the fixture 'lab' has no Asterisk: no mirror gave a usable list of packages" in printed
    assert "http://127.0.0.1:9/debian: E: nothing answers" in printed


def test_on_a_system_without_apt(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    printed = run(tmp_path, *SESSION, LAB_CACHE=str(tmp_path / "cache"), PATH=str(tmp_path / "bin"))
    assert "the fixture 'lab' has no Asterisk: " in printed
    assert "apt-get" in printed


def test_without_pytest_asyncio(tmp_path: Path) -> None:
    printed = run(tmp_path, prologue="sys.modules['pytest_asyncio'] = None", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "pip install 'asterisk-bridge[testing]'" in printed


def test_each_process_of_xdist_has_a_folder_of_its_own(
    pytestconfig: pytest.Config,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pytestconfig.option, "lab_folder", tmp_path)
    folders = []
    for worker in ("gw0", "gw1"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        folders.append(lab_folder(pytestconfig, tmp_path_factory))
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert folders == [tmp_path / "gw0", tmp_path / "gw1"]
    assert lab_folder(pytestconfig, tmp_path_factory) == tmp_path


def test_sections_are_written_as_toml() -> None:
    sections = {
        "http": {"port": 8080, "authentication": False, "tokens": ["a"]},
        "dialplan": [{"id": "x", "options": {"key with space": 'quote " \\ \n é'}}, {"id": "y", "deep": [{"a": 1.5}]}],
    }
    assert tomllib.loads(to_toml(sections)) == sections


def test_a_recording_of_a_call_that_is_still_up_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "dump-dec.wav"
    for data in (b"", b"RIFF\0\0\0\0WAVE"):
        path.write_bytes(data)
        with pytest.raises(PhoneError, match=r"when its call has ended.*heard_so_far"):
            read_wav(path)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(b"\0\0")
    with pytest.raises(PhoneError, match="not 16-bit mono at 8000 Hz"):
        read_wav(path)
