"""The sections that every bridge has: its two ports, Asterisk, limits of the audio path, the log."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from bridge.config.values import (
    FilePath,
    Host,
    ListenHost,
    Networks,
    Port,
    Section,
    as_tuple,
    check_ari_url,
    check_ari_user,
    check_audit_output,
    check_origin,
    check_token,
    host_and_port,
    matching,
)

_APP_NAME = matching(r"[A-Za-z0-9_]{1,40}", "must be 1 to 40 letters, digits and underscores (no dash)")
"""A part, between dashes, of the id of every channel that we create: that is how we know ours."""


class HttpConfig(Section):
    """The port that applications and people talk to."""

    host: ListenHost = "127.0.0.1"
    port: Port = 8080
    tokens: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(check_token), Field(description="a string")], ...],
        BeforeValidator(as_tuple),
        Field(description='a list of strings, for example ["..."]'),
    ] = ()
    """Tokens with all scopes. Without any, and without `[[tokens]]`, the first start creates one."""
    authentication: Annotated[bool, Field(description="true or false")] = True
    """Whether a token is needed. Without, `host` must be loopback, and every program of this machine may do all."""
    allowed_origins: Annotated[
        tuple[Annotated[str, AfterValidator(check_origin), Field(description="a string")], ...],
        BeforeValidator(as_tuple),
        Field(description='a list of origins, for example ["https://dashboard.example.org"]'),
    ] = ()
    """Web pages of other servers that may use the API from browsers, with a token."""
    trusted_proxies: Networks = ()
    """Proxies whose `X-Forwarded-For` or `Forwarded` names the client."""
    tls_certificate: FilePath = ""
    """PEM file with the certificate chain; empty: plain HTTP."""
    tls_key: FilePath = ""
    tls_client_ca: FilePath = ""
    """PEM file with the authorities of client certificates; empty: clients need none."""
    max_message_bytes: Annotated[
        int, Field(ge=1024, le=1 << 30, description="a number of bytes from 1024 to 1073741824")
    ] = 16 * 1024 * 1024
    """Largest WebSocket message that an application may send."""
    max_text_bytes: Annotated[
        int, Field(ge=1024, le=1 << 30, description="a number of bytes from 1024 to 1073741824")
    ] = 1024 * 1024
    """Largest text message of them: JSON is parsed in one go, and all calls wait for it."""
    max_connections: Annotated[int, Field(ge=1, le=100_000, description="a number from 1 to 100000")] = 1000
    """Connections open at once that are no streams; further ones are closed at once."""


class AudioSocketConfig(Section):
    """The port that Asterisk dials, once for each media leg."""

    bind_host: ListenHost = "127.0.0.1"
    bind_port: Port = 9092
    advertised_host: Host = ""
    """Where Asterisk finds us, when that is not `bind_host`: containers, NAT, several networks."""
    advertised_port: Port = 0
    """The port that Asterisk dials; 0: the one that we listen on."""
    handshake_timeout_s: Annotated[float, Field(ge=0.1, le=60, description="a number of seconds from 0.1 to 60")] = 5.0
    """How long a new connection may take to say its UUID."""
    allowed: Networks = ()
    """Networks that may connect. Empty: the addresses of `ari.url`'s host and this machine; from elsewhere a connection
    must name a UUID that the bridge has ordered."""
    max_unordered: Annotated[int, Field(ge=0, le=100_000, description="a number from 0 to 100000")] = 200
    """Streams that `uuid:` routes of the dialplan may have open at once."""

    def advertised_address(self, listening_port: int) -> str:
        """``host:port`` for Asterisk to dial; ``listening_port`` is the real one, known once the listener is open."""
        return host_and_port(self.advertised_host or self.bind_host, self.advertised_port or listening_port)


class AriConfig(Section):
    """How to reach Asterisk's REST interface."""

    url: Annotated[str, AfterValidator(check_ari_url), Field(description="an http:// or https:// URL")] = (
        "http://127.0.0.1:8088"
    )
    user: Annotated[str, AfterValidator(check_ari_user), Field(description="a string")] = ""
    password: Annotated[SecretStr, Field(description="a string")] = SecretStr("")
    ca_file: FilePath = ""
    """PEM file with the authority to trust instead of those of the system, for ``https://``."""
    app: Annotated[str, _APP_NAME, Field(description="a string")] = "bridge"
    """Name of our Stasis application; also part of the id of every channel and bridge that we make."""


class MediaConfig(Section):
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
    refuse_late_ms: Annotated[int, Field(ge=0, le=1000, description="a number of milliseconds from 0 to 1000")] = 40
    """Lateness of audio from which the process is overloaded and refuses new calls and streams; 0: it never is."""
    refuse_from: Annotated[int, Field(ge=1, le=100_000, description="a number from 1 to 100000")] = 10
    """Calls and streams of the process below which an overload refuses nothing."""
    ping_interval_s: Annotated[float, Field(ge=1, le=3600, description="a number of seconds from 1 to 3600")] = 20
    """Time between WebSocket pings."""
    coalesce_ms: Annotated[float, Field(ge=0, le=5, description="a number of milliseconds from 0 to 5")] = 1.0
    """How long after a wake-up the process may wait for more frames, to handle them together, while it is not busy."""


class AuditConfig(Section):
    """Who did what, and who listened, as JSON lines (docs/reference/audit-log.md)."""

    output: Annotated[str, AfterValidator(check_audit_output), Field(description="a string")] = "stdout"
    """`"stdout"`, `"off"`, or the path of a file, which begins with a slash."""


class LogConfig(Section):
    """What goes to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description='"debug", "info", "warning" or "error"')
    ] = "info"
    format: Annotated[Literal["text", "json"], Field(description='"text" or "json"')] = "text"
