"""Types of single values: each validates itself, with messages for the administrator."""

import ipaddress
import re
from typing import Annotated, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SecretStr,
    TypeAdapter,
)
from pydantic_core import CoreSchema, core_schema

from bridge.patterns import Patterns

MIN_TOKEN_CHARACTERS = 16
MIN_TOKEN_VARIETY = 8
"""Different characters in a token: 16 random hexadecimal digits have fewer once in 4,000 times, words almost never."""
MAX_URL_CHARACTERS = 2048


def is_loopback(host: str) -> bool:
    """Return whether a host always refers to this machine. Of names, only ``localhost`` certainly does."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def is_wildcard(host: str) -> bool:
    """Return whether a host means "every address of this machine": valid to listen on, impossible to dial."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def host_and_port(host: str, port: int) -> str:
    """Return ``host:port`` as URLs and Asterisk write it: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def matching(pattern: str, expected: str) -> AfterValidator:
    """Return a validator of strings: each must match a pattern completely.

    Args:
        pattern: a regular expression.
        expected: follows the invalid value in the message: ``must be ...``.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text[:80]!r} {expected}")
        return text

    return AfterValidator(check)


def check_network(text: str) -> str:
    """Check a network or an address, and return it in its usual notation."""
    try:
        ipaddress.ip_network(text)
    except ValueError as problem:
        raise ValueError(f"{text[:60]!r} is not a network such as 10.0.0.0/8, or an address: {problem}") from None
    return text


def server_of(url: str) -> str:
    """Return scheme, host, port and path of a URL: not its user, password or query, which may be secrets.

    Empty for what is not a URL.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if not host:
        return ""
    place = host_and_port(host, port) if port else f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{parts.path}"


def check_host(host: str) -> str:
    """Check an IP address or host name."""
    if not host:
        return host
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host.startswith("[") or re.fullmatch(r"[^:\s]+:\d*", host):
            raise ValueError(
                "is written with brackets or a port; give the bare host, the port has its own key"
            ) from None
        if len(host) > 253 or not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", host):
            raise ValueError(f"{host!r} is neither an IP address nor a host name") from None
        if re.fullmatch(r"[0-9.]+", host):
            raise ValueError(f"{host!r} is not a complete IPv4 address") from None
    return host


def check_listen_host(host: str) -> str:
    """Check an address to listen on, which must not be empty."""
    if not host:
        raise ValueError('is empty; use "127.0.0.1" for this machine only or "0.0.0.0" for every address')
    return check_host(host)


def check_ari_url(url: str) -> str:
    """Check the URL of ARI."""
    scheme = url.partition(":")[0].lower()
    if scheme in ("ws", "wss"):
        raise ValueError(
            f"starts with {scheme}://; use http:// or https://, from which the WebSocket for events is derived"
        )
    parts = split_url(url, ("http", "https"), "http://127.0.0.1:8088", "put them into ari.user and ari.password")
    if parts.query or parts.fragment:
        raise ValueError("contains a query or a fragment; expected only scheme, host and port")
    return url.rstrip("/").removesuffix("/ari")


def check_origin(text: str) -> str:
    """Check the origin of a web page, and return it as browsers write it."""
    expected = "expected scheme, host and port only, for example https://dashboard.example.org"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"{text[:80]!r} is not an origin; {expected}") from None
    host = parts.hostname or ""
    plain = parts.scheme in ("http", "https") and re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:.]+", host) and port != 0
    if not plain or parts.path not in ("", "/") or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{text[:80]!r} is not an origin; {expected}")
    default = {"http": 80, "https": 443}[parts.scheme]
    bracketed = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{bracketed}" + (f":{port}" if port not in (None, default) else "")


def check_ari_user(user: str) -> str:
    """Check the name of an ARI user."""
    if ":" in user:
        raise ValueError('contains a ":", which HTTP Basic authentication cannot carry')
    return user


def check_token(token: SecretStr) -> SecretStr:
    """Check the length and characters of a token."""
    text = token.get_secret_value()
    if len(text) < MIN_TOKEN_CHARACTERS:
        raise ValueError(f"is shorter than {MIN_TOKEN_CHARACTERS} characters; create one with: openssl rand -hex 24")
    if len(text) > 1024:
        raise ValueError("is longer than 1024 characters")
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", text):
        raise ValueError("may contain only letters, digits and ._~+/- (then =): what RFC 6750 allows in a header")
    if len(set(text)) < MIN_TOKEN_VARIETY:
        raise ValueError(
            f"has fewer than {MIN_TOKEN_VARIETY} different characters, so it can be guessed; create one with:"
            " openssl rand -hex 24"
        )
    return token


def check_audit_output(output: str) -> str:
    """Check ``stdout``, ``off``, or an absolute path: a relative one would depend on the working directory."""
    if output not in ("stdout", "off") and not (output.startswith("/") and output.isprintable()):
        raise ValueError(
            f'{output[:80]!r} is neither "stdout" nor "off" nor the path of a file, such as'
            " /var/log/asterisk-bridge/audit.jsonl"
        )
    return output


def check_lead(value: object) -> object:
    """Check a playout lead: a number of milliseconds, or a table of the smallest and the largest."""
    table: dict[str, Any] = value if isinstance(value, dict) else {"min": value, "max": value}
    if (
        table.keys() != {"min", "max"}
        or any(type(each) is not int or not 0 <= each <= 1000 for each in table.values())
        or table["min"] > table["max"]
    ):
        raise ValueError(
            "expected a number of milliseconds from 0 to 1000, or a table of min and a max that is not smaller: "
            f"{{ min = 20, max = 100 }}; got {str(value)[:80]!r}"
        )
    return value


def as_tuple(value: object) -> object:
    """Return a list as a tuple, any other value unchanged."""
    return tuple(value) if isinstance(value, list) else value


class _BuiltWhenUsed:
    """Builds the validator of a type at the first value instead of with its model.

    A file has few of the lists of tables, and their models take half of the time that the validator of all takes.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(lambda value: TypeAdapter(source).validate_python(value))


