"""The configuration: one TOML file, overridden by environment variables, checked whole before anything starts.

    [http] [audiosocket] [ari] [media] [log]           the sections of the file
    ASTERISK_BRIDGE_<SECTION>__<KEY>                   overrides one key, for example ASTERISK_BRIDGE_ARI__PASSWORD

`load` reports every mistake at once, each with the dotted key, what was wrong and what is expected. Secrets are
pydantic's ``SecretStr``: they show in no repr, no log and no error. ``docs/configuration.md`` describes every key.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import ssl
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from bridge.errors import ConfigError

ENVIRONMENT_PREFIX = "ASTERISK_BRIDGE_"
MIN_TOKEN_CHARACTERS = 16
FILES_PER_STREAM = 3
"""One WebSocket and up to two media legs."""
FILES_ASIDE = 100
"""ARI, listening sockets, the log, and whatever else."""

# Kubernetes (and Docker's old links) put such names into every container near a service called "asterisk-bridge".
_NOT_OURS = re.compile(r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)")


class ConfigErrors(ConfigError):
    """Several mistakes at once; ``errors`` holds one `ConfigError` each, the text lists them line by line."""

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__(errors[0].key, errors[0].reason)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def each_error(error: ConfigError) -> list[ConfigError]:
    """The single mistakes behind an error of `load`."""
    return error.errors if isinstance(error, ConfigErrors) else [error]


def is_loopback(host: str) -> bool:
    """Whether a host can mean this machine only. Names other than ``localhost`` cannot be known to."""
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
    """Whether a host means "every address of this machine": fine to listen on, impossible to dial."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def host_and_port(host: str, port: int) -> str:
    """``host:port`` as URLs and Asterisk write it: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_host(host: str) -> str:
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
            raise ValueError(f"{host!r} is not a whole IPv4 address") from None
    return host


def _check_listen_host(host: str) -> str:
    if not host:
        raise ValueError('is empty; use "127.0.0.1" for this machine only or "0.0.0.0" for every address')
    return _check_host(host)


def _check_ari_url(url: str) -> str:
    # No message repeats the URL: a URL with credentials in it must not reach a log.
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL; expected for example http://127.0.0.1:8088") from None
    if parts.scheme in ("ws", "wss"):
        raise ValueError(
            f"starts with {parts.scheme}://; give the http(s):// address, the events socket follows from it"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must start with http:// or https:// and name a host, for example http://127.0.0.1:8088")
    if "@" in parts.netloc:
        raise ValueError("holds a user name or password; put them into ari.user and ari.password")
    if port == 0:
        raise ValueError("has the port 0")
    if parts.query or parts.fragment:
        raise ValueError("holds a query or a fragment; expected only scheme, host and port")
    if re.search(r"\s", url):
        raise ValueError("holds white space")
    return url.rstrip("/").removesuffix("/ari")


def _check_ari_user(user: str) -> str:
    if ":" in user:
        raise ValueError('holds a ":", which HTTP Basic authentication cannot carry')
    return user


def _check_app(app: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]{1,40}", app):
        # The name is a part, between dashes, of the id of every channel that we make: that is how we know ours.
        raise ValueError(f"{app!r} must be 1 to 40 letters, digits and underscores (no dash)")
    return app


def _check_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if len(text) < MIN_TOKEN_CHARACTERS:
        raise ValueError(f"is shorter than {MIN_TOKEN_CHARACTERS} characters; make one with: openssl rand -hex 24")
    if len(text) > 1024:
        raise ValueError("is longer than 1024 characters")
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", text):
        raise ValueError("may hold only letters, digits and ._~+/- (then =): what RFC 6750 allows in a header")
    return token


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Port = Annotated[int, Field(ge=0, le=65535, description="a port number from 0 to 65535 (0 = any free port)")]
ListenHost = Annotated[str, AfterValidator(_check_listen_host), Field(description="an IP address or host name")]
Host = Annotated[str, AfterValidator(_check_host), Field(description="an IP address or host name, or nothing")]
FilePath = Annotated[str, Field(description="the path of a file, or nothing")]
Text = Annotated[str, Field(description="a text")]


class _Section(BaseModel):
    # hide_input_in_errors: pydantic's own message would quote a password that has the wrong type.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class HttpConfig(_Section):
    """The port that applications and people talk to."""

    host: ListenHost = "127.0.0.1"
    port: Port = 8080
    tokens: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(_check_token), Field(description="a text")], ...],
        BeforeValidator(_as_tuple),
        Field(description='a list of texts, for example ["..."]'),
    ] = ()
    """Who knows one of these may use the API. Empty: no authentication, and `host` must be loopback."""
    tls_certificate: FilePath = ""
    """PEM file with the certificate chain; empty: plain HTTP."""
    tls_key: FilePath = ""
    max_message_bytes: Annotated[
        int, Field(ge=1024, le=1 << 30, description="a number of bytes from 1024 to 1073741824")
    ] = 16 * 1024 * 1024
    """Largest WebSocket message that an application may send."""
    max_connections: Annotated[int, Field(ge=1, le=100_000, description="a number from 1 to 100000")] = 1000
    """Connections open at once that are no streams; further ones are closed at once."""


class AudioSocketConfig(_Section):
    """The port that Asterisk dials, once for each media leg."""

    bind_host: ListenHost = "127.0.0.1"
    bind_port: Port = 9092
    advertised_host: Host = ""
    """Where Asterisk finds us, when that is not `bind_host`: containers, NAT, several networks."""
    advertised_port: Port = 0
    """The port that Asterisk dials; 0: the one that we listen on."""
    handshake_timeout_s: Annotated[float, Field(ge=0.1, le=60, description="a number of seconds from 0.1 to 60")] = 5.0
    """How long a new connection may take to say its UUID."""

    def advertised_address(self, listening_port: int) -> str:
        """``host:port`` for Asterisk to dial; ``listening_port`` is the real one, known once the listener is open."""
        return host_and_port(self.advertised_host or self.bind_host, self.advertised_port or listening_port)


class AriConfig(_Section):
    """How to reach Asterisk's REST interface."""

    url: Annotated[str, AfterValidator(_check_ari_url), Field(description="an http:// or https:// URL")] = (
        "http://127.0.0.1:8088"
    )
    user: Annotated[str, AfterValidator(_check_ari_user), Field(description="a text")] = ""
    password: Annotated[SecretStr, Field(description="a text")] = SecretStr("")
    app: Annotated[str, AfterValidator(_check_app), Field(description="a text")] = "bridge"
    """Name of our Stasis application; also part of the id of every channel and bridge that we make."""


