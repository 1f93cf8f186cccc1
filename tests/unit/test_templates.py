"""Templates: values from callers change neither the host nor the structure of a URL, nor a header."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.destination import Destination
from bridge.templates import FACTS, check, check_url, fill, fill_header, fill_url

URL = "wss://agent.example.org:8443/calls/{caller}/{did}/x?from={caller}&to={did}"


@given(caller=st.text(), did=st.text())
def test_no_value_changes_host_path_or_query(caller: str, did: str) -> None:
    values = {"caller": caller, "did": did}
    destination = Destination(fill_url(URL, values), {"X-Caller": f"<{fill_header('{caller}', values)}>"})
    assert (destination.secure, destination.host, destination.port) == (True, "agent.example.org", 8443)
    parts = urlsplit(destination.url)
    assert not parts.fragment
    segments = parts.path.split("/")
    assert len(segments) == 5
    assert (segments[1], segments[4]) == ("calls", "x")
    assert all(segment.strip(".") for segment in segments[1:])
    assert [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)] == ["from", "to"]


@pytest.mark.parametrize(
    ("caller", "path", "header"),
    [
        ("1001", "1001", "1001"),
        ("+49 30/123", "%2B49%2030%2F123", "+49%2030%2F123"),
        ("", "-", ""),
        (".", "_", "."),
        ("..", "__", ".."),
        ("../../admin", "..%2F..%2Fadmin", "..%2F..%2Fadmin"),
        ("a@evil.example#?&=%", "a%40evil.example%23%3F%26%3D%25", "a%40evil.example%23%3F%26%3D%25"),
        ("x\r\nX-Admin: 1", "x%0D%0AX-Admin%3A%201", "x%0D%0AX-Admin%3A%201"),
        ("Zoë", "Zo%C3%AB", "Zo%C3%AB"),
        ("{did}", "%7Bdid%7D", "%7Bdid%7D"),
        ("1" * 10_000, "1" * 512, "1" * 512),
    ],
)
def test_values_are_encoded(caller: str, path: str, header: str) -> None:
    values = {"caller": caller, "did": "800"}
    assert fill_url("wss://h/{caller}", values) == f"wss://h/{path}"
    assert fill_header("{caller}", values) == header
    assert fill("<{caller}>", values) == f"<{caller[:512]}>"
    assert caller == "" or unquote(fill_url("wss://h/?c={caller}", values)) == f"wss://h/?c={caller[:512]}"


def test_other_braces_are_literal() -> None:
    values = {"caller": "1001"}
    for text in ('{"a":{"b":1}}', "{unknown}", "{ caller }", "{}", "{caller:x}"):
        assert fill(text, values) == text
    assert fill("{{caller}} {caller}", values) == "{caller} 1001"


@pytest.mark.parametrize("url", ["wss://{caller}/", "wss://h:{did}/", "{caller}://h/", "wss://x{caller}", "{caller}"])
def test_no_name_may_stand_in_scheme_host_or_port(url: str) -> None:
    with pytest.raises(ValueError, match=r"may not be part of the scheme, host or port"):
        check_url(url, FACTS)
    assert fill_url(url, {"caller": "evil.example", "did": "1"}) == url


def test_an_unknown_name_is_reported_with_those_that_exist() -> None:
    check("{caller} {LANG}", (*FACTS, "LANG"))
    with pytest.raises(
        ValueError, match=r"\{number\} is unknown; expected one of \{call_id\}, \{caller\}, .*\{\{number\}\}"
    ):
        check("{number}", FACTS)
