"""Finds every regular expression of the bridge, and inputs on which one that is not linear shows it."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from re import _parser as parser
from typing import Any

import bridge

ROOT = Path(bridge.__file__).parent
FUNCTIONS = ("match", "fullmatch", "search", "findall", "finditer", "split", "sub", "subn")
OURS = {"matching": "fullmatch"}
"""Functions of the product whose first argument is a pattern, and what they do with it."""
SIZES = (20, 200, 2000)
SUSPECT_S = 0.001
"""Reading 2000 characters once takes a few microseconds to a tenth of this, quadratic work ten times as much."""
LARGE = 4000
MAX_RATIO = 3.0
"""Of the time for twice as many characters: 2 if it is linear, 4 if it is quadratic."""
MAX_PUMPS = 60


@dataclass(frozen=True)
class Use:
    """One place where a pattern is matched."""

    where: str
    pattern: str
    flags: int
    function: str

    def __str__(self) -> str:
        return f"{self.where} {self.function} {self.pattern!r}"


class _Anything(str):
    """Stands for a value that exists only at run time: a name, and every attribute of it."""

    __slots__ = ()

    def __getattr__(self, name: str) -> _Anything:
        return self

    def __call__(self, *_: object, **__: object) -> _Anything:
        return self


class _Names(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        if hasattr(__builtins__, name) or (isinstance(__builtins__, dict) and name in __builtins__):
            raise KeyError(name)
        return _Anything("ab")


def uses(root: Path = ROOT) -> Iterator[Use]:
    """Return all uses of a pattern in the sources below ``root``: of `re`, and of results of ``re.compile``."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(root.rglob("*.py"))}
    compiled: dict[str, set[str]] = {}
    for tree in trees.values():
        for call in _calls(tree):
            if call.func.attr in FUNCTIONS and not _is_re(call.func.value):  # type: ignore[attr-defined]
                compiled.setdefault(_last(call.func.value), set()).add(call.func.attr)  # type: ignore[attr-defined]
    for path, tree in trees.items():
        module = ".".join((root.name, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
        named = {id(value): name for name, value in _assigned(tree)}
        for call in _calls(tree):
            function: str = call.func.attr  # type: ignore[attr-defined]
            if not _is_re(call.func.value) or function not in (*FUNCTIONS, "compile"):  # type: ignore[attr-defined]
                continue
            pattern = _value(call.args[0], module)
            if isinstance(pattern, bytes):  # tried as the same pattern of text
                pattern = pattern.decode("latin-1")
            flags = _flags(call, function, module)
            how: tuple[str, ...] = (function,)
            if function == "compile":
                name = named.get(id(call), "")
                how = tuple(sorted(compiled.get(name, ()))) or ("search", "fullmatch")
            for each in how:
                yield Use(f"{path.relative_to(root.parent)}:{call.lineno}", pattern, flags, each)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OURS:
                where = f"{path.relative_to(root.parent)}:{node.lineno}"
                yield Use(where, _value(node.args[0], module), 0, OURS[node.func.id])


def is_superlinear(use: Use) -> str:
    """Return an input on which matching takes more than in proportion to its length; "" if none was found."""
    match = _matcher(use)
    for make in _inputs(use.pattern, use.flags):
        if any(_cpu_s(match, make(size)) > SUSPECT_S for size in SIZES) and _grows(match, make):
            return make(8)
    return ""


def _grows(match: Callable[[str], object], make: Callable[[int], str]) -> bool:
    """Measured more closely, where the time is long enough to measure."""
    size = next(size for size in (*SIZES, LARGE) if size == LARGE or min_s(match, make(size)) > SUSPECT_S)
    once = min_s(match, make(size))
    if size == SIZES[0] or once > 1.0:  # exponential: twice as much would never end
        return True
    return once > SUSPECT_S and min_s(match, make(2 * size)) / once > MAX_RATIO


def min_s(match: Callable[[str], object], text: str) -> float:
    """CPU time of one call: the least of several, which other load on the machine does not lengthen."""
    return min(_cpu_s(match, text) for _ in range(3))


def _cpu_s(match: Callable[[str], object], text: str) -> float:
    before = time.thread_time()
    match(text)
    return time.thread_time() - before


def _matcher(use: Use) -> Callable[[str], object]:
    compiled = re.compile(use.pattern, use.flags)
    if use.function in ("sub", "subn"):
        return lambda text: compiled.sub("", text)
    if use.function == "finditer":
        return lambda text: list(compiled.finditer(text))
    method: Callable[[str], object] = getattr(compiled, use.function)
    return method


def _inputs(pattern: str, flags: int) -> Iterator[Callable[[int], str]]:
    """Texts of about n characters: a beginning that the pattern takes, something repeated, and an end it refuses."""
    tree = parser.parse(pattern, flags)
    sample = _sample(tree)
    letters = sorted({*_letters(tree), "a", " ", "\n"})
    beginnings = list(dict.fromkeys(sample[:end] for end in range(min(len(sample), 24) + 1)))
    pumps = [*letters, *beginnings[1:], *map("".join, itertools.permutations(letters, 2))][: MAX_PUMPS + len(letters)]
    for beginning, pump, end in itertools.product(beginnings, pumps, ("", "\x00", " ", "\n")):
        yield lambda n, b=beginning, p=pump, e=end: b + p * (n // len(p)) + e  # type: ignore[misc]


def _sample(tree: Any) -> str:
    """Return a short string that the pattern matches, or nearly."""
    text = ""
    for operation, argument in tree:
        name = str(operation)
        if name == "LITERAL":
            text += chr(argument)
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            text += _sample(argument[2]) * max(1, argument[0])
        elif name == "SUBPATTERN":
            text += _sample(argument[3])
        elif name == "ATOMIC_GROUP":
            text += _sample(argument)
        elif name == "BRANCH":
            text += _sample(next((each for each in argument[1] if len(each)), argument[1][0]))
        elif name in ("IN", "NOT_LITERAL", "ANY"):
            text += _one_of(operation, argument)
    return text


def _one_of(operation: Any, argument: Any) -> str:
    for code in (*map(ord, "a0A.-_ ;:/<>\"'"), *range(33, 127)):
        if _takes(operation, argument, code):
            return chr(code)
    return "a"


def _takes(operation: Any, argument: Any, code: int) -> bool:
    name = str(operation)
    if name == "ANY":
        return True
    if name == "NOT_LITERAL":
        return bool(code != argument)
    negated = bool(argument) and str(argument[0][0]) == "NEGATE"
    return negated != any(_is_in(str(kind), value, code) for kind, value in argument)


def _is_in(kind: str, value: Any, code: int) -> bool:
    if kind == "LITERAL":
        return bool(code == value)
    if kind == "RANGE":
        return bool(value[0] <= code <= value[1])
    if kind == "CATEGORY":
        letter = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}[str(value).rpartition("_")[2]]
        return (re.match(letter, chr(code)) is not None) != ("NOT" in str(value))
    return False


def _letters(tree: Any) -> Iterator[str]:
    """Return one character for each class and each literal of a pattern."""
    for operation, argument in tree:
        name = str(operation)
        if name == "LITERAL":
            yield chr(argument)
        elif name in ("IN", "NOT_LITERAL", "ANY"):
            yield _one_of(operation, argument)
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            yield from _letters(argument[2])
        elif name == "SUBPATTERN":
            yield from _letters(argument[3])
        elif name == "ATOMIC_GROUP":
            yield from _letters(argument)
        elif name == "BRANCH":
            for each in argument[1]:
                yield from _letters(each)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node


def _assigned(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _is_re(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "re"


def _last(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _value(node: ast.expr, module: str) -> Any:
    names: Mapping[str, Any] = _Names({**vars(importlib.import_module(module)), "re": re})
    return eval(compile(ast.Expression(node), module, "eval"), {}, names)


def _flags(call: ast.Call, function: str, module: str) -> int:
    at = {"compile": 1, "sub": 4, "subn": 4, "split": 3}.get(function, 2)
    given = [each.value for each in call.keywords if each.arg == "flags"] or call.args[at : at + 1]
    return int(_value(given[0], module)) if given else 0
