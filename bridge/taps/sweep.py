"""Deletes channels and bridges that the bridge made and no longer uses: of an earlier life, or left while Asterisk
could not be reached. Nothing else is ever touched: only ids with our own prefix (``OwnIds``) are considered."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection

from bridge.ari.client import AriClient
from bridge.calls.ids import OwnIds
from bridge.errors import AriError

log = logging.getLogger(__name__)


async def sweep(client: AriClient, ids: OwnIds, in_use: Callable[[], Collection[str]]) -> tuple[int, int]:
    """Delete our orphans.

    Args:
        in_use: ids that belong to something alive; asked after the lists have come, so that what is being made
            meanwhile is in it.

    Returns:
        How many channels and how many bridges were deleted.

    Raises:
        AriError: the lists could not be read.
    """
    # A call that we have originated, and sent on into the dialplan, is the dialplan's.
    channel_ids = [
        channel.id
        for channel in await client.channels.list()
        if ids.kind(channel.id) != "call" or channel.state != "Up" or channel.dialplan.app_name == "Stasis"
    ]
    bridge_ids = [bridge.id for bridge in await client.bridges.list()]
    used = in_use()
    channels = [i for i in channel_ids if ids.ours(i) and i not in used]
    bridges = [i for i in bridge_ids if ids.ours(i) and i not in used]
    # What Asterisk is ending already is listed until it has ended (`bridge.taps.removal`), and is not deleted by us.
    hung_up = [await _try(client.channels.hangup(channel_id)) for channel_id in channels]
    for bridge_id in bridges:
        await _try(client.bridges.destroy(bridge_id))
    counts = len(hung_up) - hung_up.count(False), len(bridges)
    if any(counts):
        log.info("swept %d channels and %d bridges that nothing uses any more", *counts)
    return counts


async def _try(deletion: Awaitable[object]) -> object:
    try:
        return await deletion
    except AriError as error:
        log.warning("sweep: %s", error)
        return None
