"""The import direction: a lower layer never imports a higher one, and the pure parts import no clock and no network.

The layers are those of the design, highest first. A module may import from its own layer and from lower ones.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = (
    ("bridge.__main__", "bridge.cli"),
    ("bridge.workers",),
    ("bridge.app.application", "bridge.doctor", "bridge.trial"),
    ("bridge.app",),
    ("bridge.api",),
    ("bridge.flows",),
    ("bridge.streams", "bridge.cluster"),
    ("bridge.agent_tools",),
    ("bridge.conferences",),
    ("bridge.control",),
    ("bridge.taps",),
    ("bridge.calls",),
    ("bridge.ari",),
    ("bridge.media",),
    ("bridge.dialects", "bridge.speech", "bridge.events"),
    ("bridge.audio",),
    ("bridge.logs", "bridge.audit", "bridge.tasks"),
    ("bridge.config",),
    ("bridge.files", "bridge.outbound", "bridge.tls"),
    ("bridge.errors",),
    (
        "bridge.access",
        "bridge.json_schema",
        "bridge.json_shape",
        "bridge.masking",
        "bridge.patterns",
        "bridge.templates",
        "bridge.texts",
        "bridge.times",
        "bridge.validation",
    ),
)
RANK = {prefix: len(LAYERS) - number for number, layer in enumerate(LAYERS) for prefix in layer} | {
    "bridge": 0,
    "bridge._version": 0,
}

APART = "bridge.testing"  # for users' tests and the project's; the product does not import it

PURE = (
    "bridge.audio",
    "bridge.dialects",
    "bridge.calls.call_record",
    "bridge.calls.model",
    "bridge.errors",
    "bridge.access",
    "bridge.json_schema",
    "bridge.json_shape",
    "bridge.patterns",
    "bridge.masking",
    "bridge.texts",
    "bridge.times",
    "bridge.validation",
    "bridge.audit.line",
    "bridge.audit.rejections",
    "bridge.audit.actions",
)
IMPURE_LIBRARIES = {
    *("aiohttp", "asyncio", "logging", "multiprocessing", "picows", "requests", "select", "selectors", "signal"),
    *("socket", "ssl", "subprocess", "threading", "time", "urllib", "websockets"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((ROOT / "bridge").rglob("*.py"))}


def imports(name: str, source: str, is_package: bool) -> Iterator[str]:
    """Return every module that ``source`` imports, anywhere in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".") if is_package else name.split(".")[:-1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, *filter(None, [node.module])])
            yield base
            # "from bridge.audio import rtp" names a module, "from bridge.audio.rtp import parse" does not.
            yield from (f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in FILES)


def imports_of(name: str) -> set[str]:
    path = FILES[name]
    return set(imports(name, path.read_text(), path.name == "__init__.py"))


def rank(name: str) -> int:
    prefix = name
    while prefix not in RANK:
        prefix = prefix.rpartition(".")[0]
        if not prefix or prefix == "bridge":
            raise LookupError(f"{name} is in no layer: give it a place in LAYERS, and in the design")
    return RANK[prefix]


def is_apart(name: str) -> bool:
    return name == APART or name.startswith(f"{APART}.")


def wrong_imports(name: str, imported: set[str]) -> list[str]:
    """Return errors about what a module may not import."""
    found = []
    for other in sorted(imported):
        if other.split(".")[0] != "bridge":
            continue
        if is_apart(other):
            found.append(f"{name} imports {other}: only tests and the lab may")
        elif rank(other) > rank(name):
            found.append(f"{name} imports {other}, which lies above it")
    return found


@pytest.mark.parametrize("name", [name for name in FILES if not is_apart(name)])
def test_imports_go_down_only(name: str) -> None:
    assert wrong_imports(name, imports_of(name)) == []


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return groups of modules that import each other, directly or through others (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        waiting.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in waiting:
                lowest[name] = min(lowest[name], index[other])
        if lowest[name] == index[name]:
            group = waiting[waiting.index(name) :]
            del waiting[waiting.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_no_import_circles() -> None:
    """Imports for type checkers and inside functions count as well."""
    assert circles({name: (imports_of(name) & FILES.keys()) - {name} for name in FILES}) == []


def closure(name: str, seen: dict[str, str]) -> None:
    """Collect all modules of the bridge that importing ``name`` imports, with the module that imported each first."""
    for other in sorted(imports_of(name)):
        parts = other.split(".")
        for end in range(1, len(parts) + 1):  # a package's __init__ comes with its modules
            part = ".".join(parts[:end])
            if part in FILES and part not in seen:
                seen[part] = name
                closure(part, seen)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(PURE)])
def test_pure_parts_know_no_clock_and_no_network(name: str) -> None:
    seen = {name: name}
    closure(name, seen)
    for module, asked_by in seen.items():
        impure = {other for other in imports_of(module) if other.split(".")[0] in IMPURE_LIBRARIES}
        assert not impure, f"{name} is to be pure, but {module} (imported by {asked_by}) imports {impure}"


def test_the_check_itself_can_fail() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}) == [["b", "c"]]
    assert wrong_imports("bridge.audio.rtp", {"bridge.media.leg", "struct", "bridge.errors"}) == [
        "bridge.audio.rtp imports bridge.media.leg, which lies above it"
    ]
    assert len(wrong_imports("bridge.app.application", {"bridge.testing.lab"})) == 1
    source = "def f():\n    from ..media import leg\n    import bridge.api\n"
    assert set(imports("bridge.audio.rtp", source, False)) >= {"bridge.media", "bridge.media.leg", "bridge.api"}
    assert "time" in set(imports("bridge.audio.rtp", "if 1:\n    import time\n", False))
    with pytest.raises(LookupError, match="no layer"):
        rank("bridge.somewhere.new")
