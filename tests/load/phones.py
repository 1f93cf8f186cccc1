"""The far side of the lab's trunk, for load: it answers every call, and sends a tone."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from itertools import count

from bridge.testing import judge
from bridge.testing.peer import RTP_HEADER, ulaw_bytes


class Phones(asyncio.DatagramProtocol):
    """The far end of the lab's trunk: takes every call (RFC 3261) and sends it a tone of 1000 Hz, every 20 ms.

    Args:
        speaking: if not, it sends no packet.
    """

    def __init__(self, *, speaking: bool = True) -> None:
        self._speaking = speaking
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # received audio stays unread
        self._rtp.bind(("127.0.0.1", 0))
        self._rtp.setblocking(False)
        self._ports: dict[str, int] = {}
        self._tone = ulaw_bytes(judge.tone(1000, 0.02, 8000))
        self._task = asyncio.create_task(self._speak())

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def close(self) -> None:
        self._task.cancel()
        self._transport.close()
        self._rtp.close()

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        head, _, body = data.decode().partition("\r\n\r\n")
        method, *_ = head.split(" ", 1)
        if method == "ACK" or head.startswith("SIP/2.0"):
            return
        kept = [line for line in head.split("\r\n") if line.lower().startswith(("via:", "from:", "call-id:", "cseq:"))]
        to = next(line for line in head.split("\r\n") if line.lower().startswith("to:"))
        call_id = next(line for line in kept if line.lower().startswith("call-id:"))
        host, port = self._transport.get_extra_info("sockname")
        answer = ["SIP/2.0 200 OK", *kept, to if ";tag=" in to else f"{to};tag=phone", f"Contact: <sip:{host}:{port}>"]
        sdp = ""
        if method == "INVITE":
            self._ports[call_id] = int(re.search(r"m=audio (\d+)", body)[1])  # type: ignore[index]
            sdp = "\r\n".join(
                (
                    f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0",
                    f"m=audio {self._rtp.getsockname()[1]} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n",
                )
            )
            answer.append("Content-Type: application/sdp")
        elif method == "BYE":
            self._ports.pop(call_id, None)
        answer.append(f"Content-Length: {len(sdp)}\r\n\r\n{sdp}")
        self._transport.sendto("\r\n".join(answer).encode(), sender)

    async def _speak(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in count():
            packet = RTP_HEADER.pack(0x80, 0, number & 0xFFFF, number * 160 & 0xFFFFFFFF, 0x5EED) + self._tone
            for port in self._ports.values() if self._speaking else ():
                with contextlib.suppress(OSError):
                    self._rtp.sendto(packet, ("127.0.0.1", port))
            await asyncio.sleep(max(0.0, began + (number + 1) * 0.02 - loop.time()))
