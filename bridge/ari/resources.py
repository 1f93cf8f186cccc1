"""ARI's resources, with verbs like those of Asterisk's own Python client (ari-py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import TypeVar

import aiohttp
import msgspec
import yarl

from bridge.ari.model import (
    Application,
    AsteriskInfo,
    Bridge,
    Channel,
    Endpoint,
    LiveRecording,
    Module,
    Ping,
    RtpStatistics,
    StoredRecording,
)
from bridge.ari.rest import Parameter, Rest, explain_failure, explain_status, segment
from bridge.errors import AriError
from bridge.tls import TrustError

T = TypeVar("T")

LOOKS, LOOK_S = 5, 0.05  # whether a bridge that cannot be removed still exists


def _decode(content: bytes, kind: type[T], method: str, path: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise AriError(200, method, path, f"an answer that makes no sense: {exc}") from exc


class _Resource:
    """Base of the resources. Every verb raises AriError when Asterisk refuses or does not answer."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    async def _get(self, path: str, kind: type[T], params: Mapping[str, str] | None = None) -> T:
        return _decode(await self._rest.request("GET", path, params), kind, "GET", path)

    async def _post_for(
        self, kind: type[T], path: str, params: Mapping[str, Parameter], variables: Mapping[str, str] | None = None
    ) -> T:
        content = await self._rest.request("POST", path, params, {"variables": variables} if variables else None)
        return _decode(content, kind, "POST", path)

    async def _post_unless_gone(
        self, path: str, params: Mapping[str, Parameter] | None = None, body: object = None
    ) -> None:
        try:
            await self._rest.request("POST", path, params, body)
        except AriError as exc:
            if exc.status != 404:
                raise

    async def _delete(self, path: str, params: Mapping[str, str | None] | None = None) -> bool:
        """Delete; that it is gone already is what was wanted, and False."""
        try:
            await self._rest.request("DELETE", path, params)
        except AriError as exc:
            if exc.status != 404:
                raise
            return False
        return True


