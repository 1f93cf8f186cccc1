"""The doctor's checks of the cluster's store."""

from __future__ import annotations

import asyncio
import json
import time

from bridge.cluster.scripts import HOLD
from bridge.cluster.store import ClusterStore, StoreUnavailable
from bridge.config import Config
from bridge.doctor.report import Report
from bridge.errors import ConfigError

NAME = "store"
TRIES = 10


async def check(report: Report, config: Config) -> None:
    """Check that the store responds in time, supports claims and evicts no keys; list the other nodes."""
    cluster = config.cluster
    if not cluster.enabled:
        return
    if cluster.readable_on_the_way:
        report.warn(
            NAME,
            f"{cluster.display_url} is reached without TLS: anyone on the network path can read the password and the"
            " numbers, and take over what subscriptions start",
            "use rediss:// (cluster.ca_file for a private authority), or a tunnel that ends on loopback",
        )
    timeout_s = cluster.claim_ttl_s / 6
    try:
        store = ClusterStore(cluster, timeout_s)
    except (ConfigError, OSError, ValueError) as error:
        report.fail(NAME, str(error), "correct this key of the configuration")
        return
    try:
        await _check(report, config, store, timeout_s)
    except StoreUnavailable as error:
        report.fail(
            NAME,
            str(error),
            "check that it runs, cluster.store and cluster.password are right, and no firewall blocks it; until it"
            " responds, subscriptions start no streams",
        )
    finally:
        await store.close()


async def _check(report: Report, config: Config, store: ClusterStore, timeout_s: float) -> None:
    cluster = config.cluster
    probe = f"{cluster.prefix}:doctor"
    worst = 0.0
    for _ in range(TRIES):
        began = time.monotonic()
        await store.ask([("EVAL", HOLD, 1, f"{probe}:claim", f"{probe}:lease", 1000, 1000, f"{probe}:lease/1")])
        worst = max(worst, time.monotonic() - began)
        await asyncio.sleep(0.02)
    await store.ask([("DEL", f"{probe}:claim", f"{probe}:lease")])
    text = f"{store.display_url} accepts claims; slowest response of {TRIES} {worst * 1000:.1f} ms"
    if worst > timeout_s / 4:
        report.warn(NAME, text, f"it must always respond within {timeout_s:.1f} s (cluster.claim_ttl_s / 6)")
    else:
        report.ok(NAME, text)
    (memory,) = await store.ask([("INFO", "memory")])
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        report.warn(
            NAME,
            f"it evicts keys when its memory is full ({policy})",
            "set maxmemory-policy noeviction: an evicted claim briefly makes two nodes stream a call",
        )
    await _check_nodes(report, config, store)


async def _check_nodes(report: Report, config: Config, store: ClusterStore) -> None:
    cluster = config.cluster
    node, pbx = cluster.node_name(config.ari), cluster.pbx_name(config.ari)
    (names,) = await store.ask([("SMEMBERS", f"{cluster.prefix}:nodes")])
    told = (
        (await store.ask([("MGET", *(f"{cluster.prefix}:node:{name}" for name in sorted(names)))]))[0] if names else []
    )
    there = [f"{name} ({json.loads(text)['pbx']})" for name, text in zip(sorted(names), told, strict=True) if text]
    report.ok("cluster", f"this is {node}, for {pbx}; active nodes: {', '.join(there) or 'none'}")