class MediaConfig(_Section):
    """Limits of the audio path."""

    max_queued_ms: Annotated[
        int, Field(ge=200, le=7_200_000, description="a number of milliseconds from 200 to 7200000")
    ] = 600_000
    """Audio of one stream that may wait to be played into the call."""
    playout_lead_ms: Annotated[int, Field(ge=0, le=1000, description="a number of milliseconds from 0 to 1000")] = 60
    """Audio to gather after a pause before it is played: evens out applications whose audio comes at uneven times."""
    max_unsent_ms: Annotated[int, Field(ge=60, le=60_000, description="a number of milliseconds from 60 to 60000")] = (
        1000
    )
    """Audio of one stream that may wait for a slow WebSocket before the oldest is dropped."""
    max_streams: Annotated[int, Field(ge=1, le=100_000, description="a number from 1 to 100000")] = 1000
    ping_interval_s: Annotated[float, Field(ge=1, le=3600, description="a number of seconds from 1 to 3600")] = 20
    """Time between WebSocket pings."""
    websocket: Annotated[Literal["picows", "websockets"], Field(description='"picows" or "websockets"')] = "picows"
    """The library that frames WebSocket messages: picows is fast; websockets is the one to compare with in doubt."""


class LogConfig(_Section):
    """What goes to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description='"debug", "info", "warning" or "error"')
    ] = "info"
    format: Annotated[Literal["text", "json"], Field(description='"text" or "json"')] = "text"


class Config(_Section):
    """The whole configuration. Sections check their own keys; `load` also checks what holds between them."""

    http: HttpConfig = HttpConfig()
    audiosocket: AudioSocketConfig = AudioSocketConfig()
    ari: AriConfig = AriConfig()
    media: MediaConfig = MediaConfig()
    log: LogConfig = LogConfig()

    @property
    def open_files_needed(self) -> int:
        """Descriptors that the process needs when every limit is reached."""
        return self.media.max_streams * FILES_PER_STREAM + self.http.max_connections + FILES_ASIDE


SECTIONS: dict[str, type[_Section]] = {
    "http": HttpConfig,
    "audiosocket": AudioSocketConfig,
    "ari": AriConfig,
    "media": MediaConfig,
    "log": LogConfig,
}


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
        errors += [_as_config_error(detail, origins) for detail in problem.errors(include_url=False)]
    else:
        errors += _contradictions(config)
    if errors:
        raise errors[0] if len(errors) == 1 else ConfigErrors(errors)
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(str(path), f"cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise ConfigError(str(path), f"is not valid TOML: {problem}") from None


def _override(values: dict[str, Any], environ: Mapping[str, str]) -> tuple[list[ConfigError], dict[str, str]]:
    """Put the environment's values into ``values``; the mistakes, and which variable set which key."""
    errors: list[ConfigError] = []
    origins: dict[str, str] = {}
    for name in sorted(environ):
        rest = name.removeprefix(ENVIRONMENT_PREFIX)
        if rest == name or _NOT_OURS.fullmatch(rest):
            continue
        section, _, key = rest.partition("__")
        section, key = section.lower(), key.lower()
        model = SECTIONS.get(section)
        if name != name.upper() or model is None or key not in model.model_fields:
            known = [f"{ENVIRONMENT_PREFIX}{s}__{k}".upper() for s, m in SECTIONS.items() for k in m.model_fields]
            errors.append(ConfigError(name, "is no setting of the bridge" + _nearest(name.upper(), known)))
            continue
        table = values.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = _from_text(environ[name], model.model_fields[key].annotation)
            origins[f"{section}.{key}"] = name
    return errors, origins


