"""The dialplan extension by which a snoop channel itself connects its audio to asterisk-bridge, at 8 kHz.

    [media-tap]
    exten => audiosocket,1,Answer()
     same => n,AudioSocket(${MEDIA_LEG_UUID},${MEDIA_LEG_ADDRESS})
     same => n,Hangup()

It saves the external media channel and the bridge behind every snoop (docs/decisions/taps.md). Whether the PBX has it
cannot be queried, only tried: without it the channel ends immediately.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from bridge.ari.client import AriClient
from bridge.errors import AriError
from bridge.media.leg import MediaLeg
from bridge.tasks import first_of

log = logging.getLogger(__name__)

EXTENSION = "audiosocket"
RATE = 8000
"""Rate of ``AudioSocket()`` in Hz, its only one."""
ENTER_TIMEOUT_S = 3.0
"""Time limit in seconds; Asterisk limits a connect to 2 s."""
TRY_AGAIN_S = 60.0
"""Time in seconds that a failed entry is not tried again: each attempt delays a stream a little."""


class DialplanEntry:
    """The entry of one context.

    Args:
        client: ARI.
        context: its context, ``calling.context`` of the configuration; empty: none.
        clock: returns seconds on a monotonic clock.
    """

    def __init__(self, client: AriClient, context: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._context = context
        self._clock = clock
        self._failed_at: float | None = None
        self._told = False

    def serves(self, rate: int) -> bool:
        """Return whether a leg of this rate may try the entry now."""
        if not self._context or rate != RATE:
            return False
        return self._failed_at is None or self._clock() - self._failed_at >= TRY_AGAIN_S

    async def enter(self, snoop_id: str, leg: MediaLeg, address: str) -> None:
        """Send a snoop channel in the Stasis application to the entry; return when its audio is connected.

        Args:
            snoop_id: the channel.
            leg: its media leg.
            address: ``host:port`` at which Asterisk reaches the listener, which expects ``leg``.

        Raises:
            AriError: the entry does not exist, cannot reach asterisk-bridge, or the channel has ended.
        """
        channels = self._client.channels
        await asyncio.gather(
            channels.set_variable(snoop_id, "MEDIA_LEG_UUID", str(leg.uuid)),
            channels.set_variable(snoop_id, "MEDIA_LEG_ADDRESS", address),
        )
        with self._client.expect("ChannelDestroyed", snoop_id) as destroyed:
            await channels.continue_in_dialplan(snoop_id, context=self._context, extension=EXTENSION, priority=1)
            with contextlib.suppress(AriError):
                await first_of(leg.connected.wait(), destroyed.wait(ENTER_TIMEOUT_S))
        if not leg.connected.is_set():
            raise AriError(
                0, "POST", f"/channels/{snoop_id}/continue", "the channel did not connect to asterisk-bridge"
            )
        self._failed_at, self._told = None, False

    def failed(self, problem: AriError) -> None:
        """Stop trying the entry for a while after external media worked where it failed; log once what is missing."""
        self._failed_at = self._clock()
        if self._told:
            return
        self._told = True
        log.warning(
            "dialplan entry does not connect, each tap needs two channels and a bridge: add the following lines to "
            "extensions.conf extension=%s context=%s error=%s",
            EXTENSION,
            self._context,
            problem.message,
        )
        for line in lines(self._context):  # one record for each, for copying from the log
            log.warning("%s", line)


def lines(context: str) -> tuple[str, ...]:
    """Return the lines to add to extensions.conf."""
    return (
        f"[{context}]",
        f"exten => {EXTENSION},1,Answer()",
        " same => n,AudioSocket(${MEDIA_LEG_UUID},${MEDIA_LEG_ADDRESS})",
        " same => n,Hangup()",
    )
