"""asterisk/render fills templates, whatever a password is made of."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bridge.testing.embedded import CONFIGURATION, render
from bridge.testing.lab_engine import LabError

SECRETS = {"ARI_PASSWORD": "a", "PHONE_PASSWORD": "b"}


def rendered(tmp_path: Path, template: str, **values: str) -> str:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.conf").write_text(template)
    render(tmp_path / "in", tmp_path / "out", {**SECRETS, **values})
    return (tmp_path / "out" / "x.conf").read_text()


@pytest.mark.parametrize("password", ["plain", "a|b", "a&b", r"a\b", "a/b", "$HOME `id` '\"", "ä€", "@SIP_PORT_"])
def test_any_password(tmp_path: Path, password: str) -> None:
    text = rendered(tmp_path, "password = @ARI_PASSWORD@ ; x\n", ARI_PASSWORD=password)
    assert text == f"password = {password} ; x\n"


def test_a_line_with_an_empty_value_is_left_out(tmp_path: Path) -> None:
    text = rendered(
        tmp_path, "a = 1\nmedia_address = @MEDIA_ADDRESS@\nb = @SIP_PORT@\n", MEDIA_ADDRESS="", SIP_PORT="7"
    )
    assert text == "a = 1\nb = 7\n"


def test_two_names_side_by_side(tmp_path: Path) -> None:
    assert rendered(tmp_path, "sip:@PHONE@@@REGISTRAR@\n", PHONE="1001", REGISTRAR="h:5") == "sip:1001@h:5\n"


def test_a_name_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="NO_SUCH_NAME"):
        rendered(tmp_path, "x = @NO_SUCH_NAME@\n")


def test_the_output_is_for_its_owner_only(tmp_path: Path) -> None:
    rendered(tmp_path, "x\n")
    assert stat.S_IMODE((tmp_path / "out" / "x.conf").stat().st_mode) == 0o600


@pytest.mark.parametrize("templates", ["etc", "phones/baresip"])
def test_every_template_of_ours_renders_with_the_containers_defaults(tmp_path: Path, templates: str) -> None:
    phone = {
        "PHONE": "1001",
        "PHONE_SIP": "0.0.0.0:5060",
        "PHONE_CONTROL": "0.0.0.0:4444",
        "PHONE_RTP": "20000-20100",
        "PHONE_MODULES": "/usr/lib/baresip/modules",
        "PHONE_CODECS": "PCMU/8000/1",
        "REGISTER_EXPIRES": "60",
        "REGISTRAR": "asterisk:5060",
    }
    render(CONFIGURATION / templates, tmp_path, {**SECRETS, **phone})
    names = {file.name for file in (CONFIGURATION / templates).iterdir()}
    assert {file.name for file in tmp_path.iterdir()} == names
