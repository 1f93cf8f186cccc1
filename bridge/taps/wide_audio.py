"""Whether the connected Asterisk carries AudioSocket audio above 8 kHz; other legs are narrowed (`MediaLeg.narrow`).

An Asterisk without it accepts ``format=slin16`` without an error. Then it either hangs up at the first frame, or sends
16 kHz as if it were 8 kHz and discards what it receives (20.14 to 20.16, and before). Versions that have it by their
number are trusted; others are tested once per connection by a channel of their own, as patched builds may have it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from bridge.ari.client import AriClient
from bridge.ari.versions import WIDE_AUDIO, parse_version
from bridge.audio.audiosocket import kind_of_rate
from bridge.audio.format import AudioFormat, slin
from bridge.audio.playout import Playout
from bridge.calls.ids import OwnIds
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener
from bridge.media.shared_leg import NOTHING_MS
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

TEST_RATE = 16000
"""Hz."""
TEST_S = 1.0
"""Time for the first audio to arrive in a test, in seconds. Asterisk sends it after 20 ms."""
OPEN_TIMEOUT_S = 3.0
"""Time limit of the test's channel, in seconds; Asterisk limits a connect to 2 s."""


class _TestLeg(MediaLeg):
    """A leg that reports whether the first audio from Asterisk has the leg's rate."""

    __slots__ = ("carried",)

    def __init__(self, fmt: AudioFormat, counters: Counters) -> None:
        super().__init__(fmt, Playout(fmt, NOTHING_MS), counters)
        self.carried: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.on_audio = lambda _: self._settle(True)
        self.on_closed = lambda: self._settle(False)

    def received(self, kind: int, payload: bytes) -> None:
        """Settle by the kind of the audio."""
        if kind == kind_of_rate(self.fmt.rate):
            super().received(kind, payload)
        else:
            self._settle(False)

    def _settle(self, carried: bool) -> None:
        if not self.carried.done():
            self.carried.set_result(carried)


class WideAudio:
    """Tests the Asterisk of each connection.

    Args:
        client: ARI.
        listener: accepts the connection of the test's leg.
        ids: generates ids of own objects.
        advertised: returns the ``host:port`` at which Asterisk reaches the listener, once that is open.
        tasks: run the test.
    """

    def __init__(
        self,
        client: AriClient,
        listener: Listener,
        ids: OwnIds,
        advertised: Callable[[], str],
        tasks: BackgroundTasks,
    ) -> None:
        self._client = client
        self._listener = listener
        self._ids = ids
        self._advertised = advertised
        self._tasks = tasks
        self._test: asyncio.Task[bool | None] | None = None
        self.channel_id = ""
        """The channel of a running test."""
        client.on_connected(self._begin)

    async def carried(self) -> bool:
        """Return whether Asterisk carries audio above 8 kHz; wait for a running test."""
        test = self._test or self._begin()
        carried = await asyncio.shield(test)
        if carried is None and self._test is test:
            self._test = None  # the next leg repeats it
        return bool(carried)

    def _begin(self) -> asyncio.Task[bool | None]:
        self._test = self._tasks.spawn(self._find_out())
        return self._test

    async def _find_out(self) -> bool | None:
        """Return whether Asterisk carries audio above 8 kHz; None if no test was possible."""
        try:
            text = (await self._client.asterisk.info()).system.version
        except AriError:
            text = ""
        if WIDE_AUDIO.is_in(parse_version(text)):
            return True
        carried = await self._try_out()
        if carried is False:
            log.warning("Asterisk carries AudioSocket audio at 8 kHz only, converting other rates version=%s", text)
        return carried

    async def _try_out(self) -> bool | None:
        """Have Asterisk send audio at 16 kHz; return whether it does so, None if it does not connect."""
        fmt = slin(TEST_RATE)
        leg = _TestLeg(fmt, self._listener.counters)
        self.channel_id = channel_id = self._ids.new("media")
        self._listener.expect(leg)
        try:
            with self._client.expect("StasisStart", channel_id) as started:
                await self._client.channels.external_media(
                    channel_id=channel_id,
                    external_host=self._advertised(),
                    format=fmt.asterisk_name,
                    data=str(leg.uuid),
                )
                await started.wait(OPEN_TIMEOUT_S)
            await self._client.channels.silence(channel_id)
            async with asyncio.timeout(TEST_S):
                return await leg.carried
        except TimeoutError:
            return False
        except AriError:
            return False if leg.closed else None
        finally:
            self._listener.forget(leg)
            leg.close()
            try:
                await self._client.channels.hangup(channel_id)
            except AriError as error:
                log.debug("test channel left to the sweep channel=%s error=%s", channel_id, error)
            if self.channel_id == channel_id:  # otherwise a new connection has begun another test meanwhile
                self.channel_id = ""
