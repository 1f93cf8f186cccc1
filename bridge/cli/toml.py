"""Configuration as TOML: what ``check`` prints, and the table of a new token."""

from __future__ import annotations

import json

from pydantic import BaseModel, SecretStr

from bridge.config import SECTIONS, TABLES, Config
from bridge.masking import MASK, mask, mask_command, mask_url


def masked_toml(config: Config) -> str:
    """Return the effective configuration as TOML, every secret replaced by asterisks."""
    lines = []
    for section in SECTIONS:
        lines.append(f"[{section}]")
        lines += [f"{key} = {to_toml(value)}" for key, value in getattr(config, section)]
        lines.append("")
    for name in TABLES:
        for table in getattr(config, name):
            values = {key: value for key, value in table if value is not None}
            inner = {key: value for key, value in values.items() if isinstance(value, BaseModel)}
            lines.append(f"[[{name}]]")
            lines += [f"{key} = {to_toml(_shown(key, value))}" for key, value in values.items() if key not in inner]
            for key, each in inner.items():  # after the keys of the table that they are in
                if each != type(each)():
                    lines += ["", f"[{name}.{key}]", *(f"{key} = {to_toml(mask(value, key))}" for key, value in each)]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def to_toml(value: object) -> str:
    """Return a value as TOML writes it; secrets are masked."""
    if isinstance(value, SecretStr):
        return to_toml(MASK if value.get_secret_value() else "")
    if isinstance(value, tuple):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    if isinstance(value, list):
        return to_toml(tuple(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {to_toml(item)}" for key, item in value.items()) + "}"
    # A JSON string is a TOML string, except DEL. Numbers are the same in both, and dates (only in options) become
    # strings.
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")


def _shown(key: str, value: object) -> object:
    if key == "command" and isinstance(value, tuple):
        return mask_command(value)
    if key in ("actions", "options") and value:
        from bridge import dialects  # not needed for configurations without options

        return mask(value, key, shown=dialects.shown_options())
    if isinstance(value, dict):
        return mask(value, key)
    return mask_url(value) if isinstance(value, str) else value
