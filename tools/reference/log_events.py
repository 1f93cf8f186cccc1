"""Log events, from the calls of loggers in the product."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PRODUCT = Path(__file__).parents[2] / "bridge"
LEVELS = {"info": "info", "warning": "warning", "error": "error", "exception": "error", "critical": "critical"}
ORDER = ("critical", "error", "warning", "info")


def table() -> str:
    """Return the messages of level info and above, the most severe first."""
    found = {
        (level, message)
        for file in PRODUCT.rglob("*.py")
        if "testing" not in file.parts
        for level, message in _in(file)
    }
    rows = ["| level | event and fields |", "|---|---|"]
    for level, message in sorted(found, key=lambda each: (ORDER.index(each[0]), each[1].lower())):
        rows.append(f"| {level} | `{message.replace('|', chr(92) + '|')}` |")
    return "\n".join(rows)


def _in(file: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        receiver = ast.unparse(node.func.value)
        if "log" in receiver.lower() and node.args:
            message = node.args[0]
            if isinstance(message, ast.Constant) and isinstance(message.value, str):
                yield LEVELS[node.func.attr], message.value


if __name__ == "__main__":
    print(table())
