"""Reads the file and the environment into one validated value, and reports mistakes in them."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError

from bridge.config.cross_checks import contradictions
from bridge.config.model import SECTIONS, TABLES, Config
from bridge.config.values import Section
from bridge.errors import ConfigError
from bridge.validation import explain_detail, suggestion

ENVIRONMENT_PREFIX = "ASTERISK_BRIDGE_"

# Kubernetes (and Docker's links) set such variables in every container near a service called "asterisk-bridge".
_NOT_OURS = re.compile(r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)")


REMOVED = {"media.websocket": "has been removed, every WebSocket is framed by picows: delete it"}
"""Keys of earlier versions, and how to replace them."""


class ConfigErrors(ConfigError):
    """Several mistakes; ``errors`` has one `ConfigError` for each, the string lists them line by line."""

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__(errors[0].key, errors[0].reason)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def each_error(error: ConfigError) -> list[ConfigError]:
    """Return the single mistakes of an error of `load`."""
    return error.errors if isinstance(error, ConfigErrors) else [error]


def settings_in(environ: Mapping[str, str]) -> list[str]:
    """Return the sorted names of the variables that set keys of the configuration."""
    begin = len(ENVIRONMENT_PREFIX)
    ours = (name for name in environ if name.startswith(ENVIRONMENT_PREFIX))
    return sorted(name for name in ours if not _NOT_OURS.fullmatch(name[begin:]))


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read and check the configuration.

    Args:
        path: the TOML file; None: defaults and environment only.
        environ: the environment (``os.environ``).

    Raises:
        ConfigError: one mistake, or `ConfigErrors`, which lists them all.
    """
    values: dict[str, Any] = _read(path) if path else {}
    errors, origins = _override(values, environ)
    try:
        config = Config.model_validate(values)
    except ValidationError as problem:
        for detail in problem.errors(include_url=False):
            errors += _as_config_errors(detail, origins)
    else:
        errors += contradictions(config)
    if errors:
        raise errors[0] if len(errors) == 1 else ConfigErrors(errors)
    if config.streams.state_file:
        return config
    streams = config.streams.model_copy(update={"state_file": default_state_file(environ)})
    return config.model_copy(update={"streams": streams})


