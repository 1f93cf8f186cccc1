"""Requests to ARI that tests make and the bridge does not."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.ari.client import AriClient


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
