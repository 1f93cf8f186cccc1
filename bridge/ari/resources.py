"""ARI's resources, with methods named as in Asterisk's own Python client (ari-py)."""

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

LOOKS, LOOK_S = 5, 0.05  # attempts, and the seconds between them, to see whether a bridge still exists


def _decode(content: bytes, kind: type[T], method: str, path: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise AriError(200, method, path, f"response cannot be decoded: {exc}") from exc


class _Resource:
    """Base of the resources. Every method raises AriError if Asterisk refuses the request or does not respond."""

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
        """Delete an object; return whether it existed."""
        try:
            await self._rest.request("DELETE", path, params)
        except AriError as exc:
            if exc.status != 404:
                raise
            return False
        return True


class Channels(_Resource):
    """Channels: those of parties, and those that carry media.

    Args:
        rest: the HTTP requests.
        app: the Stasis application, which snoop and external media channels enter.
    """

    def __init__(self, rest: Rest, app: str) -> None:
        super().__init__(rest)
        self._app = app

    async def list(self) -> list[Channel]:
        """Return all channels of the PBX."""
        return await self._get("/channels", list[Channel])

    async def get(self, channel_id: str) -> Channel:
        """Return a channel."""
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
        """Create a channel to an endpoint, in the Stasis application from the start; ``dial`` dials it.

        Args:
            endpoint: for example ``PJSIP/1001``.
            channel_id: the new channel's id.
            app_args: arguments of its StasisStart.
            originator: id of a channel whose call the new one joins (same linkedid).
            formats: comma-separated codecs.
            variables: set before dialing; functions too, for example ``CONNECTEDLINE(num,i)``, the caller ID shown to
                the callee.
        """
        params = {"endpoint": endpoint, "app": self._app, "appArgs": app_args, "channelId": channel_id}
        params |= {"originator": originator, "formats": formats}
        return await self._post_for(Channel, "/channels/create", params, variables)

    async def dial(self, channel_id: str, *, timeout: int | None = None) -> None:  # noqa: ASYNC109 - Asterisk's
        """Dial a channel of ``create``; ``timeout``: how long to let it ring, in seconds."""
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
    ) -> Channel:
        """Create an external media channel: Asterisk dials ``external_host``. Await its StasisStart before bridging it.

        Args:
            channel_id: the new channel's id.
            external_host: ``HOST:PORT``.
            format: Asterisk's name of the audio format.
            data: the UUID that Asterisk sends first on an AudioSocket connection.
            encapsulation: ``audiosocket`` or ``rtp``.
            transport: ``tcp`` or ``udp``.
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
        return await self._post_for(Channel, "/channels/externalMedia", params)

    async def snoop(self, channel_id: str, *, snoop_id: str, spy: str = "none", whisper: str = "none") -> Channel:
        """Create a snoop channel, which receives and sends audio of a channel anywhere in the PBX.

        Args:
            channel_id: the observed channel.
            snoop_id: id of the snoop channel.
            spy: audio to receive: ``in`` is sent by the channel's device, ``out`` is sent to it; ``both`` or ``none``.
            whisper: audio to send: ``out`` goes to the device, ``in`` to the other parties; ``both`` or ``none``.
        """
        params = {"app": self._app, "snoopId": snoop_id, "spy": spy, "whisper": whisper}
        return await self._post_for(Channel, f"{_channel(channel_id)}/snoop", params)

    async def answer(self, channel_id: str) -> None:
        """Answer a channel in the Stasis application."""
        await self._rest.request("POST", f"{_channel(channel_id)}/answer")

    async def hangup(self, channel_id: str, reason: str | None = None) -> bool:
        """Hang up; return whether the channel existed; ``reason``: ``normal``, ``busy``, ``congestion``..."""
        return await self._delete(_channel(channel_id), {"reason": reason})

    async def rtp_statistics(self, channel_id: str) -> RtpStatistics:
        """Return a channel's RTP statistics; status 404 for a channel without RTP."""
        return await self._get(f"{_channel(channel_id)}/rtp_statistics", RtpStatistics)

    async def continue_in_dialplan(
        self, channel_id: str, context: str | None = None, extension: str | None = None, priority: int | None = None
    ) -> None:
        """Return a channel to the dialplan, at its next priority or at the given position."""
        where = {"context": context, "extension": extension, "priority": priority}
        await self._rest.request("POST", f"{_channel(channel_id)}/continue", where)

    async def move(self, channel_id: str, app: str, args: Iterable[str] = ()) -> None:
        """Move a channel from any Stasis application to ``app``, where it gets a StasisStart with ``args``.

        Success means only that Asterisk tries: the application that it leaves gets StasisEnd or ApplicationMoveFailed.
        """
        params = {"app": app, "appArgs": ",".join(args)}
        await self._rest.request("POST", f"{_channel(channel_id)}/move", params)

    async def get_variable(self, channel_id: str, name: str) -> str:
        """Return a variable or function like ``CHANNEL(linkedid)`` of any channel; status 404 also if it is unset."""
        params = {"variable": name}
        return (await self._get(f"{_channel(channel_id)}/variable", _Variable, params)).value

    async def set_variable(self, channel_id: str, name: str, value: str) -> None:
        """Set a variable of a channel in the Stasis application."""
        await self._rest.request("POST", f"{_channel(channel_id)}/variable", {"variable": name, "value": value})

    async def send_dtmf(
        self, channel_id: str, digits: str, between_ms: int | None = None, duration_ms: int | None = None
    ) -> None:
        """Send DTMF to a channel in the Stasis application."""
        params = {"dtmf": digits, "between": between_ms, "duration": duration_ms}
        await self._rest.request("POST", f"{_channel(channel_id)}/dtmf", params)

    async def ring(self, channel_id: str) -> None:
        """Indicate ringing to the party."""
        await self._rest.request("POST", f"{_channel(channel_id)}/ring")

    async def ring_stop(self, channel_id: str) -> None:
        """Stop indicating ringing."""
        await self._delete(f"{_channel(channel_id)}/ring")

    async def mute(self, channel_id: str, direction: str = "both") -> None:
        """Mute the audio from the party (``in``), to it (``out``) or ``both``; no frames flow in that direction."""
        await self._rest.request("POST", f"{_channel(channel_id)}/mute", {"direction": direction})

    async def unmute(self, channel_id: str, direction: str = "both") -> None:
        """Undo ``mute``."""
        await self._delete(f"{_channel(channel_id)}/mute", {"direction": direction})

    async def hold(self, channel_id: str) -> None:
        """Put the party on hold with music; its own audio still reaches the others."""
        await self._rest.request("POST", f"{_channel(channel_id)}/hold")

    async def unhold(self, channel_id: str) -> None:
        """Resume the party."""
        await self._delete(f"{_channel(channel_id)}/hold")

    async def moh(self, channel_id: str, music_class: str | None = None) -> None:
        """Play music on hold to the party, without the hold signaling that some channel types have."""
        await self._rest.request("POST", f"{_channel(channel_id)}/moh", {"mohClass": music_class})

    async def moh_stop(self, channel_id: str) -> None:
        """Stop music on hold."""
        await self._delete(f"{_channel(channel_id)}/moh")

    async def silence(self, channel_id: str) -> None:
        """Send silence to the party."""
        await self._rest.request("POST", f"{_channel(channel_id)}/silence")

    async def silence_stop(self, channel_id: str) -> None:
        """Stop the silence."""
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
        """Record the audio from a channel of the application to a file in Asterisk's spool; 0 means unlimited."""
        params: dict[str, Parameter] = {"name": name, "format": format, "ifExists": "overwrite", "terminateOn": "none"}
        params |= {"maxDurationSeconds": max_duration_s, "maxSilenceSeconds": max_silence_s, "beep": beep}
        return await self._post_for(LiveRecording, f"{_channel(channel_id)}/record", params)