def default_state_file(environ: Mapping[str, str]) -> str:
    """Return the default path of the state file: in systemd's state directory, else the user's, else the system's."""
    directory = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if not directory:
        base = environ.get("XDG_STATE_HOME", "")
        home = environ.get("HOME", "")
        if not base and home not in ("", "/", "/nonexistent"):
            base = f"{home}/.local/state"
        directory = f"{base or '/var/lib'}/asterisk-bridge"
    return f"{directory}/state.sqlite3"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(str(path), f"cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "is not UTF-8 text") from None
    except (ValueError, RecursionError) as problem:  # not only tomllib's own: an integer may be too long for Python
        raise ConfigError(str(path), f"is not valid TOML: {problem}") from None


def _override(values: dict[str, Any], environ: Mapping[str, str]) -> tuple[list[ConfigError], dict[str, str]]:
    """Set the environment's values in ``values``; return the mistakes, and which variable set which key."""
    errors: list[ConfigError] = []
    origins: dict[str, str] = {}
    for name in settings_in(environ):
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        section, key = section.lower(), key.lower()
        model: type[Section] | None
        if section in TABLES:
            where, table = _find_table(values.get(section), section, key)
            model, key = TABLES[section], key.rpartition("__")[2]
        else:
            model = SECTIONS.get(section)
            where, table = section, None
        if name != name.upper() or model is None or key not in model.model_fields:
            if removed := REMOVED.get(f"{section}.{key}"):
                errors.append(ConfigError(name, removed))
                continue
            known = [f"{ENVIRONMENT_PREFIX}{s}__{k}".upper() for s, m in SECTIONS.items() for k in m.model_fields]
            errors.append(ConfigError(name, "unknown setting" + suggestion(name.upper(), known)))
            continue
        if section in TABLES and table is None:
            expected = f"{ENVIRONMENT_PREFIX}{section.upper()}__<ID>__<KEY>"
            errors.append(ConfigError(name, f"expected {expected}, with the id of a [[{section}]] in the file"))
            continue
        if section not in TABLES:
            table = values.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = _from_text(environ[name], model.model_fields[key].annotation)
            origins[f"{where}.{key}"] = name
    return errors, origins


def _find_table(tables: object, section: str, key: str) -> tuple[str, dict[str, Any] | None]:
    """Return the table that ``<ID>__<KEY>`` of a variable refers to: dotted key and table, None if there is none."""
    wanted = key.rpartition("__")[0].replace("_", "-")
    for index, table in enumerate(tables if isinstance(tables, list) else ()):
        if isinstance(table, dict) and str(table.get("id")).lower().replace("_", "-") == wanted:
            return f"{section}.{index}", table
    return section, None


def _from_text(text: str, annotation: Any) -> object:
    """Parse an environment variable as its key's type; the model reports a string that cannot be parsed."""
    kinds = _kinds(annotation)
    if int in kinds and re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
        return int(text)
    if float in kinds and re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]*)?", text.strip()):
        return float(text)
    if bool in kinds and text.strip() in ("true", "false"):
        return text.strip() == "true"
    if tuple in kinds or dict in kinds:
        if text.lstrip().startswith("[" if tuple in kinds else "{"):
            try:
                return tomllib.loads(f"value = {text}")["value"]
            except (ValueError, RecursionError):
                return text
        if tuple in kinds:
            return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _kinds(annotation: Any) -> set[Any]:
    """Return the plain types of an annotation: without ``Annotated`` and ``| None``, ``tuple[str]`` as ``tuple``."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    if isinstance(annotation, type) and issubclass(annotation, tuple):
        return {tuple}
    return {get_origin(annotation) or annotation}


def _as_config_errors(detail: Any, origins: Mapping[str, str]) -> Iterator[ConfigError]:
    location = [str(part) for part in detail["loc"]]
    section, depth = location[0], 2 if location[0] in TABLES else 1
    unknown = detail["type"] == "extra_forbidden"
    place = ".".join(location[:depth])
    if len(location) == 1 and unknown:
        yield ConfigError(section, f"unknown section{_suggest_section(section)}")
    elif len(location) == 1 and section in TABLES:
        yield ConfigError(section, f"must be a list of tables: a line [[{section}]] with keys below it for each")
    elif len(location) == 1:
        yield ConfigError(section, f"must be a section: a line [{section}] with keys below it")
    elif len(location) == depth:
        yield ConfigError(place, f"must be a table: a line [[{section}]] with keys below it")
    else:
        origin = origins.get(".".join(location[: depth + 1]))
        relative = {**detail, "loc": detail["loc"][depth:]}
        for key, described in explain_detail(relative, (TABLES | SECTIONS)[section], described=True):
            reason = described
            if unknown and len(location) == depth + 1:
                elsewhere = described if section in TABLES else f"unknown key{_suggest_key(section, key)}"
                reason = REMOVED.get(f"{section}.{key}") or elsewhere
            yield ConfigError(f"{place}.{key}", f"{reason} (set by {origin})" if origin else reason)


def _suggest_section(name: str) -> str:
    homes = [f"{section}.{name}" for section, model in SECTIONS.items() if name in model.model_fields]
    return f"; did you mean {homes[0]}?" if homes else suggestion(name, [*SECTIONS, *TABLES])


def _suggest_key(section: str, key: str) -> str:
    homes = [f"{other}.{key}" for other, model in SECTIONS.items() if key in model.model_fields]
    return (
        f"; did you mean {homes[0]}?" if homes else suggestion(key, list(SECTIONS[section].model_fields), section + ".")
    )
