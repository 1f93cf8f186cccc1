"""RFC 6455: the cases of Autobahn's test suite that need no echo, under its numbers, against links of both sides."""

from __future__ import annotations

import asyncio

import pytest

from .raw import BINARY, CLOSE, CONT, PING, PONG, SIDES, TEXT, Frame, closing, raw_peer

OCTETS = bytes(range(0x80, 0x80 + 125))
BROKEN = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"
VALID = "κόσμε Hello-µ@ßöäüàá-UTF-8!! 𐍈".encode()

ANSWERED: dict[str, tuple[list[Frame], list[bytes]]] = {
    "2.1 ping without payload": ([Frame(PING)], [b""]),
    "2.2 ping with text": ([Frame(PING, b"Hello, world!")], [b"Hello, world!"]),
    "2.3 ping with octets": ([Frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")], [b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"]),
    "2.4 ping of 125 octets": ([Frame(PING, OCTETS)], [OCTETS]),
    "2.7 pong that nobody asked for": ([Frame(PONG), Frame(PING, b"1")], [b"1"]),
    "2.8 the same with payload": ([Frame(PONG, b"unsolicited"), Frame(PING, b"1")], [b"1"]),
    "2.9 the same before a ping": ([Frame(PONG, b"unsolicited"), Frame(PING, b"ping")], [b"ping"]),
    "2.10 ten pings": ([Frame(PING, b"payload-%d" % n) for n in range(10)], [b"payload-%d" % n for n in range(10)]),
    "5.5 ping between fragments": ([Frame(TEXT, b"a", fin=False), Frame(PING, b"p"), Frame(CONT, b"b")], [b"p"]),
}
DELIVERED: dict[str, tuple[list[Frame], list[bytes | str]]] = {
    "1.1.2 text": ([Frame(TEXT, b"*" * 125)], ["*" * 125]),
    "1.1.4 text of 127": ([Frame(TEXT, b"*" * 127)], ["*" * 127]),
    "1.1.6 text of 65535": ([Frame(TEXT, b"*" * 65535)], ["*" * 65535]),
    "1.1.7 text of 65536": ([Frame(TEXT, b"*" * 65536)], ["*" * 65536]),
    "1.2.1 empty binary": ([Frame(BINARY)], [b""]),
    "1.2.2 binary": ([Frame(BINARY, b"\xfe" * 125)], [b"\xfe" * 125]),
    "1.2.7 binary of 65536": ([Frame(BINARY, b"\xfe" * 65536)], [b"\xfe" * 65536]),
    "5.3 two fragments": ([Frame(TEXT, b"frag1", fin=False), Frame(CONT, b"frag2")], ["frag1frag2"]),
    "5.6 ping between": ([Frame(TEXT, b"1", fin=False), Frame(PING), Frame(CONT, b"2")], ["12"]),
    "5.19 pings among five": (
        [
            *(Frame(TEXT, b"1", fin=False), Frame(CONT, b"2", fin=False), Frame(PING, b"x")),
            *(Frame(CONT, b"3", fin=False), Frame(CONT, b"4", fin=False), Frame(PING, b"y"), Frame(CONT, b"5")),
        ],
        ["12345"],
    ),
    "6.1.1 empty text": ([Frame(TEXT)], [""]),
    "6.1.2 three empty fragments": ([Frame(TEXT, fin=False), Frame(CONT, fin=False), Frame(CONT)], [""]),
    "6.1.3 empty, text, empty": ([Frame(TEXT, fin=False), Frame(CONT, b"middle", fin=False), Frame(CONT)], ["middle"]),
    "6.2.1 UTF-8": ([Frame(TEXT, VALID)], [VALID.decode()]),
    "6.2.2 UTF-8 cut between characters": (
        [Frame(TEXT, VALID[:11], fin=False), Frame(CONT, VALID[11:])],
        [VALID.decode()],
    ),
    "6.2.3 UTF-8 cut in each octet": (
        [
            Frame(TEXT, fin=False),
            *(Frame(CONT, VALID[n : n + 1], fin=False) for n in range(len(VALID))),
            Frame(CONT),
        ],
        [VALID.decode()],
    ),
    "6.7.1 U+0000": ([Frame(TEXT, b"\x00")], ["\x00"]),
    "6.9.4 the last character": ([Frame(TEXT, b"\xf4\x8f\xbf\xbf")], ["\U0010ffff"]),
    "6.22.1 a noncharacter": ([Frame(TEXT, b"\xef\xbf\xbe")], ["\ufffe"]),
}
REJECTED: dict[str, tuple[list[Frame], int]] = {
    "2.5 ping of 126 octets": ([Frame(PING, OCTETS + b"\xfe")], 1002),
    "3.1 reserved bits 1": ([Frame(TEXT, b"Hello, world!", rsv=1)], 1002),
    "3.2 after a message": ([Frame(TEXT, b"Hello"), Frame(TEXT, b"Hello", rsv=2), Frame(PING)], 1002),
    "3.4 with a ping after": ([Frame(TEXT, b"Hello"), Frame(TEXT, b"Hello", rsv=4), Frame(PING)], 1002),
    "3.5 in binary": ([Frame(BINARY, b"\x00\xff\xfe", rsv=5)], 1002),
    "3.6 in a ping": ([Frame(PING, b"Hello, world!", rsv=6)], 1002),
    "3.7 in a Close frame": ([Frame(CLOSE, b"\x03\xe8", rsv=7)], 1002),
    "3.x in a fragment": ([Frame(BINARY, b"a", fin=False), Frame(CONT, b"b", rsv=1)], 1002),
    **{f"4.1 opcode {code}": ([Frame(code)], 1002) for code in range(3, 8)},
    **{f"4.1 opcode {code} after a message": ([Frame(TEXT, b"x"), Frame(code, b"reserved")], 1002) for code in (3, 7)},
    **{f"4.2 opcode {code}": ([Frame(code, b"reserved"), Frame(PING)], 1002) for code in range(11, 16)},
    "5.1 ping in fragments": ([Frame(PING, b"a", fin=False), Frame(CONT, b"b")], 1002),
    "5.2 pong in fragments": ([Frame(PONG, b"a", fin=False), Frame(CONT, b"b")], 1002),
    "5.9 continuation of nothing": ([Frame(CONT, b"a"), Frame(TEXT, b"Hello")], 1002),
    "5.12 the same, not final": ([Frame(CONT, b"a", fin=False), Frame(TEXT, b"Hello")], 1002),
    "5.15 after a whole message": (
        [Frame(TEXT, b"1", fin=False), Frame(CONT, b"2"), Frame(CONT, b"3", fin=False), Frame(TEXT, b"4")],
        1002,
    ),
    "5.18 a message within another": ([Frame(TEXT, b"1", fin=False), Frame(TEXT, b"2")], 1002),
    "6.3.1 broken UTF-8": ([Frame(TEXT, BROKEN)], 1007),
    "6.3.2 broken UTF-8 in fragments": ([Frame(TEXT, BROKEN[:9], fin=False), Frame(CONT, BROKEN[9:])], 1007),
    "6.6.1 half a character": ([Frame(TEXT, b"\xce")], 1007),
    "6.10.1 beyond the last character": ([Frame(TEXT, b"\xf4\x90\x80\x80")], 1007),
    "6.14.1 a lone continuation octet": ([Frame(TEXT, b"\x80")], 1007),
    "6.18.1 overlong": ([Frame(TEXT, b"\xc0\xaf")], 1007),
    "6.20.1 a surrogate": ([Frame(TEXT, b"\xed\xa0\x80")], 1007),
    "7.3.2 Close with one octet": ([Frame(CLOSE, b"a")], 1002),
    "7.3.6 Close with 126 octets": ([closing(1000, b"*" * 124)], 1002),
    "7.5.1 reason that is not UTF-8": ([closing(1000, BROKEN)], 1007),
    **{
        f"7.9 Close with the code {code}": ([closing(code)], 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
}
CLOSED: dict[str, tuple[list[Frame], int, int]] = {
    "7.1.2 two Close frames": ([closing(1000), closing(1000)], 1000, 1000),
    "7.1.2 of which the second is broken": ([closing(3000), Frame(CLOSE, b"a")], 3000, 3000),
    "7.1.3 a ping after Close": ([closing(1000), Frame(PING)], 1000, 1000),
    "7.1.4 a message after Close": ([closing(1000), Frame(TEXT, b"Hello")], 1000, 1000),
    "7.3.3 code alone": ([closing(1000)], 1000, 1000),
    "7.3.4 code and reason": ([closing(1000, b"Hello World!")], 1000, 1000),
    "7.3.5 the longest reason": ([closing(1000, b"*" * 123)], 1000, 1000),
    **{
        f"7.7 Close with the code {code}": ([closing(code)], code, code)
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
    },
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", ANSWERED)
async def test_pings_are_answered(side: str, case: str) -> None:
    frames, pongs = ANSWERED[case]
    async with raw_peer(side) as peer:
        peer.send(*frames)
        for payload in pongs:
            assert await peer.frame() == Frame(PONG, payload)
        peer.send(closing(1000))
        assert await peer.frame() == closing(1000)
        assert await asyncio.wait_for(peer.closed.get(), 60) == (1000, "")


@pytest.mark.parametrize("side", SIDES)
async def test_pings_that_arrive_in_pieces_are_answered(side: str) -> None:
    async with raw_peer(side) as peer:  # 2.6 and 2.11
        for octet in peer.encoded(Frame(PING, OCTETS)) + peer.encoded(Frame(PING, b"next")):
            peer.writer.write(bytes([octet]))
            await asyncio.sleep(0)
        assert await peer.frame() == Frame(PONG, OCTETS)
        assert await peer.frame() == Frame(PONG, b"next")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", DELIVERED)
async def test_messages_are_delivered(side: str, case: str) -> None:
    frames, messages = DELIVERED[case]
    async with raw_peer(side) as peer:
        peer.send(*frames)
        assert await peer.got(len(messages)) == messages
        peer.send(closing(1000))
        assert await peer.close_code() == 1000


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", REJECTED)
async def test_breaches_of_the_protocol_are_rejected(side: str, case: str) -> None:
    frames, code = REJECTED[case]
    async with raw_peer(side) as peer:
        peer.send(*frames, Frame(BINARY, b"not for anybody"))
        assert await peer.close_code() == code
        peer.send(closing(code))
        assert (await asyncio.wait_for(peer.closed.get(), 60))[0] == code
        assert b"not for anybody" not in peer.messages
        assert await asyncio.wait_for(_rest(peer.reader), 60) == b""


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", CLOSED)
async def test_close_frames_are_answered_once(side: str, case: str) -> None:
    frames, code, answer = CLOSED[case]
    async with raw_peer(side) as peer:
        peer.send(*frames)
        assert await peer.close_code() == answer
        assert (await asyncio.wait_for(peer.closed.get(), 60))[0] == code
        assert peer.messages == []
        assert await asyncio.wait_for(_rest(peer.reader), 60) == b""


@pytest.mark.parametrize("side", SIDES)
async def test_a_close_frame_without_a_code_is_answered(side: str) -> None:
    async with raw_peer(side) as peer:  # 7.3.1
        peer.send(Frame(CLOSE))
        assert await peer.close_code() in (1000, 1005)
        assert (await asyncio.wait_for(peer.closed.get(), 60))[0] == 1005


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:  # the link closed before it had read everything
        return b""
