"""A real SIP softphone (baresip) driven over its control socket: it calls, answers, plays a file and records."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import struct
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.errors import BridgeError
from bridge.tasks import BackgroundTasks

RATE = 8000  # Hz; of what phones play and record
Samples = NDArray[np.int16]

_START_TIMEOUT_S = 60.0
_PORT_BUSY = "Address already in use"
_PORT_TRIES = 50  # ten a second: the audio ports of the call before may not be free yet
_ANSWER_TIMEOUT_S = 20.0  # of a command on the control socket
# baresip ends the call when its file ends, so what is to be played is followed by this much silence.
_SILENCE_AFTER_S = 600
_WAV_HEADER = struct.Struct("<4sI8sIHHIIHH4sI")
_WAV_HEADER_BYTES = 44  # of baresip's recordings, which have no lengths in their headers until the call ends


class PhoneError(BridgeError):
    """The phone did not do what was requested, or not in time."""


class PhoneRefusal(PhoneError):
    """The phone's program answered a command with an error."""


class PhonePlace(Protocol):
    """The environment of a phone's program, provided by the lab's engine."""

    @property
    def control(self) -> tuple[str, int]:
        """Host and port of the control socket, as reached from here."""

    @property
    def files(self) -> Path:
        """The phone's folder, as seen from here: ``source.wav`` is played, ``recordings/`` is written."""

    @property
    def domain(self) -> str:
        """Address of the PBX as the phone reaches it: ``host:port``."""

    @property
    def running(self) -> bool:
        """Whether the program runs."""

    async def start(self) -> None:
        """Start the program."""

    async def stop(self) -> None:
        """End the program; do nothing if it has ended."""

    def last_lines(self) -> str:
        """Return the end of the program's log, for error messages."""


@dataclass(frozen=True)
class PhoneEvent:
    """An event that the phone reported.

    Args:
        type: baresip's name: ``REGISTER_OK``, ``CALL_INCOMING``, ``CALL_ESTABLISHED``, ``CALL_CLOSED``...
        param: its parameter, for example the reason of ``CALL_CLOSED``.
        peer: SIP address of the other side, where there is one.
    """

    type: str
    param: str
    peer: str


