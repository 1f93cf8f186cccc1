"""Delete unused channels and bridges of asterisk-bridge: of a previous run, or left while Asterisk was unavailable.

Only ids with the prefix of this application (``OwnIds``) are considered.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection

from bridge.ari.client import AriClient
from bridge.calls.ids import OwnIds
from bridge.errors import AriError

log = logging.getLogger(__name__)


async def sweep(client: AriClient, ids: OwnIds, in_use: Callable[[], Collection[str]]) -> tuple[int, int]:
    """Delete the channels and bridges that are no longer in use.

    Args:
        client: ARI.
        ids: recognizes own ids.
        in_use: returns the ids in use; called after the lists have arrived, to include objects created meanwhile.

    Returns:
        How many channels and how many bridges were deleted.

    Raises:
        AriError: Asterisk refused the lists.
    """
    # An originated call that was continued in the dialplan belongs to the dialplan.
    channel_ids = [
        channel.id
        for channel in await client.channels.list()
        if ids.kind(channel.id) != "call" or channel.state != "Up" or channel.dialplan.app_name == "Stasis"
    ]
    bridge_ids = [bridge.id for bridge in await client.bridges.list()]
    used = in_use()
    channels = [i for i in channel_ids if ids.ours(i) and i not in used]
    bridges = [i for i in bridge_ids if ids.ours(i) and i not in used]
    # Objects that Asterisk is ending are listed until then (`bridge.taps.removal`), but not deleted again.
    hung_up = [await _try(client.channels.hangup(channel_id)) for channel_id in channels]
    for bridge_id in bridges:
        await _try(client.bridges.destroy(bridge_id))
    counts = len(hung_up) - hung_up.count(False), len(bridges)
    if any(counts):
        log.info("unused objects deleted channels=%d mixing_bridges=%d", *counts)
    return counts


async def _try(deletion: Awaitable[object]) -> object:
    try:
        return await deletion
    except AriError as error:
        log.warning("object not deleted by the sweep error=%s", error)
        return None
