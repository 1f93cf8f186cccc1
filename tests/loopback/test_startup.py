"""What a start imports, and what is loaded once calls are served. Each in an interpreter of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from functools import partial
from typing import Any

import pytest

from bridge.app import preload
from bridge.media.interpreter_tuning import SWITCH_S

APPLICATION = """
import json, sys
import bridge.cli.serve
from bridge.app.application import Application
from bridge.config import load
Application(load(None, {"ASTERISK_BRIDGE_ARI__USER": "u", "ASTERISK_BRIDGE_ARI__PASSWORD": "p"}))
"""
PRELOAD = """
from bridge.api.table import ALWAYS, CALLING
from bridge.api.routing import operation_of
from bridge.app.preload import preload
models = {model for each in map(operation_of, (*ALWAYS, *CALLING)) for model in (each.query, each.body) if model}
before = len([model for model in models if model.__pydantic_complete__])
preload()
from bridge.flows.options import Options
models |= set(Options.__subclasses__())
incomplete = [model.__name__ for model in models if not model.__pydantic_complete__]
"""


SERVING = """
import asyncio, gc, json, os, sys
gc.disable()  # as bridge.__main__ does
from bridge.app import application
class Shown(application.Application):
    def __init__(self, config):
        super().__init__(config)
        self.ended = asyncio.Event()
    def log_addresses(self):
        print(json.dumps([gc.isenabled(), gc.get_freeze_count(), sys.getswitchinterval()]))
        self.ended.set()
application.Application = Shown
os.environ |= {
    "ASTERISK_BRIDGE_ARI__URL": "http://127.0.0.1:9", "ASTERISK_BRIDGE_ARI__USER": "u",
    "ASTERISK_BRIDGE_ARI__PASSWORD": "p", "ASTERISK_BRIDGE_HTTP__PORT": "0",
    "ASTERISK_BRIDGE_HTTP__AUTHENTICATION": "false", "ASTERISK_BRIDGE_AUDIOSOCKET__BIND_PORT": "0",
    "ASTERISK_BRIDGE_STREAMS__STATE_FILE": ":memory:", "ASTERISK_BRIDGE_AUDIT__OUTPUT": "off",
}
from bridge.cli.main import main
main(["serve"])
"""


IMPORTING_THREADS = """
import asyncio, json, sys, threading
threads = set()
class Watch:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("picows", "h11") or name in ("bridge.api.table", "bridge.api.twilio"):
            threads.add(threading.current_thread() is threading.main_thread())
sys.meta_path.insert(0, Watch())
"""
DIALING = """
from bridge.media.counters import Counters
from bridge.media.destination import Destination
from bridge.media.dial import LinkFailed, dial
from bridge.outbound.gate import Gate
limits = dict(connect_timeout_s=5, max_unsent_ms=1000, ping_interval_s=20, max_message_bytes=1000)
try:
    asyncio.run(dial(Destination("ws://127.0.0.1:9/", configured=True), Counters(), gate=Gate(), **limits))
except LinkFailed:
    print(json.dumps([*threads]))
"""
ACCEPTING = """
from unittest.mock import AsyncMock, Mock
from bridge.config import load
from bridge.media.counters import Counters
from bridge.streams.media_stream_endpoint import MediaStreamEndpoint
config = load(None, {"ASTERISK_BRIDGE_ARI__USER": "u", "ASTERISK_BRIDGE_ARI__PASSWORD": "p"})
endpoint = MediaStreamEndpoint(Mock(), AsyncMock(), Counters(), config, Mock())
try:
    asyncio.run(endpoint.accept(None, None, Mock(), None, Mock(), Mock()))
except AttributeError:  # there is no request
    print(json.dumps([*threads]))
"""

REQUESTING = """
from aiohttp.test_utils import TestClient, TestServer
from bridge.api.server import build
from tests.unit.api.samples import Pbx

async def statuses():
    async with TestClient(TestServer(build(Pbx().backend(), None))) as client:
        found = []
        for path in ("/health", "/v1.0/calls", "/no/such/path"):
            async with client.get(path) as response:
                found.append(response.status)
            found.append("bridge.api.calls" in sys.modules or "bridge.api.twilio" in sys.modules)
        return found