class Bridges(_Resource):
    """Asterisk's bridges."""

    async def list(self) -> list[Bridge]:
        """Return all bridges of the PBX."""
        return await self._get("/bridges", list[Bridge])

    async def get(self, bridge_id: str) -> Bridge:
        """Return a bridge."""
        return await self._get(_bridge(bridge_id), Bridge)

    async def create(self, *, bridge_id: str, type: str = "mixing", name: str | None = None) -> Bridge:
        """Create a bridge with the given id. ``type``: comma-separated ``mixing,dtmf_events,proxy_media``..."""
        return await self._post_for(Bridge, "/bridges", {"bridgeId": bridge_id, "type": type, "name": name})

    async def destroy(self, bridge_id: str) -> None:
        """Destroy a bridge; its channels stay in the application. Ignore one that does not exist."""
        try:
            await self._delete(_bridge(bridge_id))
        except AriError as exc:
            if exc.status != 409 or await self._remains(bridge_id):
                raise

    async def _remains(self, bridge_id: str) -> bool:
        """Return whether a bridge remains: Asterisk briefly responds with 409 just after its end (seen on 22.10)."""
        for _ in range(LOOKS):
            try:
                await self.get(bridge_id)
            except AriError as exc:
                if exc.status == 404:
                    return False
            await asyncio.sleep(LOOK_S)
        return True

    async def add_channel(self, bridge_id: str, channel_id: str) -> None:
        """Add a channel: status 422 before its StasisStart, 409 if the bridge was not created by ARI."""
        await self._rest.request("POST", f"{_bridge(bridge_id)}/addChannel", {"channel": channel_id})

    async def remove_channel(self, bridge_id: str, channel_id: str) -> None:
        """Remove a channel from a bridge."""
        await self._rest.request("POST", f"{_bridge(bridge_id)}/removeChannel", {"channel": channel_id})


