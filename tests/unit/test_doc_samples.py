"""The samples in the documentation are valid: configurations, flows, JSON, Python, shell commands, HTTP requests."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from jsonschema_rs import Draft202012Validator

from bridge.config import load
from bridge.flows.syntax import parse
from tools.reference.http import served

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
CURL = re.compile(r"""(?m)^ *curl (?:[^'"\n]|'[^']*'|"[^"]*")*""")
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
    block = block.replace('tokens = ["..."]', 'tokens = ["0123456789abcdef"]')
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


def test_no_request_is_outside_a_fence() -> None:
    found = []
    for page in PAGES:
        rest = FENCE.sub("", page.read_text())
        found += [f"{page.relative_to(ROOT)}: {line}" for line in re.findall(r"(?m)^ {4,}.*\bcurl .*$", rest)]
    assert found == []


def test_no_configuration_is_outside_a_fence() -> None:
    """A sample without a language is not checked by the tests above."""
    table = re.compile(r"(?m)^ *\[+\w[\w.]*\]+(?: *#.*)?\n *\w+ *= *[\"\[\w]")
    found = []
    for page in PAGES:
        rest = FENCE.sub("", page.read_text())
        blocks = re.findall(r"(?m)(?:^    .*\n)+", rest)
        found += [f"{page.relative_to(ROOT)}: {block}" for block in blocks if table.match(block) and _is_toml(block)]
    assert found == []


def _is_toml(block: str) -> bool:
    try:
        return bool(tomllib.loads(block))
    except tomllib.TOMLDecodeError:
        return False


@dataclass
class Curl:
    """A command of curl: what it requests."""

    method: str = ""
    url: str = ""
    body: str | None = None
    form: list[str] = field(default_factory=list)

    @classmethod
    def parsed(cls, words: list[str]) -> Curl:
        it = cls()
        rest = iter(words)
        for word in rest:
            match word:
                case "-X":
                    it.method = next(rest)
                case "--json":
                    it.body = next(rest)
                case "-d" | "--data":
                    data = next(rest)
                    if data.startswith("{"):
                        it.body = data
                    else:
                        it.form.append(data)
                case "-H" | "-u" | "-o" | "--url" | "--cacert":
                    next(rest)
                case _ if not word.startswith("-"):
                    assert not it.url, words
                    it.url = word
        it.method = it.method or ("POST" if it.body or it.form else "GET")
        return it


def curls() -> Iterator[tuple[str, Curl]]:
    """Yield every command of curl, with its page and line."""
    for parameter in samples("sh"):
        (block,) = parameter.values
        for command in CURL.findall(block.replace("\\\n", " ")):
            yield str(parameter.id), Curl.parsed(shlex.split(command, comments=True)[1:])


async def test_requests_are_those_of_the_openapi_document() -> None:
    document = json.loads(await served("GET", "/openapi.json"))
    seen = 0
    for place, curl in curls():
        address = urlsplit(re.sub(r"^\$\w+", "http://bridge", curl.url))
        operation = _operation(document, curl.method, address.path)
        assert operation, f"{place}: {curl.method} {address.path}"
        known = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
        known |= set(re.findall(r"`(\w+)`", operation.get("description", "")))  # of vendors' APIs, described in words
        credentials = {"access_token", "token", "ticket"}
        assert {name for name, _ in parse_qsl(address.query)} <= known | credentials, f"{place}: {curl.url}"
        if curl.body is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            validator = Draft202012Validator(schema | {"components": document["components"]})
            errors = [each.message for each in validator.iter_errors(json.loads(curl.body))]
            assert not errors, f"{place}: {errors}"
            actions = json.loads(curl.body).get("actions")
            if actions:
                parse(actions)
            seen += 1
    assert seen > 20


def _operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    """Return the operation of a path; parts that are written in full are found before those in braces."""
    for template in sorted(document["paths"], key=lambda each: each.count("{")):
        pattern = re.sub(r"\{\w+\}", "[^/]+", template.replace(".", r"\."))
        if re.fullmatch(pattern, path) and method.lower() in document["paths"][template]:
            return dict(document["paths"][template][method.lower()])
    return None
