"""The victim: a bridge in a process of its own with a call in progress, and everything that watches it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bridge.testing.lab_engine import Lab, free_port, free_port_block
from tests.attack import observer, witness
from tests.attack.attacks.table import Attack
from tests.attack.clock import FRAME_S
from tests.attack.phone_call import PhoneCall
from tests.attack.target import DIALECTS, HOST, VICTIM, Target, frame, outside_address, uuid_message, uuid_of
from tests.attack.verdict import Evidence, Probe, Verdict, judge
from tests.lab.workers import toml

ROOT = Path(__file__).resolve().parents[2]
NUMBER = "750"
"""What a phone of the lab dials to be connected with the echo application."""
START_S = 120.0
LOADED = "preloading done"
"""What each process of the bridge that carries calls logs, once."""
END_S = 10.0
"""How long the bridge may take to end: after that Docker would kill it."""
OPEN_S = 3.0
"""How long a new stream may take to carry audio."""
RETURN_S = 8.0
"""How long the bridge may take to return memory."""
PROBE_EVERY_S = 0.25
PROBE_PATIENCE_S = 5.0


class Helper:
    """A measuring process that answers a line of input with a line of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, module: str, *arguments: object) -> Helper:
        """Start ``python -m tests.attack.MODULE``."""
        command = (sys.executable, "-m", f"tests.attack.{module}", *map(str, arguments))
        return cls(
            await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26
            )
        )

    async def line(self) -> Any:
        """Return what it prints next."""
        assert self._process.stdout
        return json.loads(await asyncio.wait_for(self._process.stdout.readline(), START_S))

    async def ask(self) -> Any:
        """Return everything that it has recorded since the last time."""
        assert self._process.stdin
        self._process.stdin.write(b"\n")
        return await self.line()

    async def stop(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class Victim:
    """One bridge and its call.

    Args:
        lab: the Asterisk that it belongs to.
        folder: where its configuration and its log are.
        workers: how many processes it is.
    """

    def __init__(self, lab: Lab, folder: Path, workers: int) -> None:
        self.workers = workers
        self._lab = lab
        self._folder = folder
        self._log = folder / f"bridge-{secrets.token_hex(4)}.log"
        self._token = secrets.token_hex(16)
        self._http_port, self._application_port = free_port(), free_port()
        self._audiosocket_port = free_port_block(workers)
        self._bridge: subprocess.Popen[bytes] | None = None
        self._pids: list[int] = []
        self._helpers: list[Helper] = []
        self._stack = contextlib.AsyncExitStack()

    @property
    def whole(self) -> bool:
        """Whether all processes of the bridge are those that were started."""
        return (
            bool(self._pids) and self._bridge is not None and self._bridge.poll() is None and self._pids == self._now()
        )

    @property
    def loaded(self) -> int:
        """How many processes of the bridge have loaded what a start leaves for later."""
        return self._log.read_text(errors="replace").count(LOADED)

    async def start(self) -> None:
        """Start the bridge, the echo application, the call and what watches them."""
        self._echo = await self._helper("echo")
        file = self._folder / "bridge.toml"
        file.write_text(toml(self._configuration(await self._echo.line())))
        file.chmod(0o600)
        self._bridge = self._run(file)
        async with asyncio.timeout(START_S):
            while not await self._started():
                assert self._bridge.poll() is None, f"the bridge did not start:\n{self._log.read_text()[-3000:]}"
                await asyncio.sleep(0.1)
        self._pids = self._now()
        self._observer = await self._helper("observer", self._audiosocket_port, uuid_of(VICTIM))
        self._witness = await self._helper("witness", *self._pids)
        self._conference = f"attack-{secrets.token_hex(4)}"
        target = self._target(1)
        body = json.dumps({"id": self._conference}).encode()
        status = await asyncio.to_thread(target.ask, target.post("/v1.0/conferences", body))
        assert status in (200, 201), f"no conference could be made: {status}"
        async with asyncio.timeout(START_S):
            while not any(number > 0 for _, number in (await self._observer.ask())["received"]):
                await asyncio.sleep(0.2)

    async def stop(self) -> float:
        """End everything; return how many seconds SIGTERM took to end the bridge, or `END_S` if it had to be killed."""
        took = 0.0
        if self._bridge is not None and self._bridge.poll() is None:
            took = await self._terminate()
        for helper in self._helpers:
            await helper.stop()
        self._helpers.clear()
        self._pids.clear()
        if self._bridge is not None:
            await asyncio.to_thread(self._reader.wait)
            self._bridge = None
        return took

    async def under(self, attack: Attack) -> Verdict:
        """Return what an attack does to the call."""
        phone = PhoneCall(self._lab, NUMBER, attack.seconds) if attack.phone else None
        if phone is not None:
            await phone.begin()
        try:
            evidence = await self._measure(attack)
        finally:
            if phone is not None:
                heard = await phone.end()
        if phone is not None:
            evidence.faults += phone.judge(heard)
        return judge(evidence)

    async def ends_under(self, attack: Attack) -> float:
        """Return how many seconds SIGTERM takes to end the bridge while an attack runs; the bridge is gone then."""
        attacker = await self._attacker(attack)
        try:
            await asyncio.sleep(min(1.5, attack.seconds / 2))
            return await self.stop()
        finally:
            await _end(attacker)

    async def _measure(self, attack: Attack) -> Evidence:
        logged = self._log.stat().st_size
        lag = await self._lag()
        for helper in (self._observer, self._witness, self._echo):
            await helper.ask()
        before = witness.resident(self._pids)
        began = time.monotonic()
        probes: list[Probe] = []
        probing = asyncio.create_task(self._probe_often(probes))
        attacker = await self._attacker(attack)
        faults: list[str] = []
        try:
            await asyncio.sleep(attack.seconds / 2)
            faults += await self._new_call()
            did, failure = await _outcome(attacker, attack)
            faults += failure
        finally:
            await _end(attacker)
            probing.cancel()
            await asyncio.wait([probing])
        await asyncio.sleep(0.2)
        ended = time.monotonic()
        call = await self._observer.ask()
        seen = await self._witness.ask()
        after = await self._returned(before, attack.kept_mb << 20)
        faults += await self._new_stream()
        if not self.whole:
            faults.append(f"processes of the bridge have ended: {set(self._pids) - set(self._now())}")
        with self._log.open("rb") as log:
            log.seek(logged)
            if traceback := re.search(r"^Traceback.*?^\w[^\n]*$", log.read().decode(errors="replace"), re.M | re.S):
                faults.append(f"in the log: {traceback[0][-300:]}")
        return Evidence(
            began=began,
            ended=ended,
            call=call,
            witness=seen,
            application_late=await self._echo.ask(),
            probes=probes,
            memory_before=before,
            memory_after=after,
            max_kept_bytes=attack.kept_mb << 20,
            lag_s=_lag_since(lag, await self._lag()),
            did=did,
            faults=faults,
        )

    async def _attacker(self, attack: Attack) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.attack.attacker", attack.name),
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin
        process.stdin.write(self._target(attack.seconds, outside_address()).to_json().encode() + b"\n")
        return process

    async def _new_call(self) -> list[str]:
        """Check whether a new call gets its audio during the attack."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(OPEN_S):
                reader, writer = await asyncio.open_connection(HOST, self._audiosocket_port)
                writer.write(uuid_message(uuid_of(VICTIM)))
                try:
                    number = 0
                    while True:
                        number += 1
                        audio = observer.frame_of(number)
                        writer.write(bytes((observer.SLIN,)) + len(audio).to_bytes(2, "big") + audio)
                        header = await reader.readexactly(3)
                        payload = await reader.readexactly(int.from_bytes(header[1:], "big"))
                        if header[0] == observer.SLIN and observer.number_of(payload) > 0:
                            return []
                        await asyncio.sleep(FRAME_S / 2)
                finally:
                    writer.close()
        except (OSError, EOFError, TimeoutError) as error:
            return [f"a new call had no audio after {time.monotonic() - began:.2f} s: {error or 'nothing came'}"]

    async def _new_stream(self) -> list[str]:
        """Check whether a client can open a stream over HTTP right after the attack."""
        began = time.monotonic()
        problem: object = "nothing came"

        def frames() -> bool:
            with self._target(OPEN_S).websocket() as stream:
                received = 0
                while received < 3200:
                    stream.send(frame(0x2, bytes(320)))
                    data = stream.recv(4096)
                    if not data:
                        return False
                    received += len(data)
            return True

        while time.monotonic() - began < OPEN_S:
            try:
                if await asyncio.to_thread(frames):
                    return []
            except OSError as error:
                problem = error
            await asyncio.sleep(0.1)
        return [f"no stream could be opened within {OPEN_S:g} s: {problem}"]

    async def _returned(self, before: int, max_kept_bytes: int) -> int:
        """Return resident memory, in bytes, once it is near its earlier value or had the time to return to it."""
        until = time.monotonic() + RETURN_S
        while (now := witness.resident(self._pids)) - before >= max_kept_bytes and time.monotonic() < until:
            await asyncio.sleep(0.1)
        return now

    async def _probe_often(self, probes: list[Probe]) -> None:
        while True:
            probe = asyncio.create_task(self._probe())
            try:
                probes.append(await asyncio.shield(probe))
            except asyncio.CancelledError:
                probes.append(await probe)
                return
            await asyncio.sleep(PROBE_EVERY_S)

    async def _started(self) -> bool:
        """Return whether all processes serve, and have loaded what a start leaves for later: it is 20 MB."""
        serve = (await self._probe()).status == 200 and len(self._now()) >= self._expected
        return serve and self.loaded >= self.workers

    async def _probe(self) -> Probe:
        began = time.monotonic()
        status = 0
        with contextlib.suppress(OSError, TimeoutError, ValueError, IndexError):
            async with asyncio.timeout(PROBE_PATIENCE_S):
                reader, writer = await asyncio.open_connection(HOST, self._http_port)
                try:
                    writer.write(f"GET /health HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
                    status = int((await reader.readline()).split()[1])
                finally:
                    writer.close()
        return Probe(began, time.monotonic() - began, status)

    async def _lag(self) -> dict[float, float]:
        """Return the bridge's own histogram of loop lag: upper bound in s to cumulative count; empty: none."""
        target = self._target(PROBE_PATIENCE_S)

        def text() -> str:
            with contextlib.suppress(OSError), target.connect() as connection:
                connection.sendall(target.head("GET", "/metrics", "Connection: close"))
                with connection.makefile() as answer:
                    return answer.read()
            return ""

        found = re.findall(r'loop_lag_seconds_bucket\{.*?le="([^"]+)".*?\} (\d+)', await asyncio.to_thread(text))
        return {float(bound): float(count) for bound, count in found}

    def _run(self, configuration: Path) -> subprocess.Popen[bytes]:
        """Start the bridge. Its output goes into a pipe, as under Docker and systemd."""
        with self._log.open("ab") as log:
            self._reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        assert self._reader.stdin
        with self._reader.stdin as pipe:
            return subprocess.Popen(
                [sys.executable, "-m", "bridge", "serve", "--config", str(configuration)],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith("ASTERISK_BRIDGE_")},
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
            )

    async def _terminate(self) -> float:
        assert self._bridge is not None
        began = time.monotonic()
        self._bridge.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self._bridge.wait, END_S)
        except subprocess.TimeoutExpired:
            for pid in {*self._now(), self._bridge.pid}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(self._bridge.wait)
        return time.monotonic() - began

    async def _helper(self, module: str, *arguments: object) -> Helper:
        helper = await Helper.start(module, *arguments)
        self._helpers.append(helper)
        return helper

    @property
    def _expected(self) -> int:
        return 1 if self.workers == 1 else self.workers + 1

    def _now(self) -> list[int]:
        """Return the bridge's processes: first the one that carries the call, which is the first worker."""
        if self._bridge is None:
            return []
        main = self._bridge.pid
        try:
            children = [int(pid) for pid in Path(f"/proc/{main}/task/{main}/children").read_text().split()]
        except OSError:
            return []
        return [main] if self.workers == 1 else [*children, main]  # in the order in which they were started

    def _target(self, seconds: float, source: str = HOST) -> Target:
        return Target(
            source=source,
            http_port=self._http_port,
            audiosocket_port=self._audiosocket_port,
            application_port=self._application_port,
            token=self._token,
            conference=getattr(self, "_conference", ""),
            seconds=seconds,
        )

    def _configuration(self, echo_port: int) -> dict[str, Any]:
        lab = self._lab
        samples = {"dialect": "voipbin", "options.encapsulation": "sln"}  # a dotted key of TOML
        echo = {"url": f"ws://{HOST}:{echo_port}/", **samples}
        attacker = {"url": f"ws://{HOST}:{self._application_port}/"}
        routes = [{"id": "echo", "match": f"uuid:{VICTIM}*", **echo}, {"id": "phone", "match": NUMBER, **echo}]
        for dialect, digits in DIALECTS.items():
            spoken = samples if dialect == "voipbin" else {"dialect": dialect}
            routes.append({"id": f"to-{dialect}", "match": f"uuid:{digits}*", **spoken, **attacker})
        return {
            "http": {"port": self._http_port, "tokens": [self._token]},
            "audiosocket": {"bind_port": self._audiosocket_port},
            "ari": {"url": lab.ari_url, "user": lab.ari_user, "password": lab.ari_password, "app": lab.ari_app},
            "streams": {"state_file": ":memory:"},
            "calling": {"tel_endpoint": "Local/{number}@from-internal/n", "caller_id": "4711", "context": "media-tap"},
            "outbound": {"allow": [f"{HOST}/32"]},  # the attacker's flow server
            "workers": {"count": self.workers},
            "dialplan": routes,
        }


async def _outcome(attacker: asyncio.subprocess.Process, attack: Attack) -> tuple[int, list[str]]:
    """Return how many things an attack did, and why it does not count as one."""
    try:
        out, error = await asyncio.wait_for(attacker.communicate(), attack.seconds + 10)
    except TimeoutError:
        return 0, ["the attack did not end"]
    if attacker.returncode:
        return 0, [f"the attack failed: {error.decode(errors='replace')[-600:]}"]
    did = int(out)
    return did, [] if did >= attack.least else [f"the attack did {did} things: expected at least {attack.least}"]


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def _lag_since(before: dict[float, float], now: dict[float, float]) -> float | None:
    """Upper bound of the longest lag since, in seconds; None: there is no histogram."""
    if not before or not now:
        return None
    total = now[float("inf")] - before[float("inf")]
    return min(bound for bound in now if now[bound] - before[bound] == total)
