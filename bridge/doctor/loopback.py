"""The doctor's loop-back calls: two media legs in one mixing bridge, dialed by Asterisk exactly as for a real call.

What one leg sends must arrive on the other, and the time that takes is the delay of Asterisk and the network. The first
call is at 8 kHz, which every Asterisk carries, the second at 16 kHz.
"""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from msgspec import Struct

from bridge.ari.client import AriClient
from bridge.ari.versions import WIDE_AUDIO
from bridge.audio.format import FRAME_MS, AudioFormat, slin
from bridge.audio.playout import Playout
from bridge.calls.ids import OwnIds
from bridge.config import Config, host_and_port
from bridge.doctor.dialplan import check as check_dialplan
from bridge.doctor.report import Report
from bridge.errors import AriError
from bridge.media.admission import AddressAdmission
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener

NAME = "loop-back call"
FORMAT = slin(8000)
WIDE_NAME = "wide audio"
WIDE_FORMAT = slin(16000)
TONE_HZ = 1000
TONE_MS = 100
TONES = 5
PAUSE_MS = 200
START_TIMEOUT_S = 5.0
TONE_TIMEOUT_S = 2.0
WARN_DELAY_MS = 200.0

ADDRESS_ADVICE = (
    "a wrong audiosocket.advertised_host is the most common cause of missing audio: it must be the address by which"
    " *Asterisk* (its machine or container) reaches asterisk-bridge - 127.0.0.1 only if both share one network - and a"
    " firewall must allow Asterisk to connect to that port"
)


ALLOWED_ADVICE = "list the networks of Asterisk in audiosocket.allowed"


async def check(report: Report, config: Config, port_is_free: bool) -> None:
    """Make the call and report the result.

    Args:
        report: receives the finding.
        config: the addresses of Asterisk and asterisk-bridge.
        port_is_free: False while a running instance uses the AudioSocket port; then the call uses another port, and the
            port in use is only dialed.
    """
    application = f"{config.ari.app}_doctor"
    ari = config.ari
    client = AriClient(
        ari.url, ari.user, ari.password.get_secret_value(), application, subscribe_all=False, ca_file=ari.ca_file
    )
    admission = AddressAdmission(config.audiosocket.allowed, config.audio_host)
    listener = Listener(Counters(), handshake_timeout_s=config.audiosocket.handshake_timeout_s, admission=admission)
    try:
        try:
            await client.start(wait=True)
        except AriError as error:
            report.fail(NAME, f"no events from Asterisk: {error.message}", "check that res_ari_events is loaded")
            return
        if not port_is_free and not await _check_held_port(report, config, client, OwnIds(application)):
            return
        port = config.audiosocket.bind_port if port_is_free else 0
        await listener.start(config.audiosocket.bind_host, port)
        address = config.audiosocket.advertised_address(listener.port)
        if not port_is_free:
            host = config.audiosocket.advertised_host or config.audiosocket.bind_host
            address = host_and_port(host, listener.port)
        try:
            async with _two_legs(client, listener, OwnIds(application), address, FORMAT) as legs:
                await check_dialplan(report, config, client, next(iter(legs)))
                result = await _call(*legs.values())
        except AriError as error:
            if listener.last_refusal:
                report.fail(NAME, f"the AudioSocket port rejected {listener.last_refusal}", ALLOWED_ADVICE)
            else:
                _report_failure(report, error, address, port_is_free)
        else:
            _report_success(report, NAME, result, address)
            if result.heard:
                await _check_wide(report, client, listener, OwnIds(application), address)
            if admission.learned:
                found = ", ".join(admission.learned)
                report.warn(NAME, f"Asterisk's audio comes from {found}, not from {admission}", ALLOWED_ADVICE)
    except AriError as error:
        report.fail(NAME, f"Asterisk stopped responding: {error}", "see its log, then try again")
    except OSError as error:
        report.fail(NAME, f"cannot listen: {error.strerror or error}", "see the AudioSocket port above")
    finally:
        await client.stop()
        await listener.stop()


