"""The section [speech]: from a file, from the environment, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import load
from bridge.errors import ConfigError

ENV = {"ASTERISK_BRIDGE_ARI__USER": "bridge", "ASTERISK_BRIDGE_ARI__PASSWORD": "p"}


def test_a_program_with_voices(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text('[speech]\ncommand = ["say", "{voice}"]\nvoices = {de = "thorsten"}\nsounds_dir = "/srv/sounds"\n')
    speech = load(path, ENV).speech
    assert speech.command == ("say", "{voice}")
    assert speech.voices == {"de": "thorsten"}
    assert speech.sounds_dir == "/srv/sounds"


def test_from_the_environment() -> None:
    speech = load(
        None,
        ENV
        | {
            "ASTERISK_BRIDGE_SPEECH__COMMAND": '["say", "a, b"]',
            "ASTERISK_BRIDGE_SPEECH__VOICES": '{"de" = "thorsten"}',
            "ASTERISK_BRIDGE_SPEECH__TIMEOUT_S": "30",
        },
    ).speech
    assert (speech.command, speech.voices, speech.timeout_s) == (("say", "a, b"), {"de": "thorsten"}, 30)
    assert load(None, ENV | {"ASTERISK_BRIDGE_SPEECH__COMMAND": "[]"}).speech.command == ()


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ('command = "espeak-ng --stdout"', "speech.command", "a list of strings"),
        ('command = ["say", "{text}"]', "speech.command", "standard input"),
        ('command = [" "]', "speech.command", "no program"),
        ('command = ["say", "\\u0000"]', "speech.command", "NUL"),
        ('voices = ["x"]', "speech.voices", "a table of strings"),
        ('sounds_dir = "sounds"', "speech.sounds_dir", "absolute"),
        ("timeout_s = 0", "speech.timeout_s", "0.1 to 300"),
        ("cache_bytes = -1", "speech.cache_bytes", "bytes"),
        ("engine = 1", "speech.engine", ""),
    ],
)
def test_what_is_refused(tmp_path: Path, line: str, key: str, words: str) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(f"[speech]\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, ENV)
    assert caught.value.key == key
    assert words in caught.value.reason
