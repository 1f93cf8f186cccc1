"""What the models of actions' options have in common: strict, and every value may come from a variable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, WrapValidator
from pydantic_core import ErrorDetails

from bridge.flows.filling import MAX_URL_CHARACTERS
from bridge.flows.variables import Variables, holds_variable

NIL_UUID = "00000000-0000-0000-0000-000000000000"
"""How VoIPBIN writes an id that is not set."""
MAX_DURATION_MS = 86_400_000
HTTP_URL = re.compile(r"https?://[^\s/?#]+(?:[/?#]\S*)?", re.IGNORECASE)


def _or_variable(value: Any, handler: Any, info: ValidationInfo) -> Any:
    """Let ``${...}`` stand for any value while a flow is parsed; take the text that it became when it runs."""
    if isinstance(value, str) and holds_variable(value) and not _runs(info):
        return value
    if _runs(info) and isinstance(value, str):
        if re.fullmatch(r"[+-]?[0-9]{1,15}", value.strip()):
            value = int(value)
        elif value.strip().lower() in ("true", "false"):
            value = value.strip().lower() == "true"
    return handler(value)


def _runs(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get("runs"))


def _check_url(value: str) -> str:
    if len(value) > MAX_URL_CHARACTERS:
        raise ValueError(f"is longer than {MAX_URL_CHARACTERS} characters")
    if not holds_variable(value) and not HTTP_URL.fullmatch(value):
        raise ValueError("expected an http:// or https:// URL")
    return value


class KeyedError(ValueError):
    """Options that do not go together: ``key: reason``, several of them with ``; `` between."""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each key and reason."""
        for part in str(self).split("; "):
            key, colon, reason = part.partition(": ")
            yield (key, reason) if colon and re.fullmatch(r"[\w.\[\]]+", key) else ("", part)


OR_VARIABLE = WrapValidator(_or_variable)
"""For every option that is no text: put it last in ``Annotated``."""
IS_HTTP_URL = AfterValidator(_check_url)


class Options(BaseModel):
    """Options of one action."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True)

    untouched: ClassVar[frozenset[str]] = frozenset()
    """Options whose variables the action itself puts in."""

    def targets(self) -> Iterable[tuple[str, str]]:
        """Ids of actions that these options name: the option's key, and the id."""
        return ()

    def places(self) -> Iterable[tuple[str, str]]:
        """Return what these options have the bridge connect to: the option's key, and a URL or ``host:port``."""
        return ()

    def resolved(self, variables: Variables) -> Any:
        """The same options with every variable replaced by its value.

        Raises:
            ValueError: a value does not fit its option (in words, naming the key).
        """
        dumped = self.model_dump(by_alias=True, warnings=False)
        variables.check(dumped)
        touched = {k: v if k in self.untouched else _filled(v, variables) for k, v in dumped.items()}
        if touched == dumped:
            return self
        try:
            return type(self).model_validate(touched, context={"runs": True})
        except ValidationError as problem:
            raise ValueError("; ".join(f"{key}: {reason}" for key, reason in faults(problem, type(self)))) from None


def holds_variables(value: Any) -> bool:
    """Whether any text in options holds ``${name}``."""
    if isinstance(value, str):
        return holds_variable(value)
    if isinstance(value, Mapping):
        return any(map(holds_variables, value.values()))
    return isinstance(value, list | tuple) and any(map(holds_variables, value))


def _filled(value: Any, variables: Variables) -> Any:
    if isinstance(value, str):
        return variables.fill(value)
    if isinstance(value, Mapping):
        return {key: _filled(item, variables) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(item, variables) for item in value)
    return value


def faults(problem: ValidationError, model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """What is wrong with options: dotted key below them ("" for the options as a whole), and the reason in words."""
    for detail in problem.errors(include_url=False):
        error = detail.get("ctx", {}).get("error")
        if isinstance(error, KeyedError):
            yield from error.pairs()
        else:
            yield _fault(detail, model)


def _fault(detail: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    location = [part for part in detail["loc"] if not _is_of_schema(part)]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
    kind = detail["type"]
    if kind == "value_error":
        return key, str(detail["ctx"]["error"])
    owner, field = _field(model, location)
    if kind == "extra_forbidden":
        known = ", ".join(info.alias or name for name, info in owner.model_fields.items()) if owner else ""
        return key, f"is no option here{f'; known are {known}' if known else '; none are known'}"
    expected = getattr(field, "description", None) or _plain(str(detail["msg"]))
    if kind == "missing":
        return key, f"is missing; expected {expected}"
    return key, f"expected {expected}; got {_shown(detail['input'])}"


def _is_of_schema(part: object) -> bool:
    """Whether a part of pydantic's location names one of its schemas, not a key: ``function-wrap[...]``."""
    return isinstance(part, str) and ("[" in part or part in ("str", "int", "list", "bool", "dict"))


def _field(model: type[BaseModel], location: list[int | str]) -> tuple[type[BaseModel] | None, Any]:
    """The model and field that a location ends in."""
    owner: type[BaseModel] | None = model
    field: Any = None
    for part in location:
        if isinstance(part, int):
            continue
        if owner is None:
            break
        by_key = {info.alias or name: info for name, info in owner.model_fields.items()}
        if part not in by_key:
            return owner, None
        field = by_key[part]
        owner_of_rest = _model_in(field.annotation)
        if owner_of_rest is None:
            return owner, field
        owner = owner_of_rest
    return owner, field


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found is not None:
            return found
    return None


def _plain(message: str) -> str:
    return message.removeprefix("Input should be ").removeprefix("a valid ") or "another value"


def _shown(value: object) -> str:
    if isinstance(value, bool | str | int | float) or value is None:
        text = json.dumps(value)
        return text if len(text) <= 80 else f"{text[:77]}..."
    return {"dict": "an object", "list": "a list", "tuple": "a list"}.get(type(value).__name__, type(value).__name__)