class Result(Struct, frozen=True):
    """The result of a loop-back call.

    Args:
        heard: tones received, in both directions together.
        sent: tones sent.
        delay_ms: median time from here through Asterisk and back.
        gap_ms: longest time without a frame.
    """

    heard: int
    sent: int
    delay_ms: float
    gap_ms: float


class Ear:
    """Detects the tone on a leg."""

    def __init__(self, leg: MediaLeg) -> None:
        self.gap_ms = 0.0
        self.frames = 0
        self._rate = leg.fmt.rate
        self._heard: asyncio.Future[float] | None = None
        self._last: float | None = None
        leg.on_audio = self._frame

    def listen(self) -> asyncio.Future[float]:
        """Return a future for the arrival of the next tone, on the monotonic clock."""
        self._heard = asyncio.get_running_loop().create_future()
        return self._heard

    def _frame(self, pcm: bytes) -> None:
        now = time.monotonic()
        self.frames += 1
        if self._last is not None:
            self.gap_ms = max(self.gap_ms, (now - self._last) * 1000)
        self._last = now
        if self._heard is not None and not self._heard.done() and has_tone(pcm, TONE_HZ, self._rate):
            self._heard.set_result(now)


def tone(hertz: int, ms: int, rate: int) -> bytes:
    """Return a sine at half of full scale, s16le."""
    samples = rate * ms // 1000
    wave = (int(16000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(samples))
    return struct.pack(f"<{samples}h", *wave)


def has_tone(pcm: bytes, hertz: int, rate: int) -> bool:
    """Return whether a frame of s16le is mostly one tone (Goertzel's algorithm)."""
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm[: len(pcm) // 2 * 2])
    energy = sum(sample * sample for sample in samples)
    if not samples or energy / len(samples) < 300**2:
        return False
    coefficient = 2 * math.cos(2 * math.pi * hertz / rate)
    first = second = 0.0
    for sample in samples:
        first, second = sample + coefficient * first - second, first
    power = first * first + second * second - coefficient * first * second
    return bool(2 * power / (len(samples) * energy) > 0.5)


async def _call(one: MediaLeg, other: MediaLeg) -> Result:
    ears = {leg: Ear(leg) for leg in (one, other)}
    await asyncio.sleep(0.3)
    for ear in ears.values():
        ear.gap_ms = 0.0  # gaps while the mixing bridge fills mean nothing
    delays: list[float] = []
    for number in range(TONES):
        if number == 2 and not delays:
            break  # neither direction carries audio
        speaker, hearer = (one, other) if number % 2 == 0 else (other, one)
        heard = ears[hearer].listen()
        sent = time.monotonic()
        speaker.playout.play(tone(TONE_HZ, TONE_MS, speaker.fmt.rate))
        try:
            delays.append((await asyncio.wait_for(heard, TONE_TIMEOUT_S) - sent) * 1000)
        except TimeoutError:
            continue
        await asyncio.sleep((TONE_MS + PAUSE_MS) / 1000)
    delays.sort()
    median = delays[len(delays) // 2] if delays else 0.0
    return Result(len(delays), TONES, median, max(ear.gap_ms for ear in ears.values()))


@asynccontextmanager
async def _two_legs(
    client: AriClient, listener: Listener, ids: OwnIds, address: str, fmt: AudioFormat
) -> AsyncIterator[dict[str, MediaLeg]]:
    """Yield two legs in one mixing bridge, by their channels; everything is deleted afterwards, however far it got."""
    bridge_id = ids.new("mix")
    legs = {ids.new("media"): MediaLeg(fmt, Playout(fmt, 10_000), listener.counters) for _ in range(2)}
    try:
        await client.bridges.create(bridge_id=bridge_id, name=bridge_id)
        for channel_id, leg in legs.items():
            listener.expect(leg)
            with client.expect("StasisStart", channel_id) as started:
                await client.channels.external_media(
                    channel_id=channel_id, external_host=address, format=fmt.asterisk_name, data=str(leg.uuid)
                )
                await started.wait(START_TIMEOUT_S)
            try:
                await asyncio.wait_for(leg.connected.wait(), START_TIMEOUT_S)
            except TimeoutError:
                raise AriError(0, "POST", "/channels/externalMedia", "connected to another program") from None
            await client.bridges.add_channel(bridge_id, channel_id)
        yield legs
    finally:
        for channel_id, leg in legs.items():
            listener.forget(leg)
            leg.close()
            await client.channels.hangup(channel_id)
        await client.bridges.destroy(bridge_id)
        await _until_empty(client)


async def _until_empty(client: AriClient) -> None:
    """Wait until deleted objects have ended: an application that is left before stays in Asterisk's list."""
    for _ in range(20):
        try:
            application = await client.applications.get(client.app)
        except AriError:
            return  # nothing to wait for
        if not application.channel_ids and not application.bridge_ids:
            return
        await asyncio.sleep(0.05)


async def _check_held_port(report: Report, config: Config, client: AriClient, ids: OwnIds) -> bool:
    """Check that Asterisk can connect to the port of the running instance, which rejects the unknown UUID."""
    address = config.audiosocket.advertised_address(config.audiosocket.bind_port)
    channel_id = ids.new("media")
    try:
        await client.channels.external_media(
            channel_id=channel_id, external_host=address, format=FORMAT.asterisk_name, data=str(uuid4())
        )
    except AriError as error:
        report.fail("AudioSocket", f"Asterisk cannot connect to {address} ({error.message})", ADDRESS_ADVICE)
        return False
    finally:
        await client.channels.hangup(channel_id)
        await _until_empty(client)
    report.ok("AudioSocket", f"Asterisk connects to {address}, where a program listens")
    return True


def _report_failure(report: Report, error: AriError, address: str, port_is_free: bool) -> None:
    text = f"Asterisk cannot deliver audio to {address} ({error.status or 'no answer'}: {error.message})"
    if port_is_free:
        report.fail(NAME, text, ADDRESS_ADVICE)
    else:
        report.warn(
            NAME,
            text,
            "the running instance's own port is reachable, so perhaps only this call's other port is not;"
            " stop asterisk-bridge and run the doctor again to be sure",
        )


async def _check_wide(report: Report, client: AriClient, listener: Listener, ids: OwnIds, address: str) -> None:
    """Make the call again at 16 kHz, after it has worked at 8 kHz; report the result."""
    try:
        async with _two_legs(client, listener, ids, address, WIDE_FORMAT) as legs:
            result = await _call(*legs.values())
    except AriError:  # some versions hang up at the first frame
        result = Result(0, TONES, 0.0, 0.0)
    if result.heard:
        _report_success(report, WIDE_NAME, result, address)
        return
    versions = ", ".join(f"{branch}.{minor}" for branch, minor in sorted(WIDE_AUDIO.since.items()))
    report.warn(
        WIDE_NAME,
        "no audio: this Asterisk carries AudioSocket at 8 kHz only, to which asterisk-bridge converts all other rates",
        f"for wider sound upgrade to {versions} or later",
    )


def _report_success(report: Report, name: str, result: Result, address: str) -> None:
    text = (
        f"{result.heard} of {result.sent} tones through Asterisk and back at {address}: {result.delay_ms:.0f} ms,"
        f" longest gap between frames {result.gap_ms:.0f} ms"
    )
    if result.heard < result.sent:
        report.fail(
            name,
            text,
            "Asterisk connects but audio is lost: see its log for errors of chan_audiosocket and bridge_softmix, and"
            " check whether the machine is overloaded",
        )
    elif result.delay_ms > WARN_DELAY_MS or result.gap_ms > 5 * FRAME_MS:
        report.warn(name, text, "slow or uneven: check the network to Asterisk, and the load of both machines")
    else:
        report.ok(name, text)
