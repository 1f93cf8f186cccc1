"""A desk phone: several calls at a time, and REFER with Replaces (its Transfer key). The lab's softphones lack both."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from bridge.tasks import first_of
from bridge.testing import judge
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.peer import Samples, ulaw_bytes, ulaw_samples
from bridge.testing.phone import RATE
from tests.lab.waiting import PATIENCE_S

Address = tuple[str, int]
FRAME = 160
"""Samples of 20 ms."""
RTP_HEADER_BYTES = 12


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, on_datagram: Callable[[bytes, Address], None]) -> None:
        self.transport: asyncio.DatagramTransport
        self._on_datagram = on_datagram

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._on_datagram(data, addr)


async def _bind(host: str, on_datagram: Callable[[bytes, Address], None]) -> tuple[asyncio.DatagramTransport, int]:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_datagram_endpoint(lambda: _Datagrams(on_datagram), (host, 0))
    return protocol.transport, protocol.transport.get_extra_info("sockname")[1]


class Message:
    """A SIP request or response."""

    def __init__(self, text: str) -> None:
        head, _, self.body = text.partition("\r\n\r\n")
        self.first, *lines = head.split("\r\n")
        self.headers = [(name.strip().lower(), value.strip()) for name, _, value in (x.partition(":") for x in lines)]

    def all(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for known, value in self.headers if known == name]

    def get(self, name: str) -> str:
        """Return a header's first value; empty if it is missing."""
        return next(iter(self.all(name)), "")

    @property
    def status(self) -> int:
        """The status of a response; 0 of a request."""
        return int(self.first.split()[1]) if self.first.startswith("SIP/2.0") else 0

    @property
    def method(self) -> str:
        """The request's method, or that of the request which is answered."""
        return self.get("cseq").split()[-1]


class DeskCall:
    """One call of the phone, as its caller."""

    def __init__(self, phone: DeskPhone, number: str, hz: float) -> None:
        self.number = number
        self.id = secrets.token_hex(8)
        self.local_tag = secrets.token_hex(4)
        self.remote_tag = ""
        self.target = f"sip:{number}@{phone.pbx[0]}:{phone.pbx[1]}"
        self.sequence = 0
        self.received = bytearray()
        """What was heard, as mu-law."""
        self.over = asyncio.Event()
        self.answers: asyncio.Queue[Message] = asyncio.Queue()
        self.rtp: asyncio.DatagramTransport
        self.rtp_port = 0
        self.pbx_rtp: Address | None = None
        self._phone = phone
        self._hz = hz
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Have an RTP port, and speak from it once the other side's is known."""
        self.rtp, self.rtp_port = await _bind(self._phone.host, self._on_rtp)
        self._task = asyncio.create_task(self._speak())

    async def close(self) -> None:
        """Release the RTP port."""
        self.over.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.rtp.close()

    @property
    def heard(self) -> Samples:
        """What was heard so far."""
        return ulaw_samples(bytes(self.received))

    def _on_rtp(self, data: bytes, _: Address) -> None:
        if len(data) == RTP_HEADER_BYTES + FRAME:
            self.received += data[RTP_HEADER_BYTES:]

    async def _speak(self) -> None:
        tone = ulaw_bytes(judge.tone(self._hz, 1, RATE))
        loop = asyncio.get_running_loop()
        began, source = loop.time(), secrets.token_bytes(4)
        number = 0
        while not self.over.is_set():
            number += 1
            await asyncio.sleep(began + number * FRAME / RATE - loop.time())
            begin = number * FRAME % RATE
            head = b"\x80\x00" + number.to_bytes(2, "big") + (number * FRAME).to_bytes(4, "big") + source
            if self.pbx_rtp is not None:
                self.rtp.sendto(head + tone[begin : begin + FRAME], self.pbx_rtp)

    def sdp(self) -> str:
        """Return what the phone offers."""
        host = self._phone.host
        lines = ["v=0", f"o=- 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0",
                 f"m=audio {self.rtp_port} RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=sendrecv", ""]  # fmt: skip
        return "\r\n".join(lines)

    def learn(self, message: Message) -> None:
        """Note the peer's address, from its response or its request."""
        tag = re.search(r";tag=([^;\s]+)", message.get("to")) if message.status else None
        self.remote_tag = tag[1] if tag else self.remote_tag
        contact = re.search(r"<([^>]+)>", message.get("contact"))
        self.target = contact[1] if contact else self.target
        media = re.search(r"c=IN IP4 (\S+)[\s\S]*m=audio (\d+)", message.body)
        if media:
            self.pbx_rtp = media[1], int(media[2])


