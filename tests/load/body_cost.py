"""Measure what the worst request bodies cost on the loop, in which time no call gets its audio.

    python -m tests.load.body_cost

Each is as large as its route allows. The best of five runs is shown; more than 5 ms is marked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ValidationError

from bridge.access import CONFIGURATION
from bridge.api import subscriptions, yeastar
from bridge.api.bodies import USUAL, BodyLimits, parsed
from bridge.api.errors import ApiError
from bridge.api.models.calls import CreateCalls
from bridge.api.table import FLOWS
from bridge.validation import explain, sentence

MUCH_MS = 5.0


def shapes(limits: BodyLimits) -> Iterator[tuple[str, str]]:
    """Texts of the allowed size, each as hard to parse as can be."""
    size, values = limits.size - 50, limits.values - 10

    def listed(item: str, count: int) -> str:
        return '{"a":[' + ",".join([item] * count) + "]}"

    yield "lists in lists, without end", '{"a":' + "[" * size
    yield "empty strings, too many", listed('""', size // 3)
    yield "one string of commas", '{"a":"' + "," * size + '"}'
    yield "one string of escaped quotes", '{"a":"' + '\\"' * (size // 2) + '"}'
    yield "one string of escapes", '{"a":"' + "\\u00e9" * (size // 6) + '"}'
    yield "small integers", listed("0", values)
    yield "objects", listed('{"a":0}', values // 2)
    yield "long floats", listed("1" * (size // values - 3) + ".5", values)
    yield "long integers", listed("1" * min(100, size // values - 1), values)
    yield "strings", listed('"' + "x" * (size // values - 3) + '"', values)
    yield "keys", '{"a":{' + ",".join(f'"{number:x}":0' for number in range(values)) + "}}"
    yield "as deep as allowed", listed("[" * 30 + "]" * 30, values // 31)


def checks() -> Iterator[tuple[str, Callable[[], object]]]:
    """Bodies that were parsed, each as hard to check as can be."""
    keys = {f"{number:x}": 0 for number in range(190)}
    some = {f"{number:x}": 0 for number in range(20)}
    patterns = [f"a*b?[0-9]{number}" * 5 for number in range(1000)]
    called: dict[str, Any] = {"destinations": [{"target": "1"}]}
    yield "call: unknown keys", lambda: validated(CreateCalls, called | keys)
    yield "call: unknown keys of 100 destinations", lambda: validated(CreateCalls, {"destinations": [keys] * 100})
    yield (
        "call: 20 unknown keys each",
        lambda: validated(CreateCalls, {"destinations": [some] * 100}),
    )
    yield (
        "call: wrong variables",
        lambda: validated(CreateCalls, called | {"variables": dict(list(keys.items())[:100])}),
    )
    yield "call: 9000 actions", lambda: validated(CreateCalls, called | {"actions": [0] * 9000})
    yield "subscription: unknown keys", lambda: subscribed(**keys)
    yield "subscription: 1000 empty patterns", lambda: subscribed(extensions=[""] * 1000)
    yield (
        "subscription: 1000 patterns",
        lambda: subscribed(extensions=patterns),
    )
    yield "subscription: wide options", lambda: subscribed(options={f"{number:x}": 0 for number in range(1900)})
    entries = [{"subscribe_type": "did", "subscribe_id": f"{number:0100}"} for number in range(1000)]
    yield (
        "yeastar: 1000 entries",
        lambda: yeastar._updated(yeastar._initial(), {"subscribe_list": entries}, CONFIGURATION),
    )


def validated(model: type[BaseModel], body: object) -> None:
    """Check a body, and put what is wrong into words."""
    try:
        model.model_validate(body)
    except ValidationError as problem:
        sentence(explain(problem, model))


def subscribed(**more: object) -> None:
    """Make a subscription, as a request does."""
    subscriptions._made_of({"id": "a", "url": "ws://x/", "dialect": "twilio", **more}, CONFIGURATION)


def best_ms(act: Callable[[], object]) -> float:
    """Return the least time of five, in ms."""
    times = []
    for _ in range(5):
        began = time.thread_time()
        with suppress(ApiError, ValueError):
            act()
        times.append(time.thread_time() - began)
    return min(times) * 1000


def main() -> int:
    """Measure all."""
    worst = 0.0
    cases = [
        (f"{limits.size} bytes: {name}", lambda text=text, limits=limits: parsed(text, limits))
        for limits in (USUAL, FLOWS)
        for name, text in shapes(limits)
    ]
    for name, act in (*cases, *checks()):
        took = best_ms(act)
        worst = max(worst, took)
        print(f"{'!' if took > MUCH_MS else ' '} {took:6.1f} ms  {name}")
    return 0 if worst <= 2 * MUCH_MS else 1


if __name__ == "__main__":
    sys.exit(main())
