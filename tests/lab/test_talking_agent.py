"""The talking agent of ``examples/`` answers a phone: words in, words out, with this machine's recognizer and voice."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np

from bridge.audio import wav
from bridge.audio.resample import Resampler
from bridge.testing import judge
from bridge.testing.lab_engine import Lab, free_port
from bridge.testing.peer import samples_of
from bridge.testing.phone import RATE, Samples
from bridge.testing.processes import BackgroundProgram
from tests.lab.conftest import Phones, pushing
from tests.lab.passages import heard_passages
from tests.lab.waiting import PATIENCE_S
from tools.lab import talking_agent

RECOGNIZE = """
import sys
from talking_agent import CALL_RATE, DIALOG, GREETING, NOT_UNDERSTOOD, Ear
words = lambda text: "".join(each for each in text.lower() if each.isalpha() or each == " ")
ear = Ear(sorted({words(text) for text in (*DIALOG.values(), GREETING, NOT_UNDERSTOOD)}))
print([each for each in ear.hear(sys.stdin.buffer.read() + bytes(2 * CALL_RATE)) if each is not None])
"""


async def run(command: Sequence[str], given: bytes) -> bytes:
    """Run a program in the agent's environment."""
    environ = await asyncio.to_thread(talking_agent.environment)
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**environ, "PYTHONPATH": f"{environ['PYTHONPATH']}:{talking_agent.PROGRAM.parent}"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(given)
    assert process.returncode == 0
    return output


async def spoken(lab: Lab, text: str) -> Samples:
    """Return a sentence in the voice of espeak-ng."""
    data = await run([*lab.speech_command, *talking_agent.VOICE], text.encode())
    assert wav.is_wav(data)
    return samples_of(Resampler(22050, RATE).convert(data[44:]))


async def recognized(samples: Samples) -> str:
    """Return the sentences that the recognizer finds in audio of the agent, as a list in Python."""
    output = await run([sys.executable, "-c", RECOGNIZE], samples.astype("<i2").tobytes())
    return output.decode().strip()


@contextlib.asynccontextmanager
async def agent(lab: Lab, folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """Run the example, and yield its address and its log."""
    port = free_port()
    program = BackgroundProgram("talking-agent", folder, folder / "log")
    environ = await asyncio.to_thread(talking_agent.environment)
    program.start(talking_agent.command(port, lab.speech_command), outlive_us=False, environ=environ)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                assert program.pid is not None, program.last_lines()
                await asyncio.sleep(0.1)
        yield f"ws://127.0.0.1:{port}", program.log
    except BaseException:
        print(program.log.read_text()[-5000:])  # pytest shows it with the failure
        raise
    finally:
        await program.stop()


async def test_a_phone_talks_with_the_agent_of_the_examples(lab: Lab, phones: Phones, tmp_path: Path) -> None:
    question, bye = [await spoken(lab, text) for text in ("what are your opening hours", "goodbye")]
    said = np.concatenate(
        [judge.silence(5.0, RATE), question, judge.silence(7.0, RATE), bye, judge.silence(15.0, RATE)]
    )
    async with agent(lab, tmp_path) as (url, log):
        table = {"greeting": "Hello. How can I help you?", "tools": ["hang_up"]}
        route = {"id": "agent", "match": "750", "url": url, "dialect": "openai_realtime", "then": "hangup"}
        async with pushing(lab, dialplan=[{**route, "agent": table}]):
            (alice,) = await phones("1001")
            await alice.call("750", play=said)
            await alice.answered()
            await heard_passages(alice, 1, PATIENCE_S)
            await alice.ended(40)  # the agent hangs up after its good-bye
            heard = alice.recording()
        assert log.read_text().count("caller: ") == 2
        assert "caller: what are your opening hours" in log.read_text()
        expected = ["hello how can i help you", "we are open from nine to five", "goodbye"]
        assert await recognized(heard) == str(expected)
