"""Which bridges there are, and all their calls: written by each for itself, read by whoever asks any of them.

    PREFIX:nodes                 the names of all bridges that have been
    PREFIX:node:NAME             what one says of itself; expires when it says nothing any more
    PREFIX:calls:NAME            the calls that it sees, by PBX and call id; expires with it

It is for people and programs that look; nothing is decided by it. It may be a second or two behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from bridge.calls.call import CallEnded, Change
from bridge.cluster.store import Command, Store, StoreAway
from bridge.events.hub import Event

log = logging.getLogger(__name__)

WRITE_S = 1.0
"""Between two writes: what has changed since the last one."""
ALIVE_S = 10.0
"""A bridge that has written nothing for so long is not there."""
BATCH = 500
CLOSE_S = 1.0

Facts = dict[str, Any]


class Directory:
    """This bridge's part of the directory, and all of it to read.

    Args:
        store: where it is kept; nobody else uses this connection.
        prefix: begins the names of all keys.
        node: name of this bridge.
        pbx: name of its Asterisk.
        describe: what this bridge says of itself; JSON.
        calls: what it says of its calls with these ids, or of all; JSON, with at least ``streams``. What is not there
            is over.
    """

    def __init__(
        self,
        store: Store,
        *,
        prefix: str,
        node: str,
        pbx: str,
        describe: Callable[[], Facts],
        calls: Callable[[Collection[str] | None], Mapping[str, Mapping[str, Any]]],
    ) -> None:
        self.node = node
        self.pbx = pbx
        self.alive = 0
        """How many bridges there were when we last looked."""
        self._store = store
        self._prefix = prefix
        self._describe = describe
        self._calls = calls
        self._changed: set[str] = set()
        self._written = False
        """What the store holds of ours is all that there is, but for what has changed."""
        self._doubled = False
        self._peers: tuple[str, ...] = (node,)
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write; the store may come up later."""
        self._task = asyncio.create_task(self._run(), name="cluster directory")

    async def close(self) -> None:
        """Take this bridge out of the directory."""
        if self._task is None:
            return
        self._closing = True  # a cancellation alone may be lost in the Redis client
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        with contextlib.suppress(StoreAway, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._store.ask(
                    [("DEL", self._key("node"), self._key("calls")), ("SREM", f"{self._prefix}:nodes", self.node)]
                )
        await self._store.close()

    def on_change(self, change: Change) -> None:
        """A call is different (`bridge.calls.tracker.CallTracker`)."""
        self._changed.add(change.call.id)
        if isinstance(change, CallEnded) and change.merged_into is not None:
            self._changed.add(change.merged_into)

    def on_event(self, event: Event) -> None:
        """A stream has begun or ended (`bridge.events.hub.Events`)."""
        if event.type.startswith("stream_"):
            self._changed.add(str(event.data.get("call_id", "")))

    def prefers(self, key: str) -> bool:
        """Whether a claim is to be this bridge's: shares it out evenly between those that serve the same Asterisk."""

        def weight(name: str) -> bytes:
            return hashlib.blake2b(f"{name} {key}".encode(), digest_size=8).digest()

        return max(self._peers, key=weight) == self.node

    async def nodes(self) -> list[Facts]:
        """All bridges that are there, by name.

        Raises:
            StoreAway: nobody knows.
        """
        (names,) = await self._store.ask([("SMEMBERS", f"{self._prefix}:nodes")])
        if not names:
            return []
        ordered = sorted(names)
        (told,) = await self._store.ask([("MGET", *(self._key("node", name) for name in ordered))])
        return [{"name": name, **json.loads(text)} for name, text in zip(ordered, told, strict=True) if text]

    async def calls(self, pbx: str = "", node: str = "") -> list[Facts]:
        """All calls: each once, with the bridges that see it.

        Args:
            pbx: only of this Asterisk.
            node: only those that this bridge sees.

        Raises:
            StoreAway: nobody knows.
        """
        nodes = [each for each in await self.nodes() if pbx in ("", each["pbx"]) and node in ("", each["name"])]
        if not nodes:
            return []
        found: dict[str, Facts] = {}
        answers = await self._store.ask([("HGETALL", self._key("calls", each["name"])) for each in nodes])
        for each, calls in zip(nodes, answers, strict=True):
            for identity, text in calls.items():
                _join(found, each["pbx"], identity, each["name"], json.loads(text))
        return list(found.values())

    async def find(self, identity: str) -> list[Facts]:
        """The calls that have an id: one, or none; more if several Asterisks use the same ids.

        Raises:
            StoreAway: nobody knows.
        """
        nodes = await self.nodes()
        found: dict[str, Facts] = {}
        answers = await self._store.ask([("HGET", self._key("calls", each["name"]), identity) for each in nodes])
        for each, text in zip(nodes, answers, strict=True):
            if text:
                _join(found, each["pbx"], identity, each["name"], json.loads(text))
        return list(found.values())

    async def _run(self) -> None:
        away = False
        while not self._closing:
            try:
                await self._write()
                away = False
            except StoreAway as error:
                self._written = False
                if not away:
                    log.warning("the directory of calls is not written: %s", error)
                away = True
            except Exception:
                log.exception("the directory of calls is not written: a fault of the bridge")
            await asyncio.sleep(WRITE_S)

    async def _write(self) -> None:
        changed, self._changed = self._changed - {""}, set()
        commands: list[Command] = []
        if not self._written:
            commands.append(("DEL", self._key("calls")))
        calls = self._calls(changed if self._written else None) if changed or not self._written else {}
        texts = [word for each in calls.items() for word in (each[0], json.dumps(each[1], separators=(",", ":")))]
        over = changed - set(calls)
        commands += [
            ("HSET", self._key("calls"), *texts[start : start + 2 * BATCH]) for start in range(0, len(texts), 2 * BATCH)
        ]
        commands += [("HDEL", self._key("calls"), *over)] if over else []
        lasts_ms = int(ALIVE_S * 1000)
        facts = {"pbx": self.pbx, **self._describe()}
        commands += [
            ("PEXPIRE", self._key("calls"), lasts_ms),
            ("SADD", f"{self._prefix}:nodes", self.node),
            ("GET", self._key("node")),
            ("SET", self._key("node"), json.dumps(facts), "PX", lasts_ms),
        ]
        before = (await self._store.ask(commands))[-2]
        if self._written and before is not None:
            self._check_name(json.loads(before).get("tm_start"), facts.get("tm_start"))
        # A store that has forgotten the bridge has forgotten its calls.
        self._written = before is not None or not self._written
        nodes = await self.nodes()
        self.alive = len(nodes)
        self._peers = tuple(each["name"] for each in nodes if each["pbx"] == self.pbx) or (self.node,)
        await self._tidy({each["name"] for each in nodes})

    def _check_name(self, before: str | None, ours: str | None) -> None:
        """Claims do not mind two bridges of one name; the directory shows now the one, now the other."""
        if before != ours and not self._doubled:
            log.error("another bridge calls itself %s as well: set cluster.node, another name for each", self.node)
            self._doubled = True

    async def _tidy(self, alive: set[str]) -> None:
        """Names of bridges that are gone are cleared away by those that are there."""
        (names,) = await self._store.ask([("SMEMBERS", f"{self._prefix}:nodes")])
        gone = set(names) - alive
        if gone:
            log.info("gone from the directory: %s", ", ".join(sorted(gone)))
            await self._store.ask([("SREM", f"{self._prefix}:nodes", *gone)])

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._prefix}:{kind}:{name or self.node}"


def _join(found: dict[str, Facts], pbx: str, identity: str, node: str, call: Facts) -> None:
    """Bridges of the same Asterisk see the same calls, and each has streams of its own on them."""
    there = found.setdefault(f"{pbx} {identity}", {"id": identity, "pbx": pbx, **call, "streams": 0, "nodes": []})
    there["nodes"].append(node)
    there["streams"] += call["streams"]
