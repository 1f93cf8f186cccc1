"""Tools in the configuration: what is rejected at the start, and how the environment names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import Config, each_error, load
from bridge.errors import ConfigError

ROUTE = """
[[dialplan]]
id = "model"
match = "{match}"
url = "wss://model.example.org/"
dialect = "openai_realtime"
agent = {{{agent}}}
"""
TOOL = """
[[tools]]
id = "{id}"
description = "Return the state of an order."
url = "https://shop.example.org/order"
secret = "for-the-tests-only"
{more}
"""
ARI = '[ari]\nuser = "u"\npassword = "p"\n'


def read(folder: Path, text: str, **environ: str) -> Config:
    """Read a configuration file."""
    path = folder / "bridge.toml"
    path.write_text(ARI + text)
    return load(path, environ)


def errors(folder: Path, text: str) -> str:
    """Return the mistakes in a configuration file."""
    with pytest.raises(ConfigError) as raised:
        read(folder, text)
    return "\n".join(map(str, each_error(raised.value)))


@pytest.mark.parametrize(
    ("match", "agent", "error"),
    [
        (
            "800",
            'tools = ["tranfser"]',
            "'tranfser' is neither a built-in tool nor the id of a table [[tools]]; did you mean transfer?",
        ),
        (
            "800",
            'tools = ["order_states"]',
            "'order_states' is neither a built-in tool nor the id of a table [[tools]]; did you mean order_status?",
        ),
        ("uuid:*", 'tools = ["order_status", "hang_up"]', "hang_up requires Stasis()"),
        ("800", 'tools = ["transfer"], transfer_prompt = "sound:x.wav"', "below speech.sounds_dir, which is not set"),
        ("800", 'failure_prompt = "sound:x.wav"', "below speech.sounds_dir, which is not set"),
        ("800", 'reconnect_prompt = "sound:x.wav"', "below speech.sounds_dir, which is not set"),
        ("800", 'transfer_mode = "warm"', 'expected "any", "blind" or "attended"'),
    ],
)
def test_an_agents_tools_are_checked(tmp_path: Path, match: str, agent: str, error: str) -> None:
    text = ROUTE.format(match=match, agent=agent) + TOOL.format(id="order_status", more="")
    assert error in errors(tmp_path, text)


def test_a_prompt_may_be_a_url_without_a_folder_of_sounds(tmp_path: Path) -> None:
    url = "sound:https://sounds.example/x.wav"
    agent = f'tools = ["transfer"], transfer_prompt = "{url}", failure_prompt = "{url}"'
    assert read(tmp_path, ROUTE.format(match="800", agent=agent)).dialplan[0].agent.failure_prompt == url


def test_an_attended_transfer_requires_speech(tmp_path: Path) -> None:
    speech = "[speech]\ncommand = []\n"
    route = ROUTE.format(match="800", agent='tools = ["transfer"], transfer_mode = "{mode}", transfer_prompt = ""')
    assert "requires speech" in errors(tmp_path, speech + route.replace("{mode}", "attended"))
    assert read(tmp_path, speech + route.replace("{mode}", "blind")).dialplan[0].agent.tools == ("transfer",)


@pytest.mark.parametrize(
    ("name", "more", "error"),
    [
        ("hang_up", "", "'hang_up' is a built-in tool"),
        ("2nd", "", "must be a letter and up to 62 letters"),
        ("a", 'parameters = {type = "object", properties = {x = {pattern = "a"}}}', "pattern is not supported"),
        ("a", 'filler = "sound:x.wav"', "below speech.sounds_dir, which is not set"),
        ("a", 'timeout = 5', "unknown key; did you mean timeout_s?"),
    ],
)  # fmt: skip
def test_own_tools_are_checked(tmp_path: Path, name: str, more: str, error: str) -> None:
    assert error in errors(tmp_path, TOOL.format(id=name, more=more))


def test_two_tools_have_different_names(tmp_path: Path) -> None:
    assert "also the id of tools.0" in errors(tmp_path, TOOL.format(id="a", more="") * 2)


@pytest.mark.parametrize("name", ["order_status", "order-status", "orderStatus"])
def test_the_secret_may_come_from_the_environment(tmp_path: Path, name: str) -> None:
    key = name.upper().replace("-", "_")
    config = read(
        tmp_path, TOOL.format(id=name, more=""), **{f"ASTERISK_BRIDGE_TOOLS__{key}__SECRET": "another-secret-of-ours"}
    )
    assert config.tools[0].secret.get_secret_value() == "another-secret-of-ours"
