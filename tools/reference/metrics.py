"""Metrics: their names and kinds from what `/metrics` returns, their meaning from the code's docstrings."""

from __future__ import annotations

import asyncio
import inspect
import re

from bridge.api.field_docs import docs_of_module
from bridge.api.metrics import PREFIX
from bridge.audit.log import AuditLog
from bridge.cluster.cluster import Cluster
from tools.reference.http import served

MEANINGS = {
    "build_info": "1; its label `version` is that of asterisk-bridge",
    "up": "1 while `/health` returns 200",
    "ari_connected": "1 while ARI is connected and its calls are known",
    "audiosocket_listening": "1 while the AudioSocket port is open",
    "accepting": "1 while new calls and streams may start",
    "calls": "calls of the PBX now",
    "streams": "streams that are open now",
    "loop_busy_ratio": "part of the last second in which the event loop was busy, 0 to 1",
    "ari_events_undecodable_total": "events of Asterisk that could not be decoded; the log has them",
    "audit_lines_total": "lines of the audit log",
    "audit_lines_missing_total": "lines of the audit log that could not be kept",
    "cluster_store_reachable": "0: this instance starts nothing that needs a claim",
    "cluster_nodes": "instances in the cluster's directory",
    "cluster_claims_held": "streams of subscriptions that this instance has claimed",
    "cluster_claims_waiting": "claims of others that this instance would take over",
    "cluster_claims_granted_total": "claims that this instance was granted",
    "cluster_claims_lost_total": "streams ended because the store did not answer in time, or gave the claim to another",
    "frames_from_asterisk_total": "frames received from Asterisk: 50 a second for each media leg while audio flows",
    "streams_opened_total": "streams whose audio began to flow",
    "messages_from_application_total": "WebSocket messages received from applications",
    "messages_to_application_total": "WebSocket messages sent to applications",
    "worker_restarts_total": "workers that died and were started again",
    "loop_lag_seconds": "lateness of a timer that runs ten times a second: what every frame waits at that moment",
}
"""Of metrics that are not fields of `Counters`, or fields without a docstring."""


def tables() -> str:
    """Return all metrics, gauges before counters and histograms."""
    text = asyncio.run(served("GET", "/metrics"))
    kinds = dict(re.findall(rf"# TYPE {PREFIX}(\w+) (\w+)", text))
    for part in (Cluster, AuditLog):
        source = inspect.getsource(part)
        kinds |= dict.fromkeys(
            re.findall(r'"(cluster_\w+)": ', source.partition("def gauges")[2].partition("def ")[0]), "gauge"
        )
        totals = re.findall(r'"(\w+)": ', source.partition("def totals")[2].partition("def ")[0])
        kinds |= {f"{name}_total": "counter" for name in totals}
    kinds["worker_restarts_total"] = "counter"
    docs = docs_of_module("bridge.media.counters")["Counters"]
    rows = ["| metric | kind | meaning |", "|---|---|---|"]
    order = {"gauge": 0, "counter": 1, "histogram": 2}
    for name, kind in sorted(kinds.items(), key=lambda each: (order[each[1]], each[0])):
        field = name.removesuffix("_total")
        meaning = MEANINGS.get(name) or docs.get(field)
        if meaning is None:
            meaning = docs[field.removesuffix("_seconds") + "_ms"].replace("milliseconds", "seconds")
        text = " ".join(meaning.replace("``", "`").split()).rstrip(".")
        rows.append(f"| `{name}` | {kind} | {text[0].upper()}{text[1:]} |")
    return "\n".join(rows)
