"""The samples in the documentation are valid: configurations, flows, JSON, Python and shell commands."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bridge.config import load
from bridge.flows.syntax import parse

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
OTHER_FILES = {"tool"}
"""First keys of TOML samples that are not the configuration of asterisk-bridge."""
ENVIRONMENT = {
    "ASTERISK_BRIDGE_ARI__USER": "bridge",
    "ASTERISK_BRIDGE_ARI__PASSWORD": "a-password",
    "ASTERISK_BRIDGE_WEBHOOKS__CRM__SECRET": "0123456789abcdef",
    "ASTERISK_BRIDGE_CLUSTER__PASSWORD": "a-password",
}
"""What samples leave to the environment."""


def samples(language: str) -> list[Any]:
    """Return the blocks of a language, each with its page and line."""
    found = []
    for page in sorted(PAGES):
        text = page.read_text()
        for indent, kind, block in FENCE.findall(text):
            if kind == language:
                line = text[: text.index(block)].count("\n") + 1
                plain = re.sub(rf"(?m)^{indent}", "", block)
                found.append(pytest.param(plain, id=f"{page.relative_to(ROOT)}:{line}"))
    return found


@pytest.mark.parametrize("block", samples("toml"))
def test_a_configuration_is_valid(block: str, tmp_path: Path) -> None:
    keys = tomllib.loads(block)
    if not OTHER_FILES & set(keys):
        path = tmp_path / "bridge.toml"
        path.write_text(_completed(block))
        needed = {name: value for name, value in ENVIRONMENT.items() if _has(keys, name)}
        config = load(path, needed)
        _check_targets(config)


def _completed(block: str) -> str:
    """Put something valid for what a sample abbreviates."""
    block = re.sub(r"(?m)^tls_(certificate|key) = .*\n", "", block)  # files that this machine does not have
    block = re.sub(r'(auth_token|api_key|secret|password) = "\.\.\."', r'\1 = "0123456789abcdef"', block)
    return block.replace('"sha256:..."', f'"sha256:{"0" * 64}"').replace(
        '"/etc/asterisk-bridge/flow.json"', '"/dev/null"'
    )


def _has(keys: dict[str, Any], variable: str) -> bool:
    """Return whether a variable of the environment has a place in a sample."""
    section = variable.removeprefix("ASTERISK_BRIDGE_").split("__")[0].lower()
    return section == "ari" or section in keys


def _check_targets(config: Any) -> None:
    """Check what only the layers above the configuration know: options of dialects, actions of flows."""
    from bridge.streams.subscription import routes_of, subscriptions_of

    subscriptions_of(config)
    routes_of(config)
    for flow in config.flows:
        if flow.actions:
            parse(list(flow.actions))


@pytest.mark.parametrize("block", samples("json"))
def test_json_is_valid(block: str) -> None:
    rest = block.replace(", …", "").replace("…", "").strip()
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        rest = rest[end:].strip()
        actions = value.get("actions") if isinstance(value, dict) else value
        if isinstance(value, dict) and set(value) <= {"type", "option", "params"} and "type" in value:
            actions = [value]
        if isinstance(actions, list) and actions and isinstance(actions[0], dict) and "type" in actions[0]:
            parse(actions)


@pytest.mark.parametrize("block", samples("python"))
def test_python_is_valid(block: str) -> None:
    ast.parse(block)


def test_shell_commands_are_valid() -> None:
    for parameter in samples("sh"):
        (block,) = parameter.values
        done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
        assert not done.returncode, f"{parameter.id}: {done.stderr}"
