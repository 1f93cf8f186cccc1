"""Variables of a flow, limited in number and size: names and values, filled into options at ``${name}``.

Names are those of VoIPBIN (``voipbin.call.source.target``) and, for flows in Voxology's syntax, its own
(``keyPresses``, ``callId``, ``sessionData.name``). An unknown name yields an empty string, as in VoIPBIN.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bridge.flows import substitution
from bridge.flows.substitution import VARIABLE

MAX_NAMES = 500
MAX_NAME_CHARACTERS = 200
MAX_VALUE_BYTES = 32 * 1024
MAX_TOTAL_BYTES = 256 * 1024
MAX_FILLED_BYTES = 1024 * 1024
"""Limit of what variables add to the options of one action: a short string may use a long variable many times."""
MAX_GIVEN = 100
"""Limits of the number and total size of a request's variables, as in VoIPBIN."""
MAX_GIVEN_BYTES = 64 * 1024
OWN_PREFIX = "voipbin."
"""Prefix of reserved names; those of a request are ignored."""

_SESSION_DATA = ("sessionData", "session_data")


class VariablesFull(ValueError):
    """A variable would exceed a limit."""


def holds_variable(text: str) -> bool:
    """Return whether a string contains ``${name}``."""
    return "${" in text and VARIABLE.search(text) is not None