Model = TypeVar("Model")
Tables = Annotated[tuple[Model, ...], _BuiltWhenUsed(), BeforeValidator(as_tuple)]
"""A list of tables, ``[[tokens]]``, each validated by a model."""

Port = Annotated[int, Field(ge=0, le=65535, description="a port number from 0 to 65535 (0 = any free port)")]
ListenHost = Annotated[str, AfterValidator(check_listen_host), Field(description="an IP address or host name")]
Host = Annotated[str, AfterValidator(check_host), Field(description="an IP address or host name, or nothing")]
Slug = Annotated[
    str,
    matching(
        r"(?=.{1,63}$)[a-z0-9]+(-[a-z0-9]+)*",
        "must be 1 to 63 lowercase letters and digits, with single dashes between them",
    ),
    Field(description="lowercase letters, digits and dashes"),
]
FilePath = Annotated[str, Field(description="the path of a file, or nothing")]
Text = Annotated[str, Field(description="a string")]
Networks = Annotated[
    tuple[Annotated[str, AfterValidator(check_network), Field(description="a network")], ...],
    BeforeValidator(as_tuple),
    Field(description='a list of networks, for example ["10.0.0.5", "fd00::/8"]'),
]


PatternList = Annotated[Patterns, Field(description='a list of strings, for example ["1001", "20*"]')]


class Section(BaseModel):
    """One table of the configuration: immutable, strict about types, without its values in messages.

    Modules of models do without ``from __future__ import annotations``: pydantic would compile each annotation.
    """

    # hide_input_in_errors: pydantic's own message would quote a password that has the wrong type.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True, defer_build=True
    )


def section() -> Any:
    """Return a section's default: it is validated by the schema of `Config`, without building the section's own."""
    return Field(default={}, validate_default=True)


def split_url(url: str, schemes: tuple[str, str], example: str, credential: str) -> SplitResult:
    """Split the URL of a server. No message repeats it: its query may contain a secret.

    Args:
        url: the URL.
        schemes: the two allowed schemes, for example ``("ws", "wss")``.
        example: a valid URL.
        credential: where to put a credential, for the message.

    Raises:
        ValueError: a message for the administrator.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise ValueError(f"is longer than {MAX_URL_CHARACTERS} characters")
    if re.search(r"[^\x21-\x7e]", url):
        raise ValueError("contains white space or characters outside ASCII; percent-encode them")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"is not a URL; expected for example {example}") from None
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"must start with {schemes[0]}:// or {schemes[1]}:// and name a host, for example {example}")
    if "@" in parts.netloc:
        raise ValueError(f"contains a user name or password; {credential}")
    if port == 0:
        raise ValueError("has the port 0")
    return parts
