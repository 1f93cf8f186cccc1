"""Where packages are kept, and how they are run; fetching them is what the lab tests do."""

from __future__ import annotations

from pathlib import Path

from bridge.config.speech import ESPEAK
from bridge.testing.packages import Root, cache_folder


def test_cache_folder() -> None:
    assert cache_folder({"LAB_CACHE": "/a"}) == Path("/a")
    assert cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/asterisk-bridge")
    assert cache_folder({"LAB_CACHE": "", "XDG_CACHE_HOME": ""}) == Path.home() / ".cache" / "asterisk-bridge"


def test_espeak_speaks_from_standard_input_with_the_trees_own_voices() -> None:
    command = Root(Path("/r"), "x86_64-linux-gnu", "ld.so").speech_command
    assert command[:5] == (
        "/r/usr/lib/x86_64-linux-gnu/ld.so",
        "--library-path",
        "/r/usr/lib/x86_64-linux-gnu:/r/usr/lib/x86_64-linux-gnu/pulseaudio",
        "/r/usr/bin/espeak-ng",
        "--path=/r/usr/lib/x86_64-linux-gnu",
    )
    assert command[5:] == ESPEAK[1:]


def test_programs_are_run_by_the_trees_own_loader() -> None:
    root = Root(Path("/r"), "x86_64-linux-gnu", "ld.so")
    assert root.command("usr/bin/x", "-a") == [
        "/r/usr/lib/x86_64-linux-gnu/ld.so",
        "--library-path",
        "/r/usr/lib/x86_64-linux-gnu",
        "/r/usr/bin/x",
        "-a",
    ]