class Recordings(_Resource):
    """Recordings in progress, and those in Asterisk's spool."""

    async def stop(self, name: str) -> None:
        """End a recording and keep its file; ignore one that has ended."""
        await self._post_unless_gone(f"/recordings/live/{segment(name)}/stop")

    async def live(self, name: str) -> LiveRecording:
        """Return a recording in progress."""
        return await self._get(f"/recordings/live/{segment(name)}", LiveRecording)

    async def pause(self, name: str) -> None:
        """Pause a recording in progress; its file continues there when resumed. Ignore one that has ended."""
        await self._post_unless_gone(f"/recordings/live/{segment(name)}/pause")

    async def unpause(self, name: str) -> None:
        """Resume a paused recording."""
        await self._delete(f"/recordings/live/{segment(name)}/pause")

    async def stored(self) -> list[StoredRecording]:
        """Return all recordings in the spool."""
        return await self._get("/recordings/stored", list[StoredRecording])

    async def read(self, name: str, block_bytes: int = 65536) -> AsyncGenerator[bytes, None]:
        """Yield the file of a recording in blocks."""
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
        """Return the size of a recording's file, in bytes, without reading the file."""
        path, url = self._file(name)
        try:
            timeout = aiohttp.ClientTimeout(sock_read=15)
            async with self._rest.session.get(url, timeout=timeout, ssl=await self._rest.tls()) as answer:
                if answer.status != 200 or answer.content_length is None:
                    raise AriError(answer.status, "GET", path, explain_status(answer.status, "no such recording"))
                size = answer.content_length
                answer.close()  # close the connection, on which the file would follow
                return size
        except (TimeoutError, TrustError, aiohttp.ClientError, OSError) as exc:
            raise AriError(0, "GET", path, explain_failure(exc)) from exc

    def _file(self, name: str) -> tuple[str, yarl.URL]:
        path = f"/recordings/stored/{segment(name)}/file"
        return path, yarl.URL(f"{self._rest.url}{path}", encoded=True)

    async def delete(self, name: str) -> None:
        """Delete a recording from the spool; ignore one that does not exist."""
        await self._delete(f"/recordings/stored/{segment(name)}")


class Applications(_Resource):
    """Stasis applications and their event subscriptions."""

    async def list(self) -> list[Application]:
        """Return all Stasis applications."""
        return await self._get("/applications", list[Application])

    async def get(self, app: str) -> Application:
        """Return an application; status 404 while it has no events connection."""
        return await self._get(f"/applications/{segment(app)}", Application)

    async def subscribe(self, app: str, event_sources: Iterable[str]) -> None:
        """Subscribe an application to events of ``channel:ID``, ``bridge:ID``...; without id, of all of the kind."""
        params = {"eventSource": ",".join(event_sources)}
        await self._rest.request("POST", f"/applications/{segment(app)}/subscription", params)

    async def set_event_filter(self, app: str, disallowed: Iterable[str]) -> None:
        """Exclude types of events from an application."""
        kinds = [{"type": name} for name in disallowed]
        await self._rest.request("PUT", f"/applications/{segment(app)}/eventFilter", body={"disallowed": kinds})


class Endpoints(_Resource):
    """Endpoints that can be dialed."""

    async def get(self, technology: str, resource: str) -> Endpoint:
        """Return an endpoint, for example ``PJSIP`` and ``1001``; status 404 if none has the name."""
        return await self._get(f"/endpoints/{segment(technology)}/{segment(resource)}", Endpoint)


class System(_Resource):
    """The PBX itself."""

    async def info(self) -> AsteriskInfo:
        """Return version and start time."""
        return await self._get("/asterisk/info", AsteriskInfo)

    async def ping(self) -> Ping:
        """Ping Asterisk; the response has the PBX's clock."""
        return await self._get("/asterisk/ping", Ping)

    async def user_event(self, name: str, app: str, variables: Mapping[str, str]) -> None:
        """Send an application a ChannelUserevent; ignore an application that does not exist."""
        body = {"variables": variables} if variables else None
        await self._post_unless_gone(f"/events/user/{segment(name)}", {"application": app}, body)

    async def modules(self) -> list[Module]:
        """Return all loaded modules."""
        return await self._get("/asterisk/modules", list[Module])


class _Variable(msgspec.Struct):
    value: str


def _channel(channel_id: str) -> str:
    return f"/channels/{segment(channel_id)}"


def _bridge(bridge_id: str) -> str:
    return f"/bridges/{segment(bridge_id)}"
