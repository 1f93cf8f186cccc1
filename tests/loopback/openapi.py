"""Asks a bridge everything that its OpenAPI document allows, and much that it does not; schemathesis thinks it up."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HOOKS = Path(__file__).with_name("openapi_hooks.py")
SETTINGS = """
[checks]
# Whether a number can be dialed, or whether there is such a call, no schema says.
positive_data_acceptance.enabled = false

[[operations]]
# Its errors have the HTTP status 200.
include-tag = "Yeastar"
checks.negative_data_rejection.enabled = false

[[operations]]
# Its actions are checked by a parser that takes a little more than its schema says.
include-operation-id = "createCalls"
checks.negative_data_rejection.enabled = false
"""


async def examine(
    url: str,
    folder: Path,
    *,
    auth: Mapping[str, Mapping[str, str]],
    ids: Mapping[str, Mapping[str, Sequence[str]]],
    seed: int = 1,
    examples: int = 10,
    seconds: float = 240.0,
    options: Sequence[str] = (),
) -> tuple[int, str]:
    """Run schemathesis against a bridge, and return its exit code (0: nothing found) and its output.

    Args:
        url: the bridge's HTTP address.
        folder: where it may write.
        auth: credentials by security scheme, as its configuration takes them.
        ids: what exists: values of a path's parameters, by the beginning of the path.
        seed: the same one gives the same requests.
        examples: how many requests each operation gets at most, beside the systematic ones.
        seconds: how long it may take before it is given up; 20 s is usual on an idle machine.
        options: more of its command line.
    """
    lines = [SETTINGS]
    for scheme, values in auth.items():
        lines += [f"[auth.openapi.{scheme}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    config = folder / "schemathesis.toml"
    config.write_text("\n".join(lines) + "\n")
    hooks = {"SCHEMATHESIS_HOOKS": HOOKS.stem, "PYTHONPATH": str(HOOKS.parent), "KNOWN_IDS": json.dumps(ids)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color", "run"),
        *(f"{url}/openapi.json", "--seed", str(seed), "--max-examples", str(examples), "--phases", "coverage,fuzzing"),
        *("--no-shrink", "--warnings", "off", *options),
        cwd=folder,
        env=os.environ | hooks,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace")
