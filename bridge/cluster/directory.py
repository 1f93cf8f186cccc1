"""The directory of all nodes and calls: each node writes its own part, and any node can read all of it.

    PREFIX:nodes                 the names of all nodes that have existed
    PREFIX:node:NAME             what a node reports of itself; expires when it stops reporting
    PREFIX:calls:NAME            the calls that it sees, by PBX and call id; expires with it

It is for people and programs that query it; nothing is decided by it. It may be a second or two behind.
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
from bridge.cluster.store import ClusterStore, RedisCommand, StoreUnavailable
from bridge.events.hub import Event

log = logging.getLogger(__name__)

WRITE_S = 1.0
"""Interval between two writes of what has changed."""
ALIVE_S = 10.0
"""A node that has written nothing for this time is considered down."""
BATCH = 500
CLOSE_S = 1.0

Facts = dict[str, Any]


class Directory:
    """This node's part of the directory, and all of it to read.

    Args:
        store: the store; this connection is used for the directory only.
        prefix: the prefix of all keys.
        node: name of this node.
        pbx: name of its Asterisk.
        describe: returns what this node reports of itself; JSON.
        calls: returns the calls with some ids, or all; JSON, with at least ``streams``. Calls that are missing have
            ended.
    """

    def __init__(
        self,
        store: ClusterStore,
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
        """The number of nodes at the last check."""
        self._store = store
        self._prefix = prefix
        self._describe = describe
        self._calls = calls
        self._changed: set[str] = set()
        self._written = False
        """The store contains all of this node's calls, except for changes."""
        self._doubled = False
        self._peers: tuple[str, ...] = (node,)
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write; the store may become available later."""
        self._task = asyncio.create_task(self._run(), name="cluster directory")

    async def close(self) -> None:
        """Remove this node from the directory."""
        if self._task is None:
            return
        self._closing = True  # a cancellation alone may be lost in the Redis client
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._store.ask(
                    [("DEL", self._key("node"), self._key("calls")), ("SREM", f"{self._prefix}:nodes", self.node)]
                )
        await self._store.close()

    def on_change(self, change: Change) -> None:
        """Record that a call has changed (`bridge.calls.tracker.CallTracker`)."""
        self._changed.add(change.call.id)
        if isinstance(change, CallEnded) and change.merged_into is not None:
            self._changed.add(change.merged_into)

    def on_event(self, event: Event) -> None:
        """Record that a stream has started or ended (`bridge.events.hub.Events`)."""
        if event.type.startswith("stream_"):
            self._changed.add(str(event.data.get("call_id", "")))

    def prefers(self, key: str) -> bool:
        """Return whether a claim should be this node's: divides claims evenly among the nodes of one Asterisk."""

        def weight(name: str) -> bytes:
            return hashlib.blake2b(f"{name} {key}".encode(), digest_size=8).digest()

        return max(self._peers, key=weight) == self.node

    async def nodes(self) -> list[Facts]:
        """Return all active nodes, by name.

        Raises:
            StoreUnavailable: the store does not respond.
        """
        (names,) = await self._store.ask([("SMEMBERS", f"{self._prefix}:nodes")])
        if not names:
            return []
        ordered = sorted(names)
        (told,) = await self._store.ask([("MGET", *(self._key("node", name) for name in ordered))])
        return [{"name": name, **json.loads(text)} for name, text in zip(ordered, told, strict=True) if text]

    async def calls(self, pbx: str = "", node: str = "") -> list[Facts]:
        """Return all calls, each once, with the nodes that see it.

        Args:
            pbx: only calls of this Asterisk.
            node: only calls that this node sees.

        Raises:
            StoreUnavailable: the store does not respond.
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
        """Return the calls with an id: one, or none; more if several Asterisks use the same ids.

        Raises:
            StoreUnavailable: the store does not respond.
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
            except StoreUnavailable as error:
                self._written = False
                if not away:
                    log.warning("writing the directory of calls failed, trying again error=%s", error)
                away = True
            except Exception:
                log.exception("writing the directory of calls failed with an internal error")
            await asyncio.sleep(WRITE_S)

    async def _write(self) -> None:
        changed, self._changed = self._changed - {""}, set()
        commands: list[RedisCommand] = []
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
        # A store that has lost the node has lost its calls.
        self._written = before is not None or not self._written
        nodes = await self.nodes()
        self.alive = len(nodes)
        self._peers = tuple(each["name"] for each in nodes if each["pbx"] == self.pbx) or (self.node,)
        await self._tidy({each["name"] for each in nodes})

    def _check_name(self, before: str | None, ours: str | None) -> None:
        """Report a second node of the same name: claims are not affected, but the directory alternates between them."""
        if before != ours and not self._doubled:
            log.error("another node has the same name, set a different cluster.node for each node=%s", self.node)
            self._doubled = True

    async def _tidy(self, alive: set[str]) -> None:
        """Remove the names of nodes that no longer exist."""
        (names,) = await self._store.ask([("SMEMBERS", f"{self._prefix}:nodes")])
        gone = set(names) - alive
        if gone:
            log.info("nodes removed from the directory nodes=%s", ",".join(sorted(gone)))
            await self._store.ask([("SREM", f"{self._prefix}:nodes", *gone)])

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._prefix}:{kind}:{name or self.node}"


def _join(found: dict[str, Facts], pbx: str, identity: str, node: str, call: Facts) -> None:
    """Merge a node's call: nodes of one Asterisk see the same calls, and each has streams of its own on them."""
    there = found.setdefault(f"{pbx} {identity}", {"id": identity, "pbx": pbx, **call, "streams": 0, "nodes": []})
    there["nodes"].append(node)
    there["streams"] += call["streams"]
