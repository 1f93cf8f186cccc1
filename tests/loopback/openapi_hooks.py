"""What schemathesis loads: in most of its requests, paths name something that exists."""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

import schemathesis

KNOWN: dict[str, dict[str, list[str]]] = json.loads(os.environ.get("KNOWN_IDS", "{}"))


@schemathesis.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: dict[str, Any] | None) -> Any:
    """Replace three of four values with known ones; the value itself decides, therefore runs can be repeated."""
    if not path_parameters or context.operation is None:
        return path_parameters
    for beginning, known in KNOWN.items():
        if context.operation.path.startswith(beginning):
            for name, values in known.items():
                number = zlib.crc32(str(path_parameters.get(name)).encode("utf-8", "surrogatepass"))
                if name in path_parameters and number % 4:
                    path_parameters[name] = values[number // 4 % len(values)]
    return path_parameters
