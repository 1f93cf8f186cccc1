"""``python -m bridge.testing.lab``: an Asterisk with softphones on free ports, until Ctrl-C.

For programs that need a lab of their own beside ``./lab up``. Addresses and secrets are printed as shell variables.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shlex
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bridge.testing.embedded import EmbeddedLab, settings_with_free_ports
from bridge.testing.lab_engine import PHONES, Lab


def variables(lab: Lab) -> dict[str, str]:
    """Return the addresses and secrets of a lab, by the names under which ``./lab env`` prints them."""
    return {
        "LAB_ARI_URL": lab.ari_url,
        "LAB_ARI_USER": lab.ari_user,
        "LAB_ARI_PASSWORD": lab.ari_password,
        "LAB_ARI_APP": lab.ari_app,
        "LAB_AUDIOSOCKET_HOST": lab.audiosocket_host,
        "LAB_AUDIOSOCKET_BIND": lab.audiosocket_bind,
        "LAB_AUDIOSOCKET_PORT": str(lab.audiosocket_port),
        "LAB_SPEECH_COMMAND": shlex.join(lab.speech_command),
        "LAB_LOGS": str(lab.logs),
    }


async def run(arguments: argparse.Namespace) -> None:
    """Start the lab, print its variables and wait for a signal."""
    settings = settings_with_free_ports()
    if arguments.http_port:
        settings = replace(settings, http_port=arguments.http_port)
    if arguments.audiosocket_port:
        settings = replace(settings, audiosocket_port=arguments.audiosocket_port)
    if arguments.password:
        settings = replace(settings, ari_password=arguments.password)
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-lab-")))
        lab = EmbeddedLab(folder, settings, progress=lambda text: print(text, file=sys.stderr, flush=True))
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        try:
            await lab.start()
            for name in arguments.phones:
                await lab.phone(name).start()
            for key, value in variables(lab).items():
                print(f"export {key}={shlex.quote(value)}", flush=True)
            print("# up; Ctrl-C ends it", flush=True)
            await ended.wait()
        finally:
            await lab.stop()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bridge.testing.lab", description=__doc__)
    parser.add_argument("--folder", type=Path, help="configuration, logs, recordings (default: a temporary folder)")
    parser.add_argument("--http-port", type=int, help="port of ARI (default: a free one)")
    parser.add_argument(
        "--audiosocket-port", type=int, help="port at which the dialplan dials asterisk-bridge (default: a free one)"
    )
    parser.add_argument("--password", help="password of the ARI user (default: a fresh one)")
    parser.add_argument(
        "--phones", nargs="*", choices=PHONES, default=list(PHONES[:3]), metavar="NAME", help="phones to start"
    )
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