def request_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Check the variables of a request.

    Returns:
        Those with names that are not reserved.

    Raises:
        ValueError: too many, too large, or not strings.
    """
    if len(variables) > MAX_GIVEN:
        raise ValueError(f"variables: expected at most {MAX_GIVEN} variables; got {len(variables)}")
    total = 0
    for name, value in variables.items():
        if not isinstance(value, str):
            raise ValueError(f"variables: {name[:40]!r}: expected a string")
        if not name or len(name) > MAX_NAME_CHARACTERS:
            raise ValueError(f"variables: {name[:40]!r}: expected a name of 1 to {MAX_NAME_CHARACTERS} characters")
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise ValueError(f"variables: {name[:40]!r}: expected at most {MAX_VALUE_BYTES} bytes")
        total += len(name.encode()) + len(value.encode())
    if total > MAX_GIVEN_BYTES:
        raise ValueError(f"variables: expected at most {MAX_GIVEN_BYTES} bytes together; got {total}")
    return {name: value for name, value in variables.items() if not name.startswith(OWN_PREFIX)}


class Variables:
    """The variables of one run.

    Args:
        values: initial values.
        session_data: Voxology's object, which its callbacks carry: any JSON.
        shown: names of initial values that the call's record shows; values that the flow sets are shown too.
    """

    def __init__(
        self,
        values: Mapping[str, str] | None = None,
        session_data: Mapping[str, Any] | None = None,
        shown: Iterable[str] = (),
    ) -> None:
        self.is_sensitive: Callable[[], bool] = lambda: False
        """Returns whether values set now are sensitive."""
        self._shown = dict.fromkeys(shown)
        self._secret: set[str] = set()
        """Names of values that were set in sensitive mode."""
        self._values = dict(values or {})
        self._session_data: dict[str, Any] = dict(session_data or {})
        self._session_bytes = sum(_size(name, value) for name, value in self._session_data.items())
        self._texts: dict[int, str] = {}
        """Objects and lists of the session data as JSON, by identity: one condition may use the same many times."""
        self._bytes = sum(len(name.encode()) + len(value.encode()) for name, value in self._values.items())

    @property
    def values(self) -> Mapping[str, str]:
        """All values by name."""
        return self._values

    @property
    def secret(self) -> bool:
        """Whether a value was set in sensitive mode."""
        return bool(self._secret)

    def kept(self) -> dict[str, Any]:
        """Return the arguments of another `Variables`, without secrets: for storage in a file."""
        return {
            "values": {name: value for name, value in self._values.items() if name not in self._secret},
            "session_data": {k: v for k, v in self._session_data.items() if f"sessionData.{k}" not in self._secret},
            "shown": [name for name in self._shown if name not in self._secret],
        }

    @property
    def shown(self) -> dict[str, str]:
        """The values that the call's record shows."""
        return {name: self._values[name] for name in self._shown}

    @property
    def session_data(self) -> Mapping[str, Any]:
        """Voxology's object."""
        return self._session_data

    def get(self, name: str) -> str:
        """Return a variable as a string; empty if it is unknown."""
        return text_of(self.value(name))

    def value(self, name: str) -> Any:
        """Return a variable's value, objects and lists of ``sessionData`` as JSON; None if it is unknown."""
        head, _, path = name.strip().partition(".")
        if head in _SESSION_DATA and name not in self._values:
            return self._plain(_inside(self._session_data, path))
        return self._values.get(name.strip())

    def _plain(self, value: Any) -> Any:
        if not isinstance(value, Mapping | list):
            return value
        text = self._texts.get(id(value))
        if text is None:
            text = self._texts[id(value)] = text_of(value)
        return text

    def set(self, name: str, value: str, *, shown: bool = True) -> None:
        """Set a variable.

        Args:
            name: 1 to 200 characters.
            value: a string.
            shown: the call's record may show it.

        Raises:
            VariablesFull: a limit on number or size would be exceeded.
        """
        head, _, path = name.partition(".")
        if head in _SESSION_DATA and path:
            old_size = _size(path, self._session_data[path]) if path in self._session_data else 0
            self._set_session_data({**self._session_data, path: value}, _size(path, value) - old_size)
            self._note_secrecy(f"sessionData.{path}")
            return
        if not name or len(name) > MAX_NAME_CHARACTERS:
            raise VariablesFull(f"expected a name of 1 to {MAX_NAME_CHARACTERS} characters")
        size = len(value.encode())
        if size > MAX_VALUE_BYTES:
            raise VariablesFull(f"{name!r}: expected a value of at most {MAX_VALUE_BYTES} bytes")
        old = self._values.get(name)
        if old is None and len(self._values) >= MAX_NAMES:
            raise VariablesFull(f"the limit of {MAX_NAMES} variables is reached")
        grows = size - len(old.encode()) if old is not None else size + len(name.encode())
        if self._bytes + grows > MAX_TOTAL_BYTES:
            raise VariablesFull(f"the variables would exceed {MAX_TOTAL_BYTES} bytes in total")
        self._values[name] = value
        self._bytes += grows
        self._note_secrecy(name)
        if shown and not self.is_sensitive():
            self._shown[name] = None
        else:
            self._shown.pop(name, None)

    def _note_secrecy(self, name: str) -> None:
        if self.is_sensitive():
            self._secret.add(name)
        else:
            self._secret.discard(name)

    def set_session_data(self, data: Mapping[str, Any]) -> None:
        """Replace Voxology's object.

        Raises:
            VariablesFull: larger than 64 KiB as JSON.
        """
        self._set_session_data(data, sum(_size(name, value) for name, value in data.items()) - self._session_bytes)

    def _set_session_data(self, data: Mapping[str, Any], grows: int) -> None:
        if self._session_bytes + grows > MAX_GIVEN_BYTES:
            raise VariablesFull(f"session_data would exceed {MAX_GIVEN_BYTES} bytes")
        self._session_data = dict(data)
        self._texts.clear()
        self._session_bytes += grows

    def check(self, value: Any) -> None:
        """Check the size that options will have with their variables.

        Raises:
            VariablesFull: more than `MAX_FILLED_BYTES`.
        """
        sizes: dict[str, int] = {}
        total = 0
        for text in _texts_in(value):
            for match in VARIABLE.finditer(text) if "${" in text else ():
                name = match[1]
                if name not in sizes:
                    sizes[name] = len(self._named(name).encode())
                total += sizes[name]
                if total > MAX_FILLED_BYTES:
                    raise VariablesFull(f"the options would exceed {MAX_FILLED_BYTES} bytes with their variables")

    def fill(self, text: str, encode: Callable[[str], str] = str) -> str:
        """Fill in variables; variables within values are not filled in.

        Args:
            text: the template.
            encode: applied to each value first.
        """
        return VARIABLE.sub(lambda match: encode(self._named(match[1])), text) if "${" in text else text

    def fill_url(self, url: str) -> str:
        """Fill variables into a URL; see `bridge.flows.substitution.fill_url`.

        Raises:
            ValueError: a value would change the URL's path.
        """
        return substitution.fill_url(url, self._named) if "${" in url else url

    def fill_body(self, text: str, content_type: str) -> str:
        """Fill variables into a body; see `bridge.flows.substitution.fill_body`.

        Raises:
            ValueError: the type cannot carry a value at the position of its variable.
        """
        return substitution.fill_body(text, content_type, self._named)

    def _named(self, name: str) -> str:
        if name.startswith("..."):  # Voxology: single characters, to be spelled out
            return " ".join(self.get(name[3:]))
        return self.get(name)


def _size(name: str, value: Any) -> int:
    """Return the size of a name and its value in JSON, in bytes."""
    return len(json.dumps({name: value}, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def text_of(value: Any) -> str:
    """Return a JSON value as a string."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _inside(data: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        else:
            return None
    return data


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts_in(item)
