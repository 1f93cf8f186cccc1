"""Where the files of an Asterisk are found below the prefix that a user names."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.testing.asterisk_files import at_prefix
from bridge.testing.lab_engine import LabError


def install(prefix: Path, modules: str, data: str) -> None:
    for file in (prefix / "sbin" / "asterisk", prefix / modules / "res_stasis.so", prefix / data / "rest-api" / "x"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o755)


@pytest.mark.parametrize(
    ("prefix", "modules", "data"),
    [
        ("opt/asterisk", "lib/asterisk/modules", "var/lib/asterisk"),
        ("opt/asterisk", "lib64/asterisk/modules", "var/lib/asterisk"),
        ("usr", "lib/x86_64-linux-gnu/asterisk/modules", "share/asterisk"),
        ("usr", "lib/asterisk/modules", "../var/lib/asterisk"),
    ],
)
def test_an_installation_is_found_by_its_prefix(tmp_path: Path, prefix: str, modules: str, data: str) -> None:
    place = tmp_path / prefix
    install(place, modules, data)
    found = at_prefix(place)
    assert found.command[-1] == str(place / "sbin" / "asterisk")
    assert found.modules == place / modules
    assert found.data == (place / data).resolve()


@pytest.mark.parametrize(
    ("missing", "words"),
    [("sbin/asterisk", "is not an executable file"), ("lib", "res_stasis.so"), ("share", "rest-api")],
)
def test_what_is_missing_is_named(tmp_path: Path, missing: str, words: str) -> None:
    install(tmp_path, "lib/asterisk/modules", "share/asterisk")
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(LabError, match=words) as raised:
        at_prefix(tmp_path)
    assert "asterisk" in str(raised.value)
