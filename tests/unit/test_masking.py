"""Secrets are masked wherever what is configured is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.api.flows import flow_json
from bridge.config import FlowConfig
from bridge.masking import MASK, holds_mask, is_deeper, mask, mask_command, mask_url, unmasked

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://app.example/x", "https://app.example/x"),
        (f"https://user:{SECRET}@app.example/x", f"https://{MASK}@app.example/x"),
        (f"https://us@er:{SECRET}@app.example", f"https://{MASK}@app.example"),
        (f"wss://app.example/x?k={SECRET}&v=1", f"wss://app.example/x?k={MASK}&v={MASK}"),
        (f"https://app.example/?{SECRET}", f"https://app.example/?{MASK}"),
        (f"https://app.example/?a={SECRET}=b#{SECRET}", f"https://app.example/?a={MASK}#{MASK}"),
        (f"${{base}}/x?k={SECRET}", f"${{base}}/x?k={MASK}"),
        (f"HTTP://{SECRET}@[::1]:8/?{SECRET}", f"HTTP://{MASK}@[::1]:8/?{MASK}"),
        ("What? a=b", "What? a=b"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_a_url_shows_neither_user_nor_query(url: str, shown: str) -> None:
    assert mask_url(url) == shown


ACTIONS: list[dict[str, Any]] = [
    {"type": "webhook_send", "option": {"uri": f"https://u:{SECRET}@x/?k={SECRET}", "data": json.dumps({"k": SECRET})}},
    {"type": "fetch", "option": {"event_url": f"${{base}}/x?k={SECRET}"}},
    {
        "type": "external_media_start",
        "option": {"url": "wss://x", "auth_value": SECRET, "options": {"rate": 16000, "codec": "PCMU", "key": SECRET}},
    },
    {
        "type": "STREAM",
        "params": {
            "url": f"wss://x/?t={SECRET}",
            "parameters": {"key": SECRET, "pin": 4711},
            "stream_data": {"deep": [{"er": SECRET}, True, None]},
            "streamData": SECRET,
        },
    },
    {"type": "SESSIONDATA", "params": {"sessionData": {"k": SECRET}, "session_data": {"k": SECRET}}},
    {"type": "SAY", "params": {"text": "What? Call https now"}},
]


def test_a_configured_flow_shows_no_secret() -> None:
    shown = flow_json(FlowConfig(id="f", actions=tuple(ACTIONS)))
    text = json.dumps(shown)
    assert SECRET not in text
    assert "4711" not in text
    options = shown["actions"][2]["option"]["options"]
    assert options == {"rate": 16000, "codec": "PCMU", "key": MASK}
    assert shown["actions"][3]["params"]["stream_data"] == {"deep": [{"er": MASK}, True, None]}
    assert shown["actions"][5] == ACTIONS[5]
    fetched = flow_json(FlowConfig(id="f", url=f"https://x.example/f?k={SECRET}"))
    assert fetched["url"] == f"https://x.example/f?k={MASK}"


def test_a_command_shows_its_options_and_placeholders() -> None:
    command = ("speak", "-v", "{voice}", "--key", SECRET, f"--key={SECRET}", f"https://x/?k={SECRET}")
    assert mask_command(command) == ("speak", "-v", "{voice}", "--key", MASK, f"--key={MASK}", MASK)
    assert mask_command(()) == ()


def test_what_is_sent_back_as_it_was_shown_stays() -> None:
    kept: dict[str, Any] = {"rate": 8000, "a": SECRET, "p": {"x": SECRET, "y": [1, SECRET], "z": "plain"}}
    shown = mask(kept, "options")
    assert SECRET not in json.dumps(shown)
    assert unmasked(shown, kept, shown) == kept
    changed = json.loads(json.dumps(shown))
    changed["rate"] = 16000
    changed["p"]["x"] = "new"
    changed["p"]["more"] = 1
    del changed["a"]
    assert unmasked(changed, kept, shown) == {"rate": 16000, "p": {**kept["p"], "x": "new", "more": 1}}
    assert holds_mask(unmasked({"other": MASK}, kept, shown))
    assert not holds_mask(kept)


def test_depth_is_found_without_recursion() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert is_deeper(deep, 20)
    assert not is_deeper([[[1]]], 3)
    assert is_deeper([[[1]]], 2)
    assert not is_deeper(5, 1)
    while isinstance(deep, list):
        deep = deep[0]


def test_long_user_information_is_masked_too() -> None:
    assert mask_url(f"wss://user:{'k' * 2000}@app.example/x") == f"wss://{MASK}@app.example/x"


def test_the_secret_of_a_models_settings_is_masked() -> None:
    agent = {"instructions": "Be brief", "settings_secret": "whsec_0123456789", "parameters": {"api_key": "x"}}
    shown = mask([{"type": "ai_talk", "option": {"agent": agent}}])
    hidden = {"instructions": "Be brief", "settings_secret": MASK, "parameters": {"api_key": MASK}}
    assert shown == [{"type": "ai_talk", "option": {"agent": hidden}}]
