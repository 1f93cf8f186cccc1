"""Measures resamplers for telephone audio: delay, block behavior, alias, image, flatness, cost.

    uv run --with soxr --with samplerate --with av python tests/load/resamplers.py

Libraries that are not installed are left out. The results are written down in docs/decisions/resampling.md.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

Convert = Callable[[bytes], bytes]
Maker = Callable[[int, int], Convert]
COST_PAIRS = ((8000, 16000), (16000, 8000), (8000, 24000), (24000, 8000), (44100, 8000), (8000, 44100), (48000, 8000))


def candidates() -> dict[str, Maker]:
    makers: dict[str, Maker] = {}

    def ours(rate_in: int, rate_out: int) -> Convert:
        from bridge.audio.resample import Resampler

        return Resampler(rate_in, rate_out).convert

    makers["bridge"] = ours

    def ratecv(rate_in: int, rate_out: int) -> Convert:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import audioop
        state = None

        def convert(pcm: bytes) -> bytes:
            nonlocal state
            out, state = audioop.ratecv(pcm, 2, 1, rate_in, rate_out, state)
            return out

        return convert

    makers["audioop.ratecv"] = ratecv
    try:
        import soxr
    except ImportError:
        print("soxr is not installed: left out", file=sys.stderr)
    else:

        def soxr_maker(quality: str) -> Maker:
            def make(rate_in: int, rate_out: int) -> Convert:
                stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="int16", quality=quality)
                return lambda pcm: stream.resample_chunk(np.frombuffer(pcm, "<i2")).tobytes()

            return make

        for quality in ("QQ", "LQ", "HQ"):
            makers[f"soxr {quality}"] = soxr_maker(quality)
    try:
        import samplerate
    except ImportError:
        print("samplerate is not installed: left out", file=sys.stderr)
    else:

        def samplerate_maker(converter: str) -> Maker:
            def make(rate_in: int, rate_out: int) -> Convert:
                stream = samplerate.Resampler(converter, channels=1)
                ratio = rate_out / rate_in

                def convert(pcm: bytes) -> bytes:
                    block = np.frombuffer(pcm, "<i2").astype(np.float32)
                    out = stream.process(block, ratio)
                    out = np.clip(np.rint(out), -32768, 32767)
                    return bytes(out.astype("<i2").tobytes())

                return convert

            return make

        for converter in ("sinc_fastest", "sinc_medium"):
            makers[f"samplerate {converter}"] = samplerate_maker(converter)
    try:
        import av
    except ImportError:
        print("av (PyAV) is not installed: left out", file=sys.stderr)
    else:

        def pyav(rate_in: int, rate_out: int) -> Convert:
            stream = av.AudioResampler("s16", "mono", rate_out)
            pts = 0

            def convert(pcm: bytes) -> bytes:
                nonlocal pts
                block = np.frombuffer(pcm, "<i2").reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                frame.sample_rate = rate_in
                frame.pts = pts
                pts += block.shape[1]
                return b"".join(bytes(each.planes[0])[: each.samples * 2] for each in stream.resample(frame))

            return convert

        makers["PyAV (swresample)"] = pyav
    return makers


def blocks(samples: np.ndarray, rate: int) -> list[bytes]:
    size = rate // 50
    data = np.clip(np.rint(samples), -32768, 32767).astype("<i2")
    return [data[start : start + size].tobytes() for start in range(0, len(data) - size + 1, size)]


def run(convert: Convert, samples: np.ndarray, rate: int) -> tuple[np.ndarray, list[int]]:
    """Return the samples that come out, and how many came for each 20 ms block."""
    parts = [np.frombuffer(convert(block), "<i2") for block in blocks(samples, rate)]
    return np.concatenate(parts).astype(float), [len(part) for part in parts]


def tone(frequency: float, rate: int, seconds: float, level: float = 10000.0) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)


def gain_db(maker: Maker, frequency: float, rate_in: int, rate_out: int) -> float:
    """RMS of all that comes out against what went in, in dB."""
    out, _ = run(maker(rate_in, rate_out), tone(frequency, rate_in, 2.0), rate_in)
    steady = out[rate_out // 2 : -rate_out // 10]
    rms = float(np.sqrt(np.mean(steady**2))) / (10000 / np.sqrt(2))
    return float(20 * np.log10(max(rms, 1e-6)))


def rest_db(maker: Maker, frequency: float, rate_in: int, rate_out: int) -> float:
    """Everything that comes out but the tone itself, against the tone, in dB: images, distortion, clicks."""
    out, _ = run(maker(rate_in, rate_out), tone(frequency, rate_in, 2.0), rate_in)
    steady = out[rate_out // 2 : rate_out // 2 + rate_out]  # one second: the tone falls into one bin
    steps = 2 * np.pi * frequency * np.arange(len(steady)) / rate_out
    basis = np.stack((np.sin(steps), np.cos(steps)), axis=1)
    fit = basis @ np.linalg.lstsq(basis, steady, rcond=None)[0]
    rest = steady - fit
    return float(10 * np.log10(max(float(np.mean(rest**2)), 1e-9) / float(np.mean(fit**2))))


def delay_ms(maker: Maker, rate_in: int, rate_out: int) -> float:
    """Return how much later than its sample in a pulse leaves the stream of samples, plus what the blocks hold back."""
    convert = maker(rate_in, rate_out)
    rng = np.random.default_rng(1)
    seconds = 2.0
    lower = min(rate_in, rate_out)
    times = np.arange(int(rate_in * seconds)) / rate_in
    # Noise made of sines: exactly the same signal can be computed at the other rate.
    parts = [(f, p) for f, p in zip(rng.uniform(200, 0.35 * lower, 40), rng.uniform(0, 6.28, 40), strict=True)]

    def signal(at: np.ndarray) -> np.ndarray:
        return sum((700 * np.sin(2 * np.pi * f * at + p) for f, p in parts), np.zeros(len(at)))

    out, counts = run(convert, signal(times), rate_in)
    # Where in the stream the signal appears...
    best, best_error = 0.0, np.inf
    start = rate_out
    piece = out[start : start + rate_out // 4]
    at = np.arange(start, start + len(piece)) / rate_out
    for shift in np.arange(-2.0, 60.0, 0.02):
        error = float(np.mean((piece - signal(at - shift / 1000)) ** 2))
        if error < best_error:
            best, best_error = float(shift), error
    # ...and how far the stream itself lags behind the blocks that went in, at its worst.
    produced = np.cumsum(counts) / rate_out
    due = np.arange(1, len(counts) + 1) * 0.02
    return best + float(np.max((due - produced)[len(counts) // 2 :])) * 1000


def regularity(maker: Maker, rate_in: int, rate_out: int) -> str:
    """Return the samples out for each 20 ms block, after the first second."""
    _, counts = run(maker(rate_in, rate_out), tone(440, rate_in, 3.0), rate_in)
    late = counts[50:]
    return f"{min(late)}..{max(late)} of {rate_out // 50}"


def drift_samples(maker: Maker, rate_in: int, rate_out: int) -> int:
    """Return the samples out missing (-) or surplus after a minute, compared with the second second."""
    convert = maker(rate_in, rate_out)
    block = bytes(2 * (rate_in // 50))
    counts = [len(convert(block)) // 2 for _ in range(3000)]
    return sum(counts[100:]) - 2900 * (rate_out // 50)


def cost_us(maker: Maker, rate_in: int, rate_out: int) -> float:
    convert = maker(rate_in, rate_out)
    feed = blocks(tone(440, rate_in, 0.02), rate_in)[0]
    for _ in range(200):
        convert(feed)
    best = np.inf
    for _ in range(7):
        begin = time.perf_counter()
        for _ in range(200):
            convert(feed)
        best = min(best, (time.perf_counter() - begin) / 200)
    return float(best) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="measure candidates whose name holds this")
    only = parser.parse_args().only
    for name, maker in candidates().items():
        if only not in name:
            continue
        print(f"\n{name}")
        print(f"  6 kHz tone 16k->8k, what is left of it: {gain_db(maker, 6000, 16000, 8000):7.1f} dB")
        print(f"  4.5 kHz tone 16k->8k                  : {gain_db(maker, 4500, 16000, 8000):7.1f} dB")
        print(f"  3 kHz tone 8k->16k, all but the tone  : {rest_db(maker, 3000, 8000, 16000):7.1f} dB")
        print(f"  3 kHz tone 44.1k->8k, all but the tone: {rest_db(maker, 3000, 44100, 8000):7.1f} dB")
        flat = " ".join(f"{f}: {gain_db(maker, f, 16000, 8000):.2f}" for f in (300, 1000, 2000, 3000, 3200, 3400, 3600))
        print(f"  gain 16k->8k in dB at Hz              : {flat}")
        for pair in ((16000, 8000), (8000, 16000), (44100, 8000)):
            print(
                f"  {pair[0]}->{pair[1]}: delay {delay_ms(maker, *pair):.2f} ms, "
                f"samples a block {regularity(maker, *pair)}, drift in a minute {drift_samples(maker, *pair)} samples"
            )
        costs = ", ".join(f"{a / 1000:g}->{b / 1000:g}: {cost_us(maker, a, b):.1f}" for a, b in COST_PAIRS)
        print(f"  us for 20 ms: {costs}", flush=True)


if __name__ == "__main__":
    main()
