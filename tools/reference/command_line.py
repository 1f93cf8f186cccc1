"""The command line, from its parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from bridge.cli.main import _parser


def commands() -> str:
    """Return the arguments of each command. argparse's own text differs between versions of Python."""
    return "\n\n".join(part for parser in _all(_parser()) for part in _described(parser))


def _all(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for each in action.choices.values():
            yield from _all(each)
    if not below:
        yield parser


def _described(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## `{parser.prog}`"
    if parser.description:
        yield parser.description
    rows = []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or action.dest.upper()
        names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{value}`"
        takes = f" `{value}`" if action.option_strings and action.nargs != 0 else ""
        choices = f"one of {', '.join(f'`{each}`' for each in action.choices)}" if action.choices else ""
        text = " ".join((action.help or "").replace("%(default)s", str(action.default)).split()).replace("|", "\\|")
        rows.append(f"| {names}{takes} | {'; '.join(filter(None, (text, choices)))} |")
    if rows:
        yield "\n".join(["| argument | meaning |", "|---|---|", *rows])