def _from_text(text: str, annotation: Any) -> object:
    """An environment variable's text in the type of its key; text that does not fit is left for the model to refuse."""
    if annotation is int and re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
        return int(text)
    if annotation is float and re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]*)?", text.strip()):
        return float(text)
    if get_origin(annotation) is tuple:
        if text.lstrip().startswith("["):
            try:
                return tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                return text
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _as_config_error(detail: Any, origins: Mapping[str, str]) -> ConfigError:
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location[:2]) + "".join(f"[{index}]" for index in location[2:])
    if detail["type"] == "extra_forbidden":
        return ConfigError(key, f"is no known {'section' if len(location) == 1 else 'key'}{_suggest(location)}")
    if len(location) == 1:
        return ConfigError(key, f"must be a section: a line [{key}] with keys below it")
    origin = origins.get(".".join(location[:2]))
    where = f" (set by {origin})" if origin else ""
    if detail["type"] == "value_error":
        return ConfigError(key, f"{detail['ctx']['error']}{where}")
    expected = SECTIONS[location[0]].model_fields[location[1]].description
    if len(location) > 2:
        return ConfigError(key, f"expected a text{where}")
    if location[1] in ("password", "tokens"):
        return ConfigError(key, f"expected {expected}{where}")
    shown = detail["input"]
    shown = json.dumps(shown) if isinstance(shown, bool | str | int | float) else type(shown).__name__
    return ConfigError(key, f"expected {expected}, got {shown}{where}")


def _suggest(location: list[str]) -> str:
    if len(location) == 1:
        homes = [f"{section}.{location[0]}" for section, model in SECTIONS.items() if location[0] in model.model_fields]
        return f"; did you mean {homes[0]}?" if homes else _nearest(location[0], list(SECTIONS))
    section, key = location[:2]
    homes = [f"{other}.{key}" for other, model in SECTIONS.items() if key in model.model_fields]
    return (
        f"; did you mean {homes[0]}?" if homes else _nearest(key, list(SECTIONS[section].model_fields), section + ".")
    )


def _nearest(name: str, known: list[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {prefix}{close[0]}?"
    return f"; known are {', '.join(known)}" if len(known) <= 10 else ""


def _contradictions(config: Config) -> list[ConfigError]:
    """What each key allows but the whole does not."""
    return [*_http_contradictions(config.http), *_audiosocket_contradictions(config), *_ari_contradictions(config.ari)]


def _http_contradictions(http: HttpConfig) -> Iterator[ConfigError]:
    if not http.tokens and not is_loopback(http.host):
        yield ConfigError(
            "http.tokens",
            f"is empty, but http.host {http.host!r} can be reached from other machines: anybody there could listen to"
            ' calls. Set a token (openssl rand -hex 24) or http.host = "127.0.0.1"',
        )
    if bool(http.tls_certificate) != bool(http.tls_key):
        missing, present = ("tls_key", "tls_certificate") if http.tls_certificate else ("tls_certificate", "tls_key")
        yield ConfigError(f"http.{missing}", f"is missing; http.{present} is set, and they go together")
        return
    if not http.tls_certificate:
        return
    for key in ("tls_certificate", "tls_key"):
        try:
            with Path(getattr(http, key)).open("rb") as file:
                file.read(1)
        except OSError as problem:
            yield ConfigError(f"http.{key}", f"{getattr(http, key)!r} cannot be read: {problem.strerror}")
            return
    try:
        # The password callback keeps OpenSSL from asking for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(http.tls_certificate, http.tls_key, lambda: "")
    except (ssl.SSLError, ValueError) as problem:
        yield ConfigError(
            "http.tls_certificate",
            f"and http.tls_key cannot be used together ({getattr(problem, 'reason', None) or problem});"
            " expected a PEM certificate chain and its unencrypted PEM key",
        )


def _audiosocket_contradictions(config: Config) -> Iterator[ConfigError]:
    audiosocket, http = config.audiosocket, config.http
    if is_wildcard(audiosocket.advertised_host):
        yield ConfigError(
            "audiosocket.advertised_host",
            f"{audiosocket.advertised_host!r} cannot be dialled; expected the address where Asterisk finds this host",
        )
    elif is_wildcard(audiosocket.bind_host) and not audiosocket.advertised_host:
        yield ConfigError(
            "audiosocket.advertised_host",
            f"is empty, but audiosocket.bind_host is {audiosocket.bind_host!r}, which nobody can dial; expected the"
            " address at which Asterisk reaches this host",
        )
    same_host = http.host == audiosocket.bind_host or is_wildcard(http.host) or is_wildcard(audiosocket.bind_host)
    if http.port and http.port == audiosocket.bind_port and same_host:
        yield ConfigError("audiosocket.bind_port", f"{http.port} is also http.port; they need two ports")


def _ari_contradictions(ari: AriConfig) -> Iterator[ConfigError]:
    if not ari.user:
        yield ConfigError("ari.user", "is empty; expected the name of a user in Asterisk's ari.conf")
    if not ari.password.get_secret_value():
        yield ConfigError("ari.password", "is empty; expected that user's password in Asterisk's ari.conf")
