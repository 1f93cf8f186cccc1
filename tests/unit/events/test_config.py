"""A webhook's table: what is wrong is named, secrets are not repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import load
from bridge.config.webhooks import EVENT_TYPES, EventPatterns
from bridge.errors import ConfigError

ROOT = Path(__file__).parents[3]
ARI = '[ari]\nuser = "bridge"\npassword = "p"\n'
GOOD = {"id": "'crm'", "url": "'https://crm.example/hook'", "secret": "'a-secret-of-sixteen'"}


def write(folder: Path, *tables: dict[str, str]) -> Path:
    path = folder / "x.toml"
    path.write_text(
        ARI + "".join("[[webhooks]]\n" + "".join(f"{k} = {v}\n" for k, v in table.items()) for table in tables)
    )
    return path


@pytest.mark.parametrize(
    ("change", "key", "word"),
    [
        ({"secret": "'short-pw-in-it'"}, "secret", "openssl"),
        ({"secret": "'whsec_pw-in-it-pw-in-it'"}, "secret", "base64"),
        ({"secret": "1234567890123456"}, "secret", "expected a string"),
        ({"events": "['calls_*']"}, "events[0]", "call_created"),
        ({"events": "['dtmf_*']"}, "events[0]", "must be named in full"),
        ({"events": "[]"}, "events", "at least one"),
        ({"events": "'*'"}, "events", "list"),
        ({"url": "'ftp://x'"}, "url", "https://"),
        ({"url": "'https://u:pw-in-it@x'"}, "url", "user name"),
        ({"url": "'https://'"}, "url", "host"),
        ({"ca_file": "'/no/such'"}, "ca_file", "does not exist"),
        ({"retry_first_s": "9", "retry_last_s": "8"}, "retry_last_s", "shorter"),
        ({"id": "'good'"}, "id", "also the id of webhooks.0"),
        ({"secrets": "'x'"}, "secrets", "did you mean secret"),
        ({"max_queued_events": "0"}, "max_queued_events", "1 to 1000000"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: dict[str, str], key: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, GOOD | {"id": "'good'"}, GOOD | change), {})
    assert caught.value.key == f"webhooks.1.{key}"
    assert word in caught.value.reason
    assert "pw-in-it" not in str(caught.value)


def test_a_secret_is_needed_and_may_come_from_the_environment(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "'my-crm'", "url": "'http://127.0.0.1:1/'"})
    with pytest.raises(ConfigError, match="is missing"):
        load(path, {})
    config = load(path, {"ASTERISK_BRIDGE_WEBHOOKS__MY_CRM__SECRET": "from-the-environment"})
    assert config.webhooks[0].secret.get_secret_value() == "from-the-environment"
    assert "from-the-environment" not in repr(config)


def test_every_type_of_event_is_documented_with_an_example() -> None:
    text = (ROOT / "docs/reference/events.md").read_text()
    for name in EVENT_TYPES:
        assert f"`{name}`" in text, name
        assert f'"type": "{name}"' in text, name


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [(("*",), False), (("*", "call_*"), False), (("dtmf_receive?",), False), (("*", "dtmf_received"), True)],
)
def test_digits_are_for_those_who_name_them(patterns: tuple[str, ...], wanted: bool) -> None:
    assert EventPatterns(patterns).match("dtmf_received") is wanted
    assert EventPatterns(patterns).match("call_hangup") is ("*" in patterns)
