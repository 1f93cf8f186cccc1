"""Wire formats of streams: one module each, found at import, and those that `register` adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules

from bridge.dialects.base import COMMON_LAYOUTS, Dialect, Layout

_registered: dict[str, type[Dialect]] = {}


@cache
def known() -> Mapping[str, type[Dialect]]:
    """Return all dialects by name: the named subclasses of `Dialect` in modules of this package, and those added."""
    found: dict[str, type[Dialect]] = {}
    for info in sorted(iter_modules(__path__), key=lambda each: each.name):
        module = import_module(f"{__name__}.{info.name}")
        for value in vars(module).values():
            if not isinstance(value, type) or value.__module__ != module.__name__:
                continue
            if issubclass(value, Dialect) and not isabstract(value):
                found[value.name] = value
    return found | _registered


def register(dialect: type[Dialect]) -> Callable[[], None]:
    """Add a dialect that lives outside this package; call before a configuration or request names it.

    Args:
        dialect: the class; its ``name`` and the names of its layouts are new.

    Returns:
        A function that removes the dialect.

    Raises:
        ValueError: the name of the dialect, or of one of its layouts, is taken.
    """
    if dialect.name in known():
        raise ValueError(f"the dialect {dialect.name!r} exists already")
    for layout in dialect.layouts:
        if layouts().get(layout.name, layout) != layout:
            raise ValueError(f"the layout {layout.name!r} exists already")
    _registered[dialect.name] = dialect
    _clear()

    def unregister() -> None:
        _registered.pop(dialect.name, None)
        _clear()

    return unregister


def find(name: str) -> type[Dialect]:
    """Return the dialect called ``name``.

    Raises:
        LookupError: no dialect has this name.
    """
    try:
        return known()[name]
    except KeyError:
        raise LookupError(f"unknown dialect {name!r}; expected one of {', '.join(known())}") from None


def default_of(start: str) -> str:
    """Return the name of the dialect whose ``default_of`` holds ``start``."""
    return next(name for name, dialect in known().items() if start in dialect.default_of)


@cache
def layouts() -> Mapping[str, Layout]:
    """Return all layouts by name: the common ones, then those of dialects."""
    every = (*COMMON_LAYOUTS, *(layout for dialect in known().values() for layout in dialect.layouts))
    return {layout.name: layout for layout in every}


def shown_options() -> frozenset[str]:
    """Return the names of all options whose strings are not secrets."""
    return frozenset[str]().union(*(dialect.shown_options for dialect in known().values()))


def _clear() -> None:
    known.cache_clear()
    layouts.cache_clear()
