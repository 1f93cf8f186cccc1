"""A SIP phone that answers as a test specifies and shows every received message: what softphones neither send nor show.

SIP over UDP (RFC 3261) without audio: responses other than 486 and 603, the headers of a CANCEL, a privacy header.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import TRUNK, Lab
from tests.lab.waiting import PATIENCE_S, until

RINGING = "180 Ringing"
RESEND_S = 1.0


@dataclass(frozen=True)
class Message:
    """One SIP message.

    Args:
        start: its first line.
        headers: by name in lowercase; several of one name joined by ", ".
        body: the rest.
    """

    start: str
    headers: Mapping[str, str]
    body: str

    @property
    def method(self) -> str:
        """The method of a request; ``SIP/2.0`` of a response."""
        return self.start.split(" ")[0]

    @classmethod
    def parse(cls, data: bytes) -> Message:
        """Parse a datagram."""
        head, _, body = data.decode().partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        headers: dict[str, str] = {}
        for name, _, value in (line.partition(":") for line in lines):
            key = name.strip().lower()
            headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
        return cls(start, headers, body)


class SipPhone(asyncio.DatagramProtocol):
    """One phone.

    Args:
        name: its extension, or ``trunk``.
        pbx: address of the PBX.
        password: of the extension.
    """

    def __init__(self, name: str, pbx: tuple[str, int], password: str) -> None:
        self.received: list[Message] = []
        """Every message, oldest first."""
        self.response = RINGING
        """How an INVITE is answered; other than 180 it is the final response."""
        self.response_headers: dict[str, str] = {}
        """Further headers of that response."""
        self.name = name
        self._pbx = pbx
        self._password = password
        self.audio_port = 9
        """Where audio is received; 9: nowhere."""
        self._invite: Message | None = None
        self._registers = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Keep the socket."""
        self._transport = transport
        self._address = "{}:{}".format(*transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, _: tuple[str, int]) -> None:
        """Answer a request."""
        message = Message.parse(data)
        self.received.append(message)
        match message.method:
            case "INVITE":
                self._invite = message
                self._respond(message, self.response, self.response_headers)
            case "CANCEL":
                self._respond(message, "200 OK")
                if self._invite is not None:
                    self._respond(self._invite, "487 Request Terminated")
            case "ACK" | "SIP/2.0":
                pass
            case _:
                self._respond(message, "200 OK")

    async def requests(self, method: str, count: int = 1) -> list[Message]:
        """Wait until this many requests of a method have come; return them."""
        await until(lambda: sum(message.method == method for message in self.received) >= count)
        return [message for message in self.received if message.method == method]

    def answer(self) -> None:
        """Answer the call that rings, and send no audio."""
        assert self._invite is not None
        host = self._address.partition(":")[0]
        sdp = (
            f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
            "m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        )
        self._respond(self._invite, "200 OK", {"Content-Type": "application/sdp"}, sdp)

    async def register(self, expires_s: int = 300) -> None:
        """Register at the PBX; 0 s ends it."""
        challenge = await self._ask_to_register("", expires_s)
        proof = self._authorization(challenge, "REGISTER", f"sip:{self._pbx[0]}")
        answer = await self._ask_to_register(proof, expires_s)
        assert answer.start == "SIP/2.0 200 OK", answer.start

    def _authorization(self, challenge: Message, method: str, uri: str) -> str:
        """Return the header that a challenge demands."""
        given = dict(re.findall(r'(\w+)="?([^",]*)', challenge.headers["www-authenticate"]))
        count, ours = "00000001", secrets.token_hex(8)
        name = given.get("algorithm", "MD5").replace("-", "").lower()

        def digest(text: str) -> str:
            return hashlib.new("sha256" if name == "sha256" else "md5", text.encode()).hexdigest()

        secret = digest(f"{self.name}:{given['realm']}:{self._password}")
        proof = digest(f"{secret}:{given['nonce']}:{count}:{ours}:auth:{digest(f'{method}:{uri}')}")
        return (
            f'Authorization: Digest username="{self.name}", realm="{given["realm"]}", nonce="{given["nonce"]}", '
            f'uri="{uri}", response="{proof}", algorithm={given.get("algorithm", "MD5")}, qop=auth, nc={count}, '
            f'cnonce="{ours}", opaque="{given.get("opaque", "")}"\r\n'
        )

    async def call(self, number: str, headers: str = "", caller: str = "anonymous") -> Message:
        """Call a number and accept whatever is answered.

        Args:
            headers: further headers of the INVITE, each ended with a line break.
            caller: user of the From header; an extension proves that it is one.

        Returns:
            The response.
        """
        tag = secrets.token_hex(4)
        host, port = self._pbx
        dialog = (
            f"From: <sip:{caller}@{self._address}>;tag={tag}\r\nCall-ID: {secrets.token_hex(8)}\r\n"
            f"Contact: <sip:{caller}@{self._address}>\r\nMax-Forwards: 70\r\n"
        )
        sdp = (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {self.audio_port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        )
        target = f"sip:{number}@{host}:{port}"
        proof = ""
        for sequence in (1, 2):
            via = self._via()
            answer = await self._ask(
                f"INVITE {target} SIP/2.0\r\n{via}To: <{target}>\r\nCSeq: {sequence} INVITE\r\n{dialog}{headers}{proof}"
                f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}",
                f"{sequence} INVITE",
            )
            self._send(
                f"ACK {target} SIP/2.0\r\n{via if proof == '' else self._via()}To: {answer.headers['to']}\r\n"
                f"CSeq: {sequence} ACK\r\n{dialog}Content-Length: 0\r\n\r\n"
            )
            if not answer.start.startswith("SIP/2.0 401"):
                break
            proof = self._authorization(answer, "INVITE", target)
        self._bye = (
            f"BYE {target} SIP/2.0\r\n{self._via()}To: {answer.headers['to']}\r\nCSeq: 3 BYE\r\n{dialog}"
            "Content-Length: 0\r\n\r\n"
        )
        assert answer.start == "SIP/2.0 200 OK", answer.start
        return answer

    def hang_up(self) -> None:
        """End the call that this phone has made."""
        self._send(self._bye)

    def _final(self, cseq: str) -> Message | None:
        answers = [each for each in self.received if each.method == "SIP/2.0" and each.headers["cseq"] == cseq]
        return next((each for each in answers if each.start.split(" ")[1] >= "200"), None)

    async def _ask_to_register(self, more: str, expires_s: int) -> Message:
        self._registers += 1
        number = self._registers
        address = f"<sip:{self.name}@{self._pbx[0]}>"
        return await self._ask(
            f"REGISTER sip:{self._pbx[0]} SIP/2.0\r\n{self._via()}From: {address};tag=1\r\nTo: {address}\r\n"
            f"Call-ID: register-{self._address}\r\nCSeq: {number} REGISTER\r\nMax-Forwards: 70\r\n"
            f"Expires: {expires_s}\r\nContact: <sip:{self.name}@{self._address}>\r\n{more}Content-Length: 0\r\n\r\n",
            f"{number} REGISTER",
        )

    async def _ask(self, request: str, cseq: str) -> Message:
        """Send a request again and again, as UDP loses some, until its final response has come; return that."""
        while self._final(cseq) is None:
            self._send(request)
            with contextlib.suppress(AssertionError):
                await until(lambda: self._final(cseq) or self._is_tried(cseq), RESEND_S)
            if self._is_tried(cseq):
                await until(lambda: self._final(cseq))
        answer = self._final(cseq)
        assert answer is not None
        return answer

    def _is_tried(self, cseq: str) -> bool:
        return any(each.method == "SIP/2.0" and each.headers["cseq"] == cseq for each in self.received)

    def _respond(self, request: Message, status: str, headers: Mapping[str, str] | None = None, body: str = "") -> None:
        kept = "".join(f"{name}: {request.headers[name]}\r\n" for name in ("via", "from", "call-id", "cseq"))
        to = request.headers["to"]
        more = {"Contact": f"<sip:{self.name}@{self._address}>", **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        self._send(
            f"SIP/2.0 {status}\r\n{kept}to: {to if ';tag=' in to else f'{to};tag=phone'}\r\n{lines}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )

    def _via(self) -> str:
        return f"Via: SIP/2.0/UDP {self._address};branch=z9hG4bK{secrets.token_hex(8)};rport\r\n"

    def _send(self, text: str) -> None:
        self._transport.sendto(text.encode(), self._pbx)


@contextlib.asynccontextmanager
async def sip_phone(lab: Lab, name: str) -> AsyncIterator[SipPhone]:
    """Run a SIP phone at an extension, registered, or at the trunk's far side."""
    assert isinstance(lab, EmbeddedLab), "phones in this process reach an Asterisk on this machine only"
    settings = lab.settings
    port = 0
    if name == TRUNK:
        await lab.phone(TRUNK).stop()
        port = lab.phone_port(TRUNK)
    phone = SipPhone(name, (settings.host, settings.sip_port), settings.phone_password)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: phone, local_addr=(settings.host, port)
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            if name != TRUNK:
                await phone.register()
        phone.received.clear()
        yield phone
        if name != TRUNK:
            await phone.register(0)
    finally:
        transport.close()
