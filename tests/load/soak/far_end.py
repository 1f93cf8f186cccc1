"""The far side of the lab's trunk: answers every call (RFC 3261), sends noise, and has what it receives judged.

Numbers that begin with `LONG` are long calls, with a noise and an ear of their own. All others are short: answered and
hung up after random times, unless the other side is quicker.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass

from bridge.tasks import BackgroundTasks
from bridge.testing.peer import RTP_HEADER
from tests.lab.exact import FRAME_SAMPLES
from tests.load.soak.ears import FRAME_S, Ear, Noise

LONG = "5557"
MOST_RINGING_S = 0.3
_KEPT = ("via:", "from:", "call-id:", "cseq:")


@dataclass
class _Call:
    """One dialog.

    Args:
        invite: headers of the request, by name in lowercase.
        tag: of this side.
        port: where Asterisk receives its audio.
        noise: sent to it.
        ear: judges what it sends; None: nobody listens.
    """

    invite: dict[str, str]
    tag: str
    port: int
    noise: Noise
    ear: Ear | None
    answered: bool = False
    frames: int = 0


class FarEnd(asyncio.DatagramProtocol):
    """Takes every call of the trunk.

    Args:
        long: returns the noise and the ear of a long call's number.
        most_s: how long short calls last at most, once they are answered.
        chance: decides when.
    """

    def __init__(self, long: Callable[[str], tuple[Noise, Ear | None]], most_s: float, chance: random.Random) -> None:
        self.answered = 0
        """How many calls it has answered."""
        self.ended_here = 0
        """How many it has hung up."""
        self._long = long
        self._most_s = most_s
        self._chance = chance
        self._hum = Noise(0)
        """Sent into short calls."""
        self._calls: dict[str, _Call] = {}
        """By Call-ID."""
        self._ears: dict[int, Ear] = {}
        """By the port from which Asterisk sends the audio of a call."""
        self._tasks = BackgroundTasks("far end")
        self._rtp: asyncio.DatagramTransport

    def __len__(self) -> int:
        return len(self._calls)

    async def open(self, host: str, port: int) -> None:
        """Take the address at which Asterisk finds the trunk."""
        loop = asyncio.get_running_loop()
        self._rtp, _ = await loop.create_datagram_endpoint(lambda: _Audio(self._ears), local_addr=(host, 0))
        self._rtp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
        self._tasks.spawn(self._speak())

    async def close(self) -> None:
        """Close both ports."""
        await self._tasks.stop()
        self._transport.close()
        self._rtp.close()

    def hang_up_all(self) -> None:
        """End every call that is still up."""
        for call_id in tuple(self._calls):
            self._hang_up(call_id)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Keep the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        """Answer a request; responses are to our BYE, and end nothing."""
        head, _, body = data.decode().partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        method = start.split(" ")[0]
        if method in ("ACK", "SIP/2.0"):
            return
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        kept = [line for line in lines if line.lower().startswith(_KEPT)]
        call = self._calls.get(headers["call-id"])
        if method == "INVITE" and call is None:
            number = re.match(r"INVITE sip:([^@]+)", start)[1]  # type: ignore[index]
            port = int(re.search(r"m=audio (\d+)", body)[1])  # type: ignore[index]
            self._tasks.spawn(self._ring(_call(headers, port, *self._of(number)), kept, sender, number))
            return
        if method == "INVITE":
            if call is not None and call.answered:
                self._respond("200 OK", kept, call, sender, self._sdp())
            return
        ended = self._calls.pop(headers["call-id"], None) if method in ("BYE", "CANCEL") else None
        self._respond("200 OK", kept, ended, sender, to=headers["to"])
        if method == "CANCEL" and ended is not None:
            invite = [re.sub("(?i)^(cseq: *[0-9]+ ).*", r"\1INVITE", line) for line in kept]
            self._respond("487 Request Terminated", invite, ended, sender)
        if ended is not None:
            self._ears.pop(ended.port, None)

    def _of(self, number: str) -> tuple[Noise, Ear | None]:
        return self._long(number) if number.startswith(LONG) else (self._hum, None)

    async def _ring(self, call: _Call, kept: list[str], sender: tuple[str, int], number: str) -> None:
        call_id, is_long = call.invite["call-id"], number.startswith(LONG)
        self._calls[call_id] = call
        self._respond("180 Ringing", kept, call, sender)
        await asyncio.sleep(0 if is_long else self._chance.uniform(0, MOST_RINGING_S))
        if self._calls.get(call_id) is not call:
            return
        self.answered += 1
        call.answered = True
        if call.ear is not None:
            self._ears[call.port] = call.ear
        self._respond("200 OK", kept, call, sender, self._sdp())
        if not is_long:
            await asyncio.sleep(self._chance.uniform(0, self._most_s))
            self._hang_up(call_id)

    def _hang_up(self, call_id: str) -> None:
        call = self._calls.pop(call_id, None)
        if call is None:
            return
        self.ended_here += 1
        self._ears.pop(call.port, None)
        host, port = self._transport.get_extra_info("sockname")
        contact = re.search(r"<(sip:[^>]*)>", call.invite["contact"])[1]  # type: ignore[index]
        lines = (
            f"BYE {contact} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{secrets.token_hex(8)};rport",
            f"From: {call.invite['to']};tag={call.tag}",
            f"To: {call.invite['from']}",
            f"Call-ID: {call_id}",
            "CSeq: 1 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        )
        pbx = re.search(r"@([^:;>]+):(\d+)", contact)
        assert pbx is not None
        self._transport.sendto("\r\n".join(lines).encode(), (pbx[1], int(pbx[2])))

    def _respond(
        self, status: str, kept: list[str], call: _Call | None, sender: tuple[str, int], sdp: str = "", to: str = ""
    ) -> None:
        host, port = self._transport.get_extra_info("sockname")
        if not to:
            assert call is not None
            to = f"{call.invite['to']};tag={call.tag}"
        lines = [f"SIP/2.0 {status}", *kept, f"To: {to}", f"Contact: <sip:{host}:{port}>"]
        lines += ["Content-Type: application/sdp"] if sdp else []
        lines.append(f"Content-Length: {len(sdp)}\r\n\r\n{sdp}")
        self._transport.sendto("\r\n".join(lines).encode(), sender)

    def _sdp(self) -> str:
        host, port = self._rtp.get_extra_info("sockname")
        return (
            f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
        )

    async def _speak(self) -> None:
        """Send each call one frame every 20 ms, by an absolute clock."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            for call in self._calls.values():
                if call.answered:
                    number = call.frames
                    call.frames += 1
                    stamp = number * FRAME_SAMPLES & 0xFFFFFFFF
                    header = RTP_HEADER.pack(0x80, 0, number & 0xFFFF, stamp, call.port)
                    with contextlib.suppress(OSError):
                        self._rtp.sendto(header + call.noise.frames("ulaw", number), ("127.0.0.1", call.port))
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - loop.time()))


class _Audio(asyncio.DatagramProtocol):
    def __init__(self, ears: dict[int, Ear]) -> None:
        self._ears = ears

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        ear = self._ears.get(sender[1])
        if ear is not None:
            ear.take(data[RTP_HEADER.size :])


def _call(headers: dict[str, str], port: int, noise: Noise, ear: Ear | None) -> _Call:
    return _Call(headers, secrets.token_hex(4), port, noise, ear)