print(json.dumps([asyncio.run(statuses()), *threads]))
"""


def ran(code: str) -> Any:
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_a_start_imports_no_part_that_no_waiting_call_needs() -> None:
    imported = ran(APPLICATION + "print(json.dumps(sorted(sys.modules)))")
    assert {"bridge.app.application", "bridge.media.pump", "aiohttp"} <= set(imported)
    later = {"numpy", "picows", "soundfile", "redis", "websockets", "bridge.cluster.cluster", "bridge.flows.actions"}
    later |= {"bridge.api.table", "bridge.api.models.calls", "bridge.api.twilio", "bridge.api.vendors", "xml"}
    assert not later & set(imported)


def test_a_start_builds_no_model_of_tables_that_the_file_does_not_have() -> None:
    show = """
from bridge.config.model import TABLES
print(json.dumps([name for name, model in TABLES.items() if model.__pydantic_complete__]))
"""
    assert ran(APPLICATION + show) == []


def test_what_serves_collects_garbage_but_not_what_the_start_created_and_threads_yield() -> None:
    enabled, frozen, switch_s = ran(SERVING)
    assert enabled, "garbage would be kept indefinitely"
    assert frozen > 10_000
    assert switch_s == pytest.approx(SWITCH_S)


@pytest.mark.parametrize("opening", [DIALING, ACCEPTING], ids=["dialing", "accepting"])
def test_a_stream_before_preloading_imports_the_websocket_library_beside_the_event_loop(opening: str) -> None:
    assert ran(IMPORTING_THREADS + opening) == [False], "the event loop imported it: calls had no audio meanwhile"


def test_the_first_request_that_is_not_a_probe_imports_the_routes_beside_the_event_loop() -> None:
    assert ran(IMPORTING_THREADS + REQUESTING) == [[200, False, 200, True, 404, True], False]


def test_preloading_builds_every_model_and_imports_what_converts_audio() -> None:
    show = "print(json.dumps([before, len(models), incomplete, 'numpy' in sys.modules]))"
    before, count, incomplete, has_numpy = ran(APPLICATION + PRELOAD + show)
    assert (before, incomplete, has_numpy) == (0, [], True)
    assert count > 40


async def test_preloading_waits_for_calls_but_not_for_an_asterisk_that_does_not_respond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[asyncio.Event] = []
    for settled, begin_after_s in (asyncio.Event(), 60.0), (asyncio.Event(), 0.01):
        monkeypatch.setattr(preload, "BEGIN_AFTER_S", begin_after_s)
        monkeypatch.setattr(preload, "preload", partial(begun.append, settled))
        monkeypatch.setattr(preload, "exempt_from_collection", lambda: None)
        preloading = asyncio.create_task(preload.preload_for_calls(settled))
        if begin_after_s == 60.0:
            await asyncio.sleep(0.1)
            assert not begun, "it would delay what connects to Asterisk"
            settled.set()
        await preloading
        assert begun.pop() is settled


def test_a_configured_flow_begins_where_nothing_has_imported_the_actions() -> None:
    begin = """
import json
from bridge.flows.action_registry import DEFINITIONS
from bridge.flows.resuming import entry_of
program = entry_of("shop")
print(json.dumps([[each.does, each.options.flow_id, each.does in DEFINITIONS] for each in program.actions]))
"""
    assert ran(begin) == [["enter_flow", "shop", True]]


def test_models_are_built_without_reading_the_metadata_of_installed_packages() -> None:
    code = "import json, sys; from bridge.__main__ import main; sys.argv[1:] = ['check']; main(); print(json.dumps("
    code += "['pydantic.plugin._schema_validator' in sys.modules, 'importlib.metadata' in sys.modules]))"
    environ = {"ASTERISK_BRIDGE_ARI__USER": "u", "ASTERISK_BRIDGE_ARI__PASSWORD": "p"}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout.splitlines()[-1]) == [True, False]


def test_check_imports_neither_the_server_nor_the_audio_path() -> None:
    code = "import json, sys; from bridge.cli.main import main; print(main(['check']), json.dumps(sorted(sys.modules)))"
    environ = {"ASTERISK_BRIDGE_ARI__USER": "u", "ASTERISK_BRIDGE_ARI__PASSWORD": "p"}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    ).stdout
    shown, _, last = output.rstrip().rpartition("\n")
    status, _, imported = last.partition(" ")
    assert "[http]" in shown
    assert status == "0"
    assert "bridge.config" in json.loads(imported)
    assert not {"aiohttp", "asyncio", "bridge.api", "numpy", "picows", "websockets"} & set(json.loads(imported))
