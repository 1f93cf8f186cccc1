"""Common base of the models of actions' options: strict, and every value may come from a variable."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, WrapValidator

from bridge.flows.substitution import MAX_URL_CHARACTERS
from bridge.flows.variables import Variables, holds_variable
from bridge.validation import explain, sentence

NIL_UUID = "00000000-0000-0000-0000-000000000000"
"""VoIPBIN's notation for an unset id."""
MAX_DURATION_MS = 86_400_000
HTTP_URL = re.compile(r"https?://[^\s/?#]+(?:[/?#]\S*)?", re.IGNORECASE)


def _or_variable(value: Any, handler: Any, info: ValidationInfo) -> Any:
    """Accept ``${...}`` for any value while a flow is parsed; convert the filled-in string when it runs."""
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
        raise ValueError(f"must have at most {MAX_URL_CHARACTERS} characters")
    if not holds_variable(value) and not HTTP_URL.fullmatch(value):
        raise ValueError("expected an http:// or https:// URL")
    return value


OR_VARIABLE = WrapValidator(_or_variable)
"""For every option that is not a string: put it last in ``Annotated``."""
IS_HTTP_URL = AfterValidator(_check_url)


class Options(BaseModel):
    """Options of one action."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True, defer_build=True
    )

    untouched: ClassVar[frozenset[str]] = frozenset()
    """Options whose variables the action fills in itself."""

    def targets(self) -> Iterable[tuple[str, str]]:
        """Return the ids of actions that these options refer to: the option's key, and the id."""
        return ()

    def urls(self) -> Iterable[tuple[str, str]]:
        """Return the servers that these options connect to: the option's key, and a URL or ``host:port``."""
        return ()

    def resolved(self, variables: Variables) -> Any:
        """Return these options with every variable replaced by its value.

        Args:
            variables: those of the run.

        Raises:
            ValueError: a value is invalid for its option; the message names the key.
        """
        dumped = self.model_dump(by_alias=True, warnings=False)
        variables.check(dumped)
        touched = {k: v if k in self.untouched else _filled(v, variables) for k, v in dumped.items()}
        if touched == dumped:
            return self
        try:
            return type(self).model_validate(touched, context={"runs": True})
        except ValidationError as problem:
            raise ValueError(sentence(explain(problem, type(self), described=True))) from None


def holds_variables(value: Any) -> bool:
    """Return whether any string in options contains ``${name}``."""
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