class DeskPhone:
    """The phone of an extension; it calls, and need not register.

    Args:
        lab: whose PBX it calls.
        extension: whose credentials it uses.
    """

    def __init__(self, lab: EmbeddedLab, extension: str) -> None:
        self.host = lab.settings.host
        self.pbx = (lab.settings.host, lab.settings.sip_port)
        self._extension = extension
        self._password = lab.settings.phone_password
        self.ends_calls = True
        """It ends a call when it has transferred it."""
        self._calls: dict[str, DeskCall] = {}
        self._endings: list[asyncio.Task[None]] = []
        self._transport: asyncio.DatagramTransport
        self._port = 0

    async def start(self) -> None:
        """Open the SIP port."""
        self._transport, self._port = await _bind(self.host, self._on_sip)

    async def stop(self) -> None:
        """End every call, and close the port."""
        await asyncio.gather(*self._endings)
        for call in tuple(self._calls.values()):
            if not call.over.is_set():
                await self.hang_up(call)
            await call.close()
        self._transport.close()

    async def call(self, number: str, hz: float) -> DeskCall:
        """Call a number and speak a tone; return when it is answered."""
        call = DeskCall(self, number, hz)
        self._calls[call.id] = call
        await call.open()
        answer = await self._request(call, "INVITE", call.sdp())
        assert answer.status == 200, answer.first
        call.learn(answer)
        self._send(call, "ACK", call.sequence)
        return call

    async def hang_up(self, call: DeskCall) -> None:
        """End a call; the other side may be quicker."""
        if not call.over.is_set():
            await first_of(self._request(call, "BYE"), call.over.wait())
            call.over.set()

    async def transfer(self, call: DeskCall, to: DeskCall | str) -> None:
        """Transfer a call: to a number, or (attended) to the other side of another call of the phone."""
        refer_to = f"sip:{to if isinstance(to, str) else to.number}@{self.pbx[0]}:{self.pbx[1]}"
        if isinstance(to, DeskCall):
            refer_to += f"?Replaces={to.id}%3Bto-tag%3D{to.remote_tag}%3Bfrom-tag%3D{to.local_tag}"
        answer = await self._request(call, "REFER", extra=[f"Refer-To: <{refer_to}>", f"Referred-By: <{self._me}>"])
        assert answer.status == 202, answer.first

    @property
    def _me(self) -> str:
        return f"sip:{self._extension}@{self.pbx[0]}"

    async def _request(self, call: DeskCall, method: str, body: str = "", extra: list[str] | None = None) -> Message:
        """Send a request, with credentials if they are required; return the final response."""
        headers = list(extra or ())
        for _ in range(2):
            call.sequence += 1
            self._send(call, method, call.sequence, body, headers)
            async with asyncio.timeout(PATIENCE_S):
                while (answer := await call.answers.get()).status < 200 or answer.method != method:
                    pass
            if answer.status != 401:
                return answer
            if method == "INVITE":
                self._send(call, "ACK", call.sequence, to_tag=re.search(r";tag=([^;\s]+)", answer.get("to")))
            headers = [*(extra or ()), self._credentials(answer, method, call.target)]
        return answer

    def _credentials(self, challenge: Message, method: str, uri: str) -> str:
        asked = next(each for each in challenge.all("www-authenticate") if "SHA" not in each)
        fields = dict(re.findall(r'(\w+)="?([^",]+)"?', asked))

        def digest(text: str) -> str:
            return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

        secret = digest(f"{self._extension}:{fields['realm']}:{self._password}")
        response = digest(f"{secret}:{fields['nonce']}:00000001:c:auth:{digest(f'{method}:{uri}')}")
        opaque = f', opaque="{fields["opaque"]}"' if "opaque" in fields else ""
        return (
            f'Authorization: Digest username="{self._extension}", realm="{fields["realm"]}", '
            f'nonce="{fields["nonce"]}", uri="{uri}", response="{response}", algorithm=MD5, qop=auth, '
            f'nc=00000001, cnonce="c"{opaque}'
        )

    def _send(
        self,
        call: DeskCall,
        method: str,
        sequence: int,
        body: str = "",
        extra: list[str] | None = None,
        to_tag: re.Match[str] | None = None,
    ) -> None:
        tag = to_tag[1] if to_tag else call.remote_tag
        lines = [
            f"{method} {call.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.host}:{self._port};branch=z9hG4bK{call.id}{sequence}{method};rport",
            f"From: <{self._me}>;tag={call.local_tag}",
            f"To: <sip:{call.number}@{self.pbx[0]}>" + (f";tag={tag}" if tag else ""),
            f"Call-ID: {call.id}",
            f"CSeq: {sequence} {method}",
            f"Contact: <sip:{self._extension}@{self.host}:{self._port}>",
            "Max-Forwards: 70",
            "Allow: INVITE, ACK, BYE, CANCEL, REFER, NOTIFY, OPTIONS, UPDATE",
            "Supported: replaces",
            *(extra or ()),
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        self._transport.sendto(("\r\n".join(lines) + "\r\n\r\n" + body).encode(), self.pbx)

    def _on_sip(self, data: bytes, address: Address) -> None:
        message = Message(data.decode(errors="replace"))
        call = self._calls.get(message.get("call-id"))
        if message.status:
            if call is not None:
                call.answers.put_nowait(message)
            return
        if message.method == "ACK":
            return
        body = call.sdp() if call is not None and message.method == "INVITE" else ""
        if call is not None and message.method in ("INVITE", "UPDATE"):
            call.learn(message)
        copied = [f"{name}: {value}" for name, value in message.headers if name in ("via", "from", "call-id", "cseq")]
        to = message.get("to")
        copied.append(f"To: {to if ';tag=' in to else f'{to};tag={secrets.token_hex(4)}'}")
        copied.append(f"Contact: <sip:{self._extension}@{self.host}:{self._port}>")
        copied += ["Content-Type: application/sdp"] if body else []
        status = "200 OK" if call is not None else "481 Call Does Not Exist"
        text = "\r\n".join([f"SIP/2.0 {status}", *copied, f"Content-Length: {len(body)}"])
        self._transport.sendto(f"{text}\r\n\r\n{body}".encode(), address)
        if call is not None and message.method == "BYE":
            call.over.set()
        elif call is not None and message.method == "NOTIFY" and "SIP/2.0 200" in message.body and self.ends_calls:
            self._endings.append(asyncio.create_task(self.hang_up(call)))  # it has transferred the call (RFC 5589)


@contextlib.asynccontextmanager
async def desk_phone(lab: EmbeddedLab, extension: str = "1004") -> AsyncIterator[DeskPhone]:
    """Run a desk phone, whose calls end with the block."""
    phone = DeskPhone(lab, extension)
    await phone.start()
    try:
        yield phone
    finally:
        await phone.stop()


def level(samples: Samples, hz: float, seconds: float = 1.0) -> float:
    """Return how loud a tone is at the end of what was heard."""
    last = np.asarray(samples[-int(seconds * RATE) :])
    return float(judge.level_of(last, hz, RATE)) if len(last) else 0.0
