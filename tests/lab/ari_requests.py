"""Requests to ARI that tests make and the bridge does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp

from bridge.ari.client import AriClient
from bridge.testing.lab_engine import Lab


async def send(lab: Lab, method: str, path: str, **query: str) -> Any:
    """Send a request to a lab's Asterisk, past the bridge; return the body if it is JSON.

    Raises:
        AssertionError: the response is an error.
    """
    headers = {"Authorization": aiohttp.encode_basic_auth(lab.ari_user, lab.ari_password)}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, f"{lab.ari_url}/ari{path}", params=query) as answer,
    ):
        if answer.status >= 400:
            raise AssertionError(f"{method} {path}: {answer.status} {await answer.text()}")
        return await answer.json() if answer.content_type == "application/json" else None


async def originate(
    client: AriClient,
    endpoint: str,
    channel_id: str = "",
    *,
    args: str = "",
    variables: Mapping[str, str] | None = None,
) -> None:
    """Dial an endpoint (``Local/600@internal``) and bring it into the client's application."""
    params = {"endpoint": endpoint, "app": client.app, "appArgs": args, "channelId": channel_id or None}
    body = {"variables": dict(variables)} if variables else None
    await client.channels._rest.request("POST", "/channels", params, body)


async def play(client: AriClient, channel_id: str, media: str) -> None:
    """Play ``tone:...`` to a channel in the client's application."""
    await client.channels._rest.request("POST", f"/channels/{channel_id}/play", {"media": media})
