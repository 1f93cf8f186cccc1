"""What one 20 ms frame costs in each pure part of the frame path, in microseconds.

    python tests/load/frame_cost.py

A microsecond a frame in one direction is 0.05 CPU-ms a call-second.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from timeit import repeat

sys.path.insert(0, str(Path(__file__).parents[2]))

from bridge.audio.audiosocket import MessageDecoder, encode
from bridge.audio.format import slin
from bridge.audio.framing import Framer
from bridge.audio.playout import Playout
from bridge.audio.resample import Resampler
from bridge.dialects.voipbin import Voipbin
from bridge.media.counters import Counters
from bridge.media.loop import FrameLoop
from bridge.media.picows_link import PicowsLink
from bridge.media.takeover import feed

FRAME = bytes(range(1, 161)) * 2
RUNS = 20_000


def show(name: str, work: Callable[[], object]) -> None:
    best = min(repeat(work, number=RUNS, repeat=5)) / RUNS
    print(f"{name:45} {best * 1e6:6.2f}")


def send(stream: Voipbin, frames: Iterator[int]) -> None:
    stream.audio("call", FRAME, next(frames) * 0.02)


def main() -> None:
    message = memoryview(bytearray(encode(0x10, FRAME)))
    decoder = MessageDecoder()
    show("AudioSocket: decode one message", lambda: decoder.feed(message))
    show("AudioSocket: encode one message", lambda: encode(0x10, FRAME))
    framer = Framer(320)
    show("framing: a whole frame", lambda: framer.push(FRAME))
    block_of_30_ms = FRAME + FRAME[:160]
    show("framing: 30 ms blocks", lambda: framer.push(block_of_30_ms))

    playout = Playout(slin(8000), 600_000)

    def play_and_take() -> None:
        playout.play(FRAME)
        playout.take()
        playout.reached()

    show("playout: play, take, reached", play_and_take)
    show("playout: take with nothing there", playout.take)
    large = Playout(slin(8000), 10**8)
    large.play(FRAME * 6 * RUNS)
    show("playout: take out of a block of 38 MB", large.take)

    for options in (("rtp",), ("rtp", "slin"), ("sln",), ("sln", "ulaw"), ("audiosocket",)):
        stream = Voipbin(*options)
        show(f"voipbin {' '.join(options)}: send", partial(send, stream, count()))
        (sent,) = Voipbin(*options).audio("call", FRAME, 0.0)
        show(f"voipbin {' '.join(options)}: receive", partial(stream.receive, sent))
    for pair in ((8000, 16000), (16000, 8000), (24000, 8000), (44100, 8000)):
        block = bytes(pair[0] // 50 * 2)
        converter = Resampler(*pair)
        show(f"resample {pair[0]} to {pair[1]}", partial(converter.convert, block))
    with asyncio.Runner(loop_factory=FrameLoop) as runner:
        runner.run(receive())


async def receive() -> None:
    """Measure one masked binary message from the read of the socket to the stream."""
    link = PicowsLink(Counters(), max_unsent_ms=1000, ping_interval_s=20.0, max_message_bytes=1 << 24)
    protocol = link.protocol()
    with socket.create_server(("127.0.0.1", 0)) as server:  # picows wants TCP
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, ours)
    feed(
        protocol,
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    message = b"\x82\xfe" + len(FRAME).to_bytes(2, "big") + bytes(4) + FRAME
    show("receive one message", lambda: feed(protocol, message))
    link.abort(1001, "measured")
    theirs.close()


if __name__ == "__main__":
    main()
