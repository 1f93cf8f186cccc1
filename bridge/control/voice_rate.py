"""Sampling rate of playback to a party: that of the party's codec.

A wider one would affect others: Asterisk then resamples all audio of the party, in both directions, also for snoop
channels and recordings that were exact before (main/audiohook.c).
"""

from __future__ import annotations

import logging
import re
from typing import Final

from bridge.ari.client import AriClient
from bridge.errors import AriError

log = logging.getLogger(__name__)

NARROW: Final = 8000
WIDE: Final = 16000
"""Hz. Speech does not need more."""

_WIDE_FORMATS: Final = re.compile(r"g722|opus|siren(7|14)|(slin|speex|silk)(?!8)\d+")


def voice_rate(formats: str) -> int:
    """Return the rate for a channel, in Hz.

    Args:
        formats: its codecs as ``CHANNEL(audionativeformat)`` has them, such as ``(ulaw)``; the first one counts.
    """
    first = formats.strip("() ").partition("|")[0]
    return WIDE if _WIDE_FORMATS.fullmatch(first) else NARROW


class VoiceRates:
    """Queries Asterisk for the codecs of channels.

    Args:
        client: ARI.
    """

    def __init__(self, client: AriClient) -> None:
        self._client = client

    async def of(self, channel_id: str) -> int:
        """Return the rate for a channel, in Hz; the narrow one if its codec is unknown."""
        try:
            return voice_rate(await self._client.channels.get_variable(channel_id, "CHANNEL(audionativeformat)"))
        except AriError as error:
            log.debug("codec unknown, using the narrow rate channel=%s rate=%d error=%s", channel_id, NARROW, error)
            return NARROW
