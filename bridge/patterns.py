"""Patterns in the configuration and in requests: ``1001``, ``10*``, ``[0-9][0-9]``, as in ``fnmatch``. Pure.

A list of patterns is compiled once, however many names it is matched against: ``fnmatch`` itself caches 256 compiled
patterns in the process and compiles every further one each time.
"""

from __future__ import annotations

import fnmatch
import re
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

MAX_PATTERNS = 1000
"""Patterns in one list, and in all lists of one subscription."""
MAX_CHARACTERS = 200
MAX_STARS = 8
"""``*`` in one pattern: matching and compiling take time for each."""

_WILDCARDS = frozenset("*?[")


def check_pattern(pattern: str) -> str:
    """Check that a pattern can be matched in bounded time, and return it.

    Raises:
        ValueError: it is empty, too long, not printable, or has too many ``*``.
    """
    if not pattern or len(pattern) > MAX_CHARACTERS or not pattern.isprintable() or pattern != pattern.strip():
        raise ValueError(
            f"{pattern[:40]!r} must be 1 to {MAX_CHARACTERS} printable characters, without a space at either end"
        )
    if pattern.count("*") > MAX_STARS:
        raise ValueError(f"{pattern[:40]!r} has more than {MAX_STARS} *")
    return pattern


class Patterns(tuple[str, ...]):
    """A list of patterns, which matches a name if any of them does. Matching takes linear time."""

    @classmethod
    def check(cls, pattern: str) -> str:
        """Check a pattern of a list in a model, and return it.

        Raises:
            ValueError: it is invalid.
        """
        return check_pattern(pattern)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate as a tuple of strings, each by `check`, and no more than `MAX_PATTERNS`."""
        texts = handler(tuple[Annotated[str, AfterValidator(cls.check)], ...])
        return core_schema.no_info_before_validator_function(
            _as_tuple, core_schema.no_info_after_validator_function(cls, texts)
        )

    def match(self, name: str) -> bool:
        """Return whether any pattern matches the complete name, case-sensitively."""
        exact, prefixes, others = self._prepared
        return name in exact or name.startswith(prefixes) or (others is not None and others.match(name) is not None)

    def prepare(self) -> None:
        """Compile the patterns now, in a thread: many of them take tenths of a second."""
        _ = self._prepared

    @cached_property
    def _prepared(self) -> tuple[frozenset[str], tuple[str, ...], re.Pattern[str] | None]:
        exact: list[str] = []
        prefixes: list[str] = []
        others: list[str] = []
        for pattern in self:
            start = pattern.rstrip("*")
            if not _WILDCARDS.isdisjoint(start):
                others.append(fnmatch.translate(pattern))
            elif start == pattern:
                exact.append(pattern)
            else:
                prefixes.append(start)
        return frozenset(exact), tuple(prefixes), re.compile("|".join(others)) if others else None


def _as_tuple(value: object) -> object:
    """Return a list as a tuple, after checking its length, before each entry is checked."""
    if isinstance(value, list | tuple) and len(value) > MAX_PATTERNS:
        raise ValueError(f"expected at most {MAX_PATTERNS} patterns; got {len(value)}")
    return tuple(value) if isinstance(value, list) else value