class Phone:
    """One softphone.

    Args:
        name: the extension, or ``trunk``.
        place: where its program runs.
        registers: whether it registers at the PBX; `start` waits for the registration.
    """

    def __init__(self, name: str, place: PhonePlace, *, registers: bool = True) -> None:
        self.name = name
        self.events: list[PhoneEvent] = []
        """Everything reported since the last call was dialed or `forget` was called, oldest first."""
        self._place = place
        self._registers = registers
        self._control: _Control | None = None
        self._changed = asyncio.Condition()
        self._notices = BackgroundTasks("phone")

    async def start(self) -> None:
        """Start the phone, or connect to it if it runs; return when it is registered.

        Raises:
            PhoneError: the phone did not start, or did not register in time.
        """
        if not self._place.running:
            (self._place.files / "recordings").mkdir(parents=True, exist_ok=True)
            if not self._source.exists():
                self.play_next(np.zeros(0, np.int16))
            await self._place.start()
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._connect()
                # REGISTER_OK may have come before the connection, so the state is queried.
                while self._registers and not await self._is_registered():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except (TimeoutError, PhoneError) as error:
            await self.stop()
            raise PhoneError(
                f"phone {self.name} did not start and register within {_START_TIMEOUT_S:.0f} s ({error}); "
                f"its log ends:\n{self._place.last_lines()}"
            ) from None

    async def stop(self) -> None:
        """End the phone and its call."""
        await self.release()
        await self._place.stop()

    async def release(self) -> None:
        """Close the control socket; the phone continues to run."""
        if self._control is not None:
            await self._control.close()
            self._control = None

    def forget(self) -> None:
        """Discard earlier events and recordings: `answered`, `ended` and `recording` refer to later ones."""
        self.events.clear()
        recordings = self._place.files / "recordings"
        shutil.rmtree(recordings, ignore_errors=True)
        recordings.mkdir(parents=True)

    def play_next(self, source: Samples | Path) -> None:
        """Choose the audio that the phone plays in its next call (samples at 8 kHz, or a WAV file)."""
        samples = read_wav(source) if isinstance(source, Path) else source
        self._source.parent.mkdir(parents=True, exist_ok=True)
        new = self._source.with_suffix(".new")
        write_wav(new, samples, silence_after_s=_SILENCE_AFTER_S)
        new.replace(self._source)

    async def call(self, number: str, play: Samples | Path | None = None) -> None:
        """Dial a number; does not wait for the answer.

        Args:
            number: the number to dial, or a SIP address.
            play: what this phone plays in the call; by default what `play_next` chose last.
        """
        self.forget()
        if play is not None:
            self.play_next(play)
        target = number if "@" in number else f"sip:{number}@{self._place.domain}"
        for left in reversed(range(_PORT_TRIES)):
            try:
                await self._command("dial", target)
                return
            except PhoneRefusal as refusal:
                if _PORT_BUSY not in str(refusal) or not left:
                    raise
            await asyncio.sleep(0.1)

    async def called(self, timeout_s: float = 30.0) -> PhoneEvent:
        """Wait for an incoming call; the event's ``peer`` is the caller.

        Raises:
            PhoneError: no call has arrived in time.
        """
        return await self._wait(("CALL_INCOMING",), timeout_s)

    async def answered(self, timeout_s: float = 30.0) -> PhoneEvent:
        """Wait until the call is answered by either side.

        Raises:
            PhoneError: the call ended, or was not answered in time.
        """
        event = await self._wait(("CALL_ESTABLISHED", "CALL_CLOSED"), timeout_s)
        if event.type == "CALL_CLOSED":
            raise PhoneError(f"phone {self.name}: the call ended before it was answered: {event.param}")
        return event

    async def ended(self, timeout_s: float = 30.0) -> PhoneEvent:
        """Wait until the call has ended; the event's ``param`` is the reason."""
        return await self._wait(("CALL_CLOSED",), timeout_s)

    async def hangup(self) -> None:
        """End the call, if there is one, and wait for its end."""
        if self.in_call:
            # The other side may be quicker: then there is nothing to end any more, and the event of that is on its way.
            with contextlib.suppress(PhoneRefusal):
                await self._command("hangup")
            await self.ended()

    @property
    def in_call(self) -> bool:
        """Whether a call has begun and not ended since `forget`."""
        for event in reversed(self.events):
            if event.type == "CALL_CLOSED":
                return False
            if event.type.startswith("CALL_"):
                return True
        return False

    async def dtmf(self, digits: str, gap_s: float = 0.12) -> None:
        """Send DTMF digits (RFC 4733 events)."""
        for digit in digits:
            await self._command("sndcode", digit)
            await asyncio.sleep(gap_s)

    async def hold(self) -> None:
        """Put the call on hold by a re-INVITE."""
        await self._command("hold")

    async def resume(self) -> None:
        """Resume the call. Audio received afterwards is not in `recording`.

        (baresip 1.1 does not attach its recorder again after a re-INVITE.)
        """
        # baresip 1.1 sends the re-INVITE and then reports "Invalid argument" nevertheless.
        with contextlib.suppress(PhoneRefusal):
            await self._command("resume")

    async def transfer(self, number: str) -> None:
        """Transfer the other party to a number (blind transfer, by REFER); does not wait for the outcome."""
        await self._command("transfer", f"sip:{number}@{self._place.domain}")

    async def command(self, name: str, parameters: str = "") -> str:
        """Run a command of baresip's menu and return its output."""
        return await self._command(name, parameters)

    async def heard(self, timeout_s: float = 30.0) -> Samples:
        """Wait for the end of the call, and return the received audio, as `recording` does.

        The PBX reports the end of a call before the phone has processed it, and has written the file.

        Raises:
            PhoneError: the call has not ended in time.
        """
        await self.ended(timeout_s)
        return self.recording()

    async def heard_until(self, condition: Callable[[Samples], object], timeout_s: float = 30.0) -> Samples:
        """Wait until the received audio satisfies a condition, in an active call or after it.

        Args:
            condition: a function of all audio received so far, 8 kHz.
            timeout_s: the limit in seconds.

        Returns:
            The audio that satisfied the condition.

        Raises:
            PhoneError: the condition was not satisfied in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not condition(heard := self.heard_so_far()):  # noqa: ASYNC110  # a file that another program writes
                    await asyncio.sleep(0.1)
                return heard
        except TimeoutError:
            seconds = len(self.heard_so_far()) / RATE
            raise PhoneError(
                f"phone {self.name}: condition not satisfied within {timeout_s:g} s, in {seconds:.1f} s of audio"
            ) from None

    def heard_so_far(self) -> Samples:
        """Return the audio that the phone has received so far: 8 kHz, empty if none has arrived."""
        try:
            data = self.recording_path().read_bytes()[_WAV_HEADER_BYTES:]
        except PhoneError:
            return np.zeros(0, np.int16)
        return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.int16)

    def recording(self) -> Samples:
        """Return the audio received in the last call, 8 kHz, without gaps in arrival. Complete after the call."""
        return read_wav(self.recording_path())

    def sent(self) -> Samples:
        """Return the audio that the phone sent in the last call, 8 kHz."""
        return read_wav(self.recording_path("enc"))

    def recording_path(self, which: str = "dec") -> Path:
        """Return the file of the last recording: ``dec`` is what was received, ``enc`` what was sent.

        Raises:
            PhoneError: no recording exists.
        """
        files = sorted(
            (self._place.files / "recordings").glob(f"dump-*-{which}.wav"), key=lambda p: p.stat().st_mtime_ns
        )
        if not files:
            raise PhoneError(f"phone {self.name} has recorded nothing")
        return files[-1]

    @property
    def _source(self) -> Path:
        return self._place.files / "source.wav"

    async def _connect(self) -> None:
        while self._control is None:
            with contextlib.suppress(OSError):
                self._control = await _Control.open(self._place.control, self._on_event)
                return
            if not self._place.running:
                raise PhoneError("its program ended")
            await asyncio.sleep(0.05)

    async def _is_registered(self) -> bool:
        return "OK" in await self._command("reginfo")

    async def _command(self, name: str, parameters: str = "") -> str:
        if self._control is None:
            raise PhoneError(f"phone {self.name} is not started")
        return await self._control.command(name, parameters)

    def _on_event(self, event: PhoneEvent) -> None:
        self.events.append(event)
        # The condition's lock is only ever held without an await in between, so a task per event is enough.
        self._notices.spawn(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _wait(self, types: tuple[str, ...], timeout_s: float) -> PhoneEvent:
        def found() -> PhoneEvent | None:
            return next((event for event in reversed(self.events) if event.type in types), None)

        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while True:
                    if (event := found()) is not None:
                        return event
                    await self._changed.wait()
        except TimeoutError:
            seen = ", ".join(event.type for event in self.events) or "nothing"
            raise PhoneError(
                f"phone {self.name}: no {' or '.join(types)} within {timeout_s:g} s; it reported {seen}"
            ) from None


class _Control:
    """The control socket of baresip's module ctrl_tcp: JSON in netstrings (``12:{...},``)."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_event: Callable[[PhoneEvent], None]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_event = on_event
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._tokens = 0
        self._broken = ""  # why no command can be sent any more
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, address: tuple[str, int], on_event: Callable[[PhoneEvent], None]) -> _Control:
        reader, writer = await asyncio.open_connection(*address)
        return cls(reader, writer, on_event)

    async def close(self) -> None:
        self._writer.close()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def command(self, name: str, parameters: str) -> str:
        """Send a command and return its output.

        Raises:
            PhoneError: baresip rejected the command, or did not respond.
        """
        if self._broken:
            raise PhoneError(self._broken)
        self._tokens += 1
        token = str(self._tokens)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        body = json.dumps({"command": name, "params": parameters, "token": token}).encode()
        self._writer.write(b"%d:%b," % (len(body), body))
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                message = await answer
        except TimeoutError:
            raise PhoneError(f"the phone does not answer '{name}'") from None
        finally:
            self._answers.pop(token, None)
        if not message.get("ok", False):
            raise PhoneRefusal(f"the phone refuses '{name} {parameters}': {message.get('data', '')}")
        return str(message.get("data", ""))

    async def _read(self) -> None:
        reason = "the phone's program ended or closed its control socket"
        try:
            while True:
                length = int((await self._reader.readuntil(b":"))[:-1])
                message = json.loads(await self._reader.readexactly(length))
                await self._reader.readexactly(1)
                if message.get("event"):
                    self._on_event(
                        PhoneEvent(message.get("type", ""), message.get("param", ""), message.get("peeruri", ""))
                    )
                elif (answer := self._answers.get(message.get("token", ""))) and not answer.done():
                    answer.set_result(message)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            reason = f"{reason}: {error}"
        finally:
            self._broken = reason
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(PhoneError(reason))


def read_wav(path: Path) -> Samples:
    """Return the samples of a WAV file with 16-bit mono audio at 8 kHz.

    Raises:
        PhoneError: the file has another format, or the call of the recording has not ended.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
                raise PhoneError(f"{path} is not 16-bit mono at {RATE} Hz")
            return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
    except (wave.Error, EOFError) as error:
        raise PhoneError(
            f"{path} is not a complete WAV file ({error}); a recording is complete when its call has ended:"
            " before, use heard_so_far()"
        ) from None


def write_wav(path: Path, samples: Samples, rate: int = RATE, silence_after_s: float = 0) -> None:
    """Write samples as a 16-bit mono WAV file, optionally followed by silence."""
    pcm = np.asarray(samples, "<i2").tobytes()
    size = len(pcm) + 2 * int(rate * silence_after_s)
    header = _WAV_HEADER.pack(
        *(b"RIFF", _WAV_HEADER.size - 8 + size, b"WAVEfmt ", 16),
        *(1, 1, rate, 2 * rate, 2, 16),  # PCM, mono, 16 bits
        *(b"data", size),
    )
    with path.open("wb") as file:
        file.write(header + pcm)
        file.truncate(len(header) + size)  # a hole in the file: long silence costs nothing
