"""The product in a user's tests: ``asterisk-bridge serve`` as a process of its own, configured for a lab."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

from bridge.testing.lab_engine import Lab, LabError, free_port
from bridge.testing.processes import BackgroundProgram

START_TIMEOUT_S = 60.0


class BridgeProgram:
    """One running asterisk-bridge; the fixture ``start_bridge`` creates it.

    Args:
        lab: the Asterisk that it connects to.
        folder: for its configuration; must be readable by the program.
        sections: of the configuration, as in TOML: ``dialplan=[{...}]``, ``media={...}``. They are merged over those
            that connect it to the lab, so nothing else has to be given.
        command: the program and its first arguments; empty: the asterisk-bridge of this Python. ``{folder}`` stands
            for the folder.
    """

    def __init__(self, lab: Lab, folder: Path, sections: Mapping[str, Any], *, command: str = "") -> None:
        self.token = secrets.token_urlsafe(24)
        """Token for its HTTP API, with every scope."""
        self.log = lab.logs / f"bridge-{secrets.token_hex(4)}.log"
        """Its output."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        """Base address of its HTTP API."""
        self._file = folder / "asterisk-bridge.toml"
        defaults = _for_lab(lab, port, self.token)
        if not command:  # a container has an espeak-ng of its own, and not the lab's
            defaults["speech"] = {"command": list(lab.speech_command)}
        self._file.write_text(to_toml(_merged(defaults, sections)), encoding="utf-8")
        words = [word.replace("{folder}", str(folder)) for word in shlex.split(command)]
        self._command = words or [sys.executable, "-P", "-m", "bridge"]
        self._process = BackgroundProgram("bridge", folder, self.log)

    async def start(self) -> None:
        """Start the program; return when it can serve calls.

        Raises:
            LabError: the program ended or did not become healthy; the message contains the end of its log.
        """
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ASTERISK_BRIDGE_")}
        line = [*self._command, "serve", "--config", str(self._file)]
        self._process.start(line, outlive_us=False, environ=environ)
        try:
            async with asyncio.timeout(START_TIMEOUT_S), aiohttp.ClientSession(auto_decompress=False) as session:
                while not await _is_healthy(session, self.url):
                    if self._process.pid is None:
                        raise LabError(f"asterisk-bridge ended; its log ends:\n{self._process.last_lines()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise LabError(
                f"asterisk-bridge is not healthy after {START_TIMEOUT_S:.0f} s; its log ends:\n"
                f"{self._process.last_lines()}"
            ) from None

    async def stop(self) -> None:
        """End the program with SIGTERM; does nothing if it has ended."""
        await self._process.stop(patience_s=20.0)

    async def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send a request with the token.

        Args:
            method: the HTTP method.
            path: for example ``/v1.0/calls``.
            body: sent as JSON; None: no body.

        Returns:
            Status and body: decoded if it is JSON, else a string.
        """
        headers = {"Authorization": f"Bearer {self.token}", "Accept-Encoding": "identity"}
        async with (
            aiohttp.ClientSession(headers=headers, auto_decompress=False) as session,
            session.request(method, self.url + path, json=body) as response,
        ):
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text())

    def stream_url(self, call_id: str, **options: str | int) -> str:
        """Return the address of a call's media stream, with the token: for `bridge.testing.peer.open_peer`."""
        query = urlencode({"token": self.token} | options)
        return f"ws{self.url.removeprefix('http')}/v1.0/calls/{quote(call_id, safe='')}/media_stream?{query}"


async def _is_healthy(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/health") as response:
            return response.status == 200
    except (aiohttp.ClientError, OSError):
        return False


def _for_lab(lab: Lab, port: int, token: str) -> dict[str, Any]:
    """Return the sections that connect a bridge to a lab."""
    return {
        "http": {"host": "127.0.0.1", "port": port, "tokens": [token]},
        "audiosocket": {
            "bind_host": lab.audiosocket_bind,
            "bind_port": lab.audiosocket_port,
            "advertised_host": lab.audiosocket_host,
        },
        "ari": {"url": lab.ari_url, "user": lab.ari_user, "password": lab.ari_password, "app": lab.ari_app},
        "streams": {"state_file": ":memory:"},
        "outbound": {"allow": ["localhost"]},  # applications and flow servers of the tests
        "media": {"refuse_late_ms": 0},  # a busy machine is not a reason to refuse a test's call
        "calling": {
            "tel_endpoint": "PJSIP/{number}@trunk-a",
            "sip_endpoint": "PJSIP/sip-out/{uri}",
            "sip_hosts": ["127.0.0.1"],
            "caller_id": "750",
            "context": "media-tap",
        },
    }


def _merged(defaults: dict[str, Any], sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections merged over defaults key by key; lists of tables replace."""
    merged = dict(defaults)
    for name, section in sections.items():
        ours = merged.get(name)
        merged[name] = {**ours, **section} if isinstance(ours, dict) and isinstance(section, Mapping) else section
    return merged


def to_toml(sections: Mapping[str, Any]) -> str:
    """Return sections and lists of tables as TOML."""
    lines: list[str] = []
    for name, section in sections.items():
        tables = [(f"[[{name}]]", each) for each in section] if isinstance(section, list) else [(f"[{name}]", section)]
        for head, table in tables:
            lines += [head, *(f"{json.dumps(key)} = {_to_value(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def _to_value(value: object) -> str:
    match value:
        case Mapping():
            return "{" + ", ".join(f"{json.dumps(key)} = {_to_value(each)}" for key, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(_to_value(each) for each in value) + "]"
        case Path():
            return json.dumps(str(value), ensure_ascii=False)
        case _:  # strings, numbers and booleans look the same in JSON
            return json.dumps(value, ensure_ascii=False)
