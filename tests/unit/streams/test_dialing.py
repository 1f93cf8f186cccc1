"""The destination of a connection: templates, headers, the credential from a file, and the call's variables."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.dialects.base import Account, CallInfo
from bridge.errors import AriError
from bridge.media.dial import Destination, LinkFailed
from bridge.streams import dialing
from bridge.streams.dialing import credential_of, destination_of, variables_of
from bridge.streams.subscription import DialplanRoute

CALL = CallInfo("7.1", "inbound", "+49 30/1", "800", "+4980", {"LANG": "en\r\nX: y"})


def route(**values: Any) -> DialplanRoute:
    return DialplanRoute.model_validate(
        {"id": "r", "match": "750", "url": "wss://h/x", "dialect": "jambonz", "channel_variables": ["LANG"], **values}
    )


def destination(target: DialplanRoute, credential: dict[str, str] | None = None) -> Destination:
    return destination_of(target, target.new_dialect(), Account(), CALL, ca_dir=None, credential=credential)


def test_url_and_headers_are_filled_and_encoded() -> None:
    target = route(
        url="wss://h:1/{did}/{LANG}?c={caller}&d={direction}",
        auth_value="s3cret",
        extra_headers={"X-Call": "id={call_id}", "X-Lang": "{LANG}", "X-Caller": "{caller}"},
    )
    found = destination(target)
    assert found.url == "wss://h:1/%2B4980/en%0D%0AX%3A%20y?c=%2B49%2030%2F1&d=inbound"
    assert found.headers == {
        "Sec-WebSocket-Protocol": "audio.jambonz.org",
        "X-Call": "id=7.1",
        "X-Lang": "en%0D%0AX%3A%20y",
        "X-Caller": "+49%2030%2F1",
        "Secret": "s3cret",
    }


def test_subprotocols_replace_those_of_the_dialect() -> None:
    assert destination(route(subprotocols=["a.example", "b"])).headers["Sec-WebSocket-Protocol"] == "a.example, b"


async def test_the_credential_is_read_again_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "token"
    target = route(auth_key="Authorization", auth_value_file=str(file))
    with pytest.raises(LinkFailed, match=r"auth_value_file: .*token': No such file"):
        await credential_of(target)
    for content in ("Bearer one\n", "Bearer two\n"):
        file.write_text(content)
        assert destination(target, dict(await credential_of(target))).headers["Authorization"] == content.strip()
    for wrong, message in (
        (b"\xff", "is not UTF-8"),
        (b"a\nb", "printable ASCII"),
        (b"x" * 9000, "larger than"),
        (b"\n", "is empty"),
    ):
        file.write_bytes(wrong)
        with pytest.raises(LinkFailed, match=message) as raised:
            await credential_of(target)
        assert "a\nb" not in str(raised.value)


async def test_variables_are_those_of_the_first_channel_that_exists() -> None:
    async def get(channel_id: str, name: str) -> str:
        if channel_id == "gone" or name == "NONE":
            raise AriError(404, "GET", "/", "not found")
        return f"{name} of {channel_id}"

    found = await variables_of(("LANG", "NONE"), ("gone", "7.1", "7.2"), get)
    assert found == {"LANG": "LANG of 7.1", "NONE": ""}


async def test_a_connection_does_not_wait_for_asterisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "VARIABLES_TIMEOUT_S", 0.01)

    async def never(_: str, __: str) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    assert await variables_of(("LANG",), ("7.1",), never) == {"LANG": ""}


@pytest.mark.parametrize("dialect", ["twilio", "vonage", "jambonz", "telnyx", "plivo", "exotel", "chan_websocket"])
def test_variables_and_filled_parameters_are_in_the_first_message(dialect: str) -> None:
    target = route(dialect=dialect, options={"parameters": {"agent": "{LANG} for {caller}"}})
    call = CallInfo("7.1", caller="1001", variables={"LANG": "en", "event": "x", "callSid": "x", "from_number": "x"})
    first = "".join(map(str, target.new_dialect().opened(call, ("inbound",), 0.0, 0.0))).replace("\\", "")
    assert '"LANG": "en"' in first or '"LANG":"en"' in first
    assert "en for 1001" in first
    assert '"callSid":"x"' not in first or dialect != "jambonz"
    assert '"event":"x"' not in first or dialect != "vonage"
    assert '"from_number":"x"' not in first or dialect == "jambonz"
