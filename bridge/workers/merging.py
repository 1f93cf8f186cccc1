"""Joins the responses of several workers to one request. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bridge.api.metrics import PREFIX
from bridge.api.paging import token_of

JsonObject = dict[str, Any]


def lists(bodies: Iterable[Mapping[str, Any]]) -> JsonObject:
    """Concatenate lists without pages."""
    return {"result": [entry for body in bodies for entry in body["result"]]}


def pages(bodies: Sequence[Mapping[str, Any]], key: str, size: int) -> JsonObject:
    """Join the same page of lists without common entries to a page of one list, greatest first.

    Args:
        bodies: the responses.
        key: the time of an entry that determines its position.
        size: the largest number of entries on a page.
    """
    entries = sorted(lists(bodies)["result"], key=lambda entry: (entry.get(key, ""), entry["id"]), reverse=True)
    page = entries[:size]
    more = len(entries) > size or any(body["next_page_token"] for body in bodies)
    token = token_of((page[-1].get(key, ""), page[-1]["id"])) if more and page else ""
    return {"result": page, "next_page_token": token}


def count_streams(calls: Iterable[JsonObject], streams: Iterable[Mapping[str, Any]]) -> None:
    """Set how many streams calls have, on any worker."""
    counts = Counter(str(stream["call_id"]) for stream in streams)
    for call in calls:
        call["streams"] = counts[call["id"]]


def health(bodies: Mapping[int, Mapping[str, Any]], count: int, *, detailed: bool) -> JsonObject:
    """Join health reports: healthy while one worker can serve calls; the faults list those that cannot.

    Args:
        bodies: each worker's report.
        count: how many workers should run.
        detailed: whether the client may see the reasons.
    """
    well = [number for number, body in bodies.items() if body["status"] == "ok"]
    missing = [number for number in range(1, count + 1) if number not in bodies]
    faults = [f"worker {number} does not run" for number in missing]
    for number, body in sorted(bodies.items()):
        said = body["faults"] if detailed else [fault.partition(":")[0] for fault in body["faults"]]
        faults += [f"worker {number}: {fault}" for fault in said]
    versions = [body["version"] for body in bodies.values() if "version" in body] if detailed else []
    return {
        "status": "ok" if well else "unavailable",
        **({"version": versions[0]} if versions else {}),
        "ari": "connected" if any(body["ari"] == "connected" for body in bodies.values()) else "disconnected",
        "audiosocket": "listening" if any(body["audiosocket"] == "listening" for body in bodies.values()) else "closed",
        "accepting": any(body["accepting"] for body in bodies.values()),
        "faults": faults,
    }


def metrics(texts: Mapping[int, str], restarts: Mapping[int, int], dropped: int = 0) -> str:
    """Join the Prometheus metrics of all workers: each sample with the label ``worker``, grouped by name.

    Args:
        texts: the metrics of each worker.
        restarts: how often each worker was restarted.
        dropped: messages from workers that the supervisor has dropped.
    """
    kinds: dict[str, str] = {}
    samples: dict[str, list[str]] = {}
    for number, text in sorted(texts.items()):
        for line in text.splitlines():
            kind = re.fullmatch(r"# TYPE (\S+) (\S+)", line)
            sample = re.fullmatch(r"([^\s{]+)(?:\{(.*)\})? (\S+)", line)
            if kind:
                kinds.setdefault(kind[1], kind[2])
            elif sample:
                labels = ",".join(filter(None, [f'worker="{number}"', sample[2]]))
                samples.setdefault(_family(sample[1], kinds), []).append(f"{sample[1]}{{{labels}}} {sample[3]}")
    name = f"{PREFIX}worker_restarts_total"
    kinds[name] = "counter"
    samples[name] = [f'{name}{{worker="{number}"}} {times}' for number, times in sorted(restarts.items())]
    name = f"{PREFIX}worker_messages_dropped_total"
    kinds.setdefault(name, "counter")
    samples.setdefault(name, []).append(f'{name}{{worker="supervisor"}} {dropped}')
    lines = [line for name, kind in kinds.items() for line in (f"# TYPE {name} {kind}", *samples.get(name, ()))]
    return "\n".join(lines) + "\n"


def _family(name: str, kinds: Mapping[str, str]) -> str:
    """Return the metric of a sample: those of a histogram have names of their own."""
    for end in ("_bucket", "_sum", "_count"):
        family = name.removesuffix(end)
        if family != name and kinds.get(family) == "histogram":
            return family
    return name
