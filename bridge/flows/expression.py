"""Voxology's conditions: ``$keyPresses == '1' && $sessionData.tries < 3``. A small language, parsed without eval.

    or:     and ( "||" and )*
    and:    not ( "&&" not )*
    not:    "!" not | compare
    compare: value ( ("==" | "===" | "!=" | "!==" | "<" | "<=" | ">" | ">=") value )?
    value:  $name(.path)* | number | 'text' | "text" | true | false | null | "(" or ")"

Two values that both look like numbers are compared as numbers, others as strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bridge.flows.variables import Variables, text_of

MAX_CHARACTERS = 1000
MAX_DEPTH = 20

Expression = Callable[[Variables], Any]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|\$\{?(?P<name>[A-Za-z_][\w.]*)\}?|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\""
    r"|(?P<word>true|false|null)\b|(?P<sign>===|!==|==|!=|<=|>=|<|>|&&|\|\||!|\(|\)))"
)
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def parse(text: str) -> Expression:
    """Parse an expression.

    Args:
        text: the expression.

    Returns:
        A function that evaluates the expression with variables.

    Raises:
        ValueError: the expression is invalid; the message continues the sentence "condition ...".
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"has more than {MAX_CHARACTERS} characters")
    parser = _Parser(text)
    expression = parser.either(0)
    if parser.kind:
        raise ValueError(f"unexpected {parser.rest()!r} after the expression")
    return expression


def is_true(value: Any) -> bool:
    """Return whether a value counts as true: as in JavaScript, but ``"false"`` and ``"0"`` are false."""
    return value not in (None, False, "", 0, "false", "0")


def compare(sign: str, left: Any, right: Any) -> bool:
    """Compare numerically if both look like numbers, else as strings; ``sign`` is one of ``== != < <= > >=``."""
    first, second = _number(left), _number(right)
    if first is not None and second is not None:
        return _SIGNS[sign](first, second)
    return _SIGNS[sign](text_of(left), text_of(right))


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e300 else None  # JSON integers may exceed the range of float
    # A leading zero or plus marks a telephone number or a code, not a number.
    if isinstance(value, str) and re.fullmatch(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?", value):
        return float(value)
    return None


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.kind = ""
        self._value = ""
        self._next()

    def rest(self) -> str:
        return self._value or self._text[self._at :][:20]

    def _next(self) -> None:
        if not self._text[self._at :].strip():
            self.kind = self._value = ""
            return
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise ValueError(f"syntax error at {self._text[self._at :].strip()[:20]!r}")
        self._at = match.end()
        self.kind = str(match.lastgroup)
        self._value = match[self.kind]

    def _takes(self, *signs: str) -> str:
        if self.kind == "sign" and self._value in signs:
            sign = self._value
            self._next()
            return sign
        return ""

    def either(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
        parts = [self._both(depth)]
        while self._takes("||"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else lambda v: any(is_true(part(v)) for part in parts)

    def _both(self, depth: int) -> Expression:
        parts = [self._not(depth)]
        while self._takes("&&"):
            parts.append(self._not(depth))
        return parts[0] if len(parts) == 1 else lambda v: all(is_true(part(v)) for part in parts)

    def _not(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
        if self._takes("!"):
            inner = self._not(depth + 1)
            return lambda v: not is_true(inner(v))
        left = self._operand(depth)
        sign = self._takes("===", "!==", "==", "!=", "<=", ">=", "<", ">")
        if not sign:
            return left
        right = self._operand(depth)
        sign = sign[:2] if sign in ("===", "!==") else sign
        return lambda v: compare(sign, left(v), right(v))

    def _operand(self, depth: int) -> Expression:
        if self._takes("("):
            inner = self.either(depth + 1)
            if not self._takes(")"):
                raise ValueError("missing closing parenthesis")
            return inner
        kind, value = self.kind, self._value
        if kind in ("", "sign"):
            raise ValueError(f"missing value {'before ' + repr(value) if value else 'at the end'}")
        self._next()
        if kind == "name":
            return lambda v: v.value(value)
        constant: Any = value
        if kind == "number":
            constant = float(value) if "." in value else int(value)
        elif kind == "word":
            constant = {"true": True, "false": False, "null": None}[value]
        return lambda _: constant
