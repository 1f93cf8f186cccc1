"""The wire formats that streams speak: one module each, found by looking, not by a list."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from bridge.dialects.base import Dialect

DialectClass = Callable[..., Dialect]
"""A dialect's class. Its arguments are its options; wrong ones raise ValueError, in words for who wrote them."""


@cache
def known() -> dict[str, DialectClass]:
    """All dialects by name: every class with a ``name`` and a ``receive`` that a module of this package defines."""
    found: dict[str, DialectClass] = {}
    for info in sorted(iter_modules(__path__), key=lambda each: each.name):
        module = import_module(f"{__name__}.{info.name}")
        for value in vars(module).values():
            name = getattr(value, "name", None)
            mine = isinstance(value, type) and value.__module__ == module.__name__
            if mine and isinstance(name, str) and hasattr(value, "receive"):
                found[name] = value
    return found


def find(name: str) -> DialectClass:
    """The dialect called ``name``.

    Raises:
        LookupError: there is none.
    """
    try:
        return known()[name]
    except KeyError:
        raise LookupError(f"no dialect is called {name!r}; there are: {', '.join(known())}") from None