class Channels(_Resource):
    """Channels: the legs of calls, and the technical ones that carry media.

    Args:
        app: our application, into which snoop and external media channels go.
    """

    def __init__(self, rest: Rest, app: str) -> None:
        super().__init__(rest)
        self._app = app

    async def list(self) -> list[Channel]:
        """All channels of the PBX."""
        return await self._get("/channels", list[Channel])

    async def get(self, channel_id: str) -> Channel:
        """One channel."""
        return await self._get(_channel(channel_id), Channel)

    async def create(
        self,
        *,
        endpoint: str,
        channel_id: str,
        app_args: str | None = None,
        originator: str | None = None,
        formats: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Channel:
        """Make a channel towards an endpoint, in our application from the start; ``dial`` calls it.

        Args:
            originator: channel on whose behalf: the new one joins its call (same linkedid).
            variables: set before it is dialled; functions too, ``CONNECTEDLINE(num,i)`` is whom the callee sees.
        """
        params = {"endpoint": endpoint, "app": self._app, "appArgs": app_args, "channelId": channel_id}
        params |= {"originator": originator, "formats": formats}
        return await self._post_for(Channel, "/channels/create", params, variables)

    async def dial(self, channel_id: str, *, timeout: int | None = None) -> None:  # noqa: ASYNC109 - Asterisk's
        """Call what ``create`` has made; ``timeout``: seconds to let it ring."""
        await self._rest.request("POST", f"{_channel(channel_id)}/dial", {"timeout": timeout})

    async def external_media(
        self,
        *,
        channel_id: str,
        external_host: str,
        format: str,
        data: str,
        encapsulation: str = "audiosocket",
        transport: str = "tcp",
        variables: Mapping[str, str] | None = None,
    ) -> Channel:
        """Have Asterisk dial ``external_host``. Wait for the channel's StasisStart before bridging it.

        Args:
            data: the UUID that Asterisk sends first on an AudioSocket connection.
        """
        params = {
            "app": self._app,
            "channelId": channel_id,
            "external_host": external_host,
            "encapsulation": encapsulation,
            "transport": transport,
            "format": format,
            "data": data,
        }
        return await self._post_for(Channel, "/channels/externalMedia", params, variables)

    async def snoop(self, channel_id: str, *, snoop_id: str, spy: str = "none", whisper: str = "none") -> Channel:
        """Listen to and speak into a channel that may be anywhere in the PBX.

        Args:
            spy: ``in`` is what its device sends, ``out`` what it is sent, ``both`` or ``none``.
            whisper: ``out`` is heard by its device, ``in`` by the others, ``both`` or ``none``.
        """
        params = {"app": self._app, "snoopId": snoop_id, "spy": spy, "whisper": whisper}
        return await self._post_for(Channel, f"{_channel(channel_id)}/snoop", params)

    async def answer(self, channel_id: str) -> None:
        """Answer a channel in our application."""
        await self._rest.request("POST", f"{_channel(channel_id)}/answer")

    async def hangup(self, channel_id: str, reason: str | None = None) -> bool:
        """Hang up, and return whether the channel was there; ``reason``: ``normal``, ``busy``, ``congestion``..."""
        return await self._delete(_channel(channel_id), {"reason": reason})

    async def rtp_statistics(self, channel_id: str) -> RtpStatistics:
        """Return what Asterisk counts of a channel's RTP; status 404: it has none."""
        return await self._get(f"{_channel(channel_id)}/rtp_statistics", RtpStatistics)

    async def continue_in_dialplan(
        self, channel_id: str, context: str | None = None, extension: str | None = None, priority: int | None = None
    ) -> None:
        """Let a channel leave our application, to the next priority or to where the arguments say."""
        where = {"context": context, "extension": extension, "priority": priority}
        await self._rest.request("POST", f"{_channel(channel_id)}/continue", where)

    async def move(self, channel_id: str, app: str, args: Iterable[str] = ()) -> None:
        """Let a channel of any Stasis application be in ``app``: it gets a StasisStart with ``args``.

        Success means only that Asterisk tries: the application that it leaves gets StasisEnd, or ApplicationMoveFailed.
        """
        params = {"app": app, "appArgs": ",".join(args)}
        await self._rest.request("POST", f"{_channel(channel_id)}/move", params)

    async def get_variable(self, channel_id: str, name: str) -> str:
        """A variable or function such as ``CHANNEL(linkedid)``; works on every channel. 404 also if it is not set."""
        params = {"variable": name}
        return (await self._get(f"{_channel(channel_id)}/variable", _Variable, params)).value

    async def set_variable(self, channel_id: str, name: str, value: str) -> None:
        """Set a variable of a channel in our application."""
        await self._rest.request("POST", f"{_channel(channel_id)}/variable", {"variable": name, "value": value})

    async def send_dtmf(
        self, channel_id: str, digits: str, between_ms: int | None = None, duration_ms: int | None = None
    ) -> None:
        """Send key presses to a channel in our application."""
        params = {"dtmf": digits, "between": between_ms, "duration": duration_ms}
        await self._rest.request("POST", f"{_channel(channel_id)}/dtmf", params)

    async def ring(self, channel_id: str) -> None:
        """Tell the party that it rings."""
        await self._rest.request("POST", f"{_channel(channel_id)}/ring")

    async def ring_stop(self, channel_id: str) -> None:
        """Tell it so no longer."""
        await self._delete(f"{_channel(channel_id)}/ring")

    async def mute(self, channel_id: str, direction: str = "both") -> None:
        """``in``: nobody hears the party; ``out``: the party hears nothing. No frames flow that way then."""
        await self._rest.request("POST", f"{_channel(channel_id)}/mute", {"direction": direction})

    async def unmute(self, channel_id: str, direction: str = "both") -> None:
        """Undo ``mute``."""
        await self._delete(f"{_channel(channel_id)}/mute", {"direction": direction})

    async def hold(self, channel_id: str) -> None:
        """The party hears music; it is still heard by the others."""
        await self._rest.request("POST", f"{_channel(channel_id)}/hold")

    async def unhold(self, channel_id: str) -> None:
        """Undo ``hold``."""
        await self._delete(f"{_channel(channel_id)}/hold")

    async def moh(self, channel_id: str, music_class: str | None = None) -> None:
        """Play music to the party; without the signaling that ``hold`` has where the channel knows such."""
        await self._rest.request("POST", f"{_channel(channel_id)}/moh", {"mohClass": music_class})

    async def moh_stop(self, channel_id: str) -> None:
        """Undo ``moh``."""
        await self._delete(f"{_channel(channel_id)}/moh")

    async def silence(self, channel_id: str) -> None:
        """The party hears silence, which is sent to it."""
        await self._rest.request("POST", f"{_channel(channel_id)}/silence")

    async def silence_stop(self, channel_id: str) -> None:
        """Undo ``silence``."""
        await self._delete(f"{_channel(channel_id)}/silence")

    async def record(
        self,
        channel_id: str,
        name: str,
        *,
        format: str = "wav",
        max_duration_s: int = 0,
        max_silence_s: int = 0,
        beep: bool = False,
    ) -> LiveRecording:
        """Write what a channel of our application sends to a file in Asterisk's spool; 0 is without limit."""
        params: dict[str, Parameter] = {"name": name, "format": format, "ifExists": "overwrite", "terminateOn": "none"}
        params |= {"maxDurationSeconds": max_duration_s, "maxSilenceSeconds": max_silence_s, "beep": beep}
        return await self._post_for(LiveRecording, f"{_channel(channel_id)}/record", params)


class Bridges(_Resource):
    """Bridges: what mixes channels."""

    async def list(self) -> list[Bridge]:
        """All bridges of the PBX."""
        return await self._get("/bridges", list[Bridge])

    async def get(self, bridge_id: str) -> Bridge:
        """One bridge."""
        return await self._get(_bridge(bridge_id), Bridge)

    async def create(self, *, bridge_id: str, type: str = "mixing", name: str | None = None) -> Bridge:
        """Make a bridge under an id of our choice. ``type``: comma-separated ``mixing,dtmf_events,proxy_media``..."""
        return await self._post_for(Bridge, "/bridges", {"bridgeId": bridge_id, "type": type, "name": name})

    async def destroy(self, bridge_id: str) -> None:
        """Remove a bridge; one that is gone already is no error. Its channels stay in the application."""
        try:
            await self._delete(_bridge(bridge_id))
        except AriError as exc:
            if exc.status != 409 or await self._remains(bridge_id):
                raise

    async def _remains(self, bridge_id: str) -> bool:
        """Whether a bridge is still there in a moment: just after its end Asterisk answers 409 (seen on 22.10)."""
        for _ in range(LOOKS):
            try:
                await self.get(bridge_id)
            except AriError as exc:
                if exc.status == 404:
                    return False
            await asyncio.sleep(LOOK_S)
        return True

    async def add_channel(self, bridge_id: str, channel_id: str) -> None:
        """Put a channel in: 422 unless its StasisStart has been seen, 409 if the bridge is not ARI's."""
        await self._rest.request("POST", f"{_bridge(bridge_id)}/addChannel", {"channel": channel_id})

    async def remove_channel(self, bridge_id: str, channel_id: str) -> None:
        """Take a channel out of a bridge."""
        await self._rest.request("POST", f"{_bridge(bridge_id)}/removeChannel", {"channel": channel_id})


class Recordings(_Resource):
    """Recordings that are being made, and those in Asterisk's spool."""

    async def stop(self, name: str) -> None:
        """End one that is being made, and keep it; one that has ended already is fine."""
        await self._post_unless_gone(f"/recordings/live/{segment(name)}/stop")

    async def live(self, name: str) -> LiveRecording:
        """One that is being made."""
        return await self._get(f"/recordings/live/{segment(name)}", LiveRecording)

    async def pause(self, name: str) -> None:
        """Pause a live recording; its file continues from there when resumed. Ignore one that has ended."""
        await self._post_unless_gone(f"/recordings/live/{segment(name)}/pause")

    async def unpause(self, name: str) -> None:
        """Undo ``pause``."""
        await self._delete(f"/recordings/live/{segment(name)}/pause")

    async def stored(self) -> list[StoredRecording]:
        """All in the spool."""
        return await self._get("/recordings/stored", list[StoredRecording])

    async def read(self, name: str, block_bytes: int = 65536) -> AsyncGenerator[bytes, None]:
        """The file of one, in blocks."""
        path, url = self._file(name)
        try:
            timeout = aiohttp.ClientTimeout(sock_read=15)
            async with self._rest.session.get(url, timeout=timeout, ssl=await self._rest.tls()) as answer:
                if answer.status != 200:
                    raise AriError(answer.status, "GET", path, explain_status(answer.status, "no such recording"))
                async for block in answer.content.iter_chunked(block_bytes):
                    yield block
        except (TimeoutError, TrustError, aiohttp.ClientError, OSError) as exc:
            raise AriError(0, "GET", path, explain_failure(exc)) from exc

    async def size(self, name: str) -> int:
        """Return the size of the file of one, in bytes; the file itself is not read."""
        path, url = self._file(name)
        try:
            timeout = aiohttp.ClientTimeout(sock_read=15)
            async with self._rest.session.get(url, timeout=timeout, ssl=await self._rest.tls()) as answer:
                if answer.status != 200 or answer.content_length is None:
                    raise AriError(answer.status, "GET", path, explain_status(answer.status, "no such recording"))
                size = answer.content_length
                answer.close()  # the connection ends here: the file would follow
                return size
        except (TimeoutError, TrustError, aiohttp.ClientError, OSError) as exc:
            raise AriError(0, "GET", path, explain_failure(exc)) from exc

    def _file(self, name: str) -> tuple[str, yarl.URL]:
        path = f"/recordings/stored/{segment(name)}/file"
        return path, yarl.URL(f"{self._rest.url}{path}", encoded=True)

    async def delete(self, name: str) -> None:
        """Delete one from the spool; one that is gone already is no error."""
        await self._delete(f"/recordings/stored/{segment(name)}")


class Applications(_Resource):
    """Stasis applications: who gets which events."""

    async def list(self) -> list[Application]:
        """All applications."""
        return await self._get("/applications", list[Application])

    async def get(self, app: str) -> Application:
        """One application; 404 while no events connection of it exists."""
        return await self._get(f"/applications/{segment(app)}", Application)

    async def subscribe(self, app: str, event_sources: Iterable[str]) -> None:
        """Give an application events of ``channel:ID``, ``bridge:ID``...; all channels or bridges without an id."""
        params = {"eventSource": ",".join(event_sources)}
        await self._rest.request("POST", f"/applications/{segment(app)}/subscription", params)

    async def set_event_filter(self, app: str, disallowed: Iterable[str]) -> None:
        """Keep these types of events from an application."""
        kinds = [{"type": name} for name in disallowed]
        await self._rest.request("PUT", f"/applications/{segment(app)}/eventFilter", body={"disallowed": kinds})


class Endpoints(_Resource):
    """Endpoints: what can be dialed."""

    async def get(self, technology: str, resource: str) -> Endpoint:
        """One endpoint, for example ``PJSIP`` and ``1001``; 404 if none has the name."""
        return await self._get(f"/endpoints/{segment(technology)}/{segment(resource)}", Endpoint)


class System(_Resource):
    """The PBX itself."""

    async def info(self) -> AsteriskInfo:
        """Version, start time and the like."""
        return await self._get("/asterisk/info", AsteriskInfo)

    async def ping(self) -> Ping:
        """An answer, and the PBX's clock."""
        return await self._get("/asterisk/ping", Ping)

    async def user_event(self, name: str, app: str, variables: Mapping[str, str]) -> None:
        """Send an application a ChannelUserevent; one that does not exist any more is no error."""
        body = {"variables": variables} if variables else None
        await self._post_unless_gone(f"/events/user/{segment(name)}", {"application": app}, body)

    async def modules(self) -> list[Module]:
        """All loaded modules."""
        return await self._get("/asterisk/modules", list[Module])


class _Variable(msgspec.Struct):
    value: str


def _channel(channel_id: str) -> str:
    return f"/channels/{segment(channel_id)}"


def _bridge(bridge_id: str) -> str:
    return f"/bridges/{segment(bridge_id)}"
