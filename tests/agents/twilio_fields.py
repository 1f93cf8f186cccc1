"""Compare bodies of asterisk-bridge with what the instance classes of Twilio's package read.

    python -m tests.agents.twilio_fields < bodies      one JSON object a line: {"kind": "call", "body": {...}}

Fails if a class reads a field that is missing, or a value has another type than the class declares for it.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from twilio.rest.api.v2010.account.call import CallInstance
from twilio.rest.api.v2010.account.call.recording import RecordingInstance
from twilio.rest.api.v2010.account.call.stream import StreamInstance

KINDS: Mapping[str, Any] = {"call": CallInstance, "recording": RecordingInstance, "stream": StreamInstance}
TYPES: Mapping[str, Any] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "datetime": datetime,
    "Dict[str, object]": dict,
}


class Read(dict[str, Any]):
    """A body that keeps the names that were read."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__(body)
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        self.names.add(key)
        return super().get(key, default)


def declared(kind: Any) -> dict[str, str]:
    """Return the type that a class declares for each attribute that it takes from a body."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind.__init__)))
    found = {}
    for each in ast.walk(tree):
        if not isinstance(each, ast.AnnAssign) or not isinstance(each.target, ast.Attribute) or each.value is None:
            continue
        if "payload.get" in ast.unparse(each.value):
            found[each.target.attr] = ast.unparse(each.annotation).removeprefix("Optional[").removesuffix("]")
    return found


def check(name: str, body: Mapping[str, Any]) -> int:
    """Check a body, and return how many fields its class reads."""
    kind, read = KINDS[name], Read(body)
    path = {each: body[each] for each in inspect.signature(kind).parameters if each.endswith("_sid")}
    instance = kind(None, read, **path)
    assert not read.names - body.keys(), f"{name}: {sorted(read.names - body.keys())} are missing"
    types = declared(kind)
    assert len(types) == len(read.names)
    for attribute, type_name in types.items():
        value = getattr(instance, attribute)
        if type_name.startswith("'"):  # one of the values in a class within the class
            values = vars(getattr(kind, type_name.strip("'").rpartition(".")[2]))
            assert value in values.values(), f"{name}.{attribute}: {value!r} is not a {type_name}"
        elif value is not None:
            assert isinstance(value, TYPES[type_name]), f"{name}.{attribute}: {value!r} is not a {type_name}"
    return len(read.names)


if __name__ == "__main__":
    for line in sys.stdin:
        given = json.loads(line)
        print(given["kind"], check(given["kind"], given["body"]))
