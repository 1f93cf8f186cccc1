"""The sections that every instance has: its two ports, Asterisk, limits of the audio path, the log."""

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
    check_lead,
    check_origin,
    check_token,
    host_and_port,
    matching,
)

_APP_NAME = matching(r"[A-Za-z0-9_]{1,40}", "must be 1 to 40 letters, digits and underscores (no dash)")
"""A part, between dashes, of the id of every channel that asterisk-bridge creates, which identifies it."""


class HttpConfig(Section):
    """The port for applications and browsers."""

    host: ListenHost = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """Port to listen on. 0 takes any free port; the log has it."""
    tokens: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(check_token), Field(description="a string")], ...],
        BeforeValidator(as_tuple),
        Field(description='a list of strings, for example ["..."]'),
    ] = ()
    """Tokens that hold every scope. Without any, and without `[[tokens]]`, the first start creates one."""
    authentication: Annotated[bool, Field(description="true or false")] = True
    """Whether a token is required. `false` is for loopback only: any program on this machine may then do everything.
    """
    allowed_origins: Annotated[
        tuple[Annotated[str, AfterValidator(check_origin), Field(description="a string")], ...],
        BeforeValidator(as_tuple),
        Field(description='a list of origins, for example ["https://dashboard.example.org"]'),
    ] = ()
    """Origins of web pages of other servers whose scripts may use the API from a browser (CORS). They need a token, and
    cookies do not count. No patterns."""
    trusted_proxies: Networks = ()
    """Networks of reverse proxies whose `X-Forwarded-For` or `Forwarded` names the client: the rightmost address that
    is not a trusted proxy. From any other sender these headers are ignored."""
    tls_certificate: FilePath = ""
    """PEM file with the certificate chain. With `tls_key` the port serves HTTPS and WSS; empty: plain HTTP."""
    tls_key: FilePath = ""
    """PEM file with the unencrypted key."""
    tls_client_ca: FilePath = ""
    """PEM file with certificate authorities. If set, every client needs a certificate of one of them besides its token,
    health probes too."""
    max_message_bytes: Annotated[
        int, Field(ge=1024, le=1 << 30, description="a number of bytes from 1024 to 1073741824")
    ] = 16 * 1024 * 1024
    """Largest WebSocket message that an application may send. A whole audio file may come in one message: 16 MiB are 17
    minutes of s16le at 8 kHz. Larger ones close the WebSocket with 1009."""
    max_text_bytes: Annotated[
        int, Field(ge=1024, le=1 << 30, description="a number of bytes from 1024 to 1073741824")
    ] = 1024 * 1024
    """Largest text message, which is all that JSON dialects take: JSON is parsed in one piece, and all calls wait for
    it. 1 MiB is 98 s of G.711 in base64. At most `max_message_bytes`."""
    max_connections: Annotated[int, Field(ge=1, le=100_000, description="a number from 1 to 100000")] = 1000
    """Connections open at the same time that are not streams; a further one is closed immediately, except three from
    loopback that may request `/health`. At most a quarter of the descriptors that the process may open (`ulimit -n`).
    An address other than loopback gets at most a quarter of them (but 8) until it sends a token."""


class AudioSocketConfig(Section):
    """The port that Asterisk dials, once for each media leg."""

    bind_host: ListenHost = "127.0.0.1"
    """Address to listen on."""
    bind_port: Port = 9092
    """Port to listen on. 0 takes any free port."""
    advertised_host: Host = ""
    """Address or name by which *Asterisk* reaches this machine: behind NAT, in containers, with several networks.
    Empty: `bind_host`, which then must not be `0.0.0.0` or `::`."""
    advertised_port: Port = 0
    """Port that Asterisk dials, if it differs from the port that is listened on (published container ports). 0: the
    same."""
    handshake_timeout_s: Annotated[float, Field(ge=0.1, le=60, description="a number of seconds from 0.1 to 60")] = 5.0
    """A connection that has not sent its UUID by then is closed."""
    allowed: Networks = ()
    """Networks that may connect. Empty: the addresses of `ari.url`'s host and this machine; from elsewhere a connection
    must name a UUID that asterisk-bridge has ordered. With ARI on loopback and `bind_host` elsewhere (published
    container ports), empty means every address."""
    max_unordered: Annotated[int, Field(ge=0, le=100_000, description="a number from 0 to 100000")] = 200
    """Streams that `uuid:` routes (`[[dialplan]]`) may have open at the same time: each dials an application."""

    def advertised_address(self, listening_port: int) -> str:
        """Return ``host:port`` for Asterisk to dial; ``listening_port``: the actual port of the open listener."""
        return host_and_port(self.advertised_host or self.bind_host, self.advertised_port or listening_port)


class AriConfig(Section):
    """Connection to Asterisk's REST interface."""

    url: Annotated[str, AfterValidator(check_ari_url), Field(description="an http:// or https:// URL")] = (
        "http://127.0.0.1:8088"
    )
    """Asterisk's HTTP server (`http.conf`). With `https://` its certificate is checked. A prefix (`prefix=` in
    `http.conf`) may follow."""
    user: Annotated[str, AfterValidator(check_ari_user), Field(description="a string")] = ""
    """A user of `ari.conf` with `read_only = no`. Required."""
    password: Annotated[SecretStr, Field(description="a string")] = SecretStr("")
    """The user's password. Required."""
    ca_file: FilePath = ""
    """PEM file with the authority to trust instead of the system's, for `https://`."""
    app: Annotated[str, _APP_NAME, Field(description="a string")] = "bridge"
    """Name of the Stasis application, and a part of the id of every channel and mixing bridge that asterisk-bridge
    creates. Two instances on one PBX need two names."""


class MediaConfig(Section):
    """Limits of the audio path."""

    max_queued_ms: Annotated[
        int, Field(ge=200, le=7_200_000, description="a number of milliseconds from 200 to 7200000")
    ] = 600_000
    """Audio of one stream that may wait to be played into its call when a message arrives. Beyond it, messages are
    rejected and counted until less than half of it waits. A message is played completely or not at all; what waits may
    exceed this limit by one message, which `http.max_message_bytes` bounds."""
    playout_lead_ms: Annotated[
        int | dict[str, int],
        BeforeValidator(check_lead),
        Field(description="a number of milliseconds from 0 to 1000, or { min = 20, max = 100 }"),
    ] = Field(default_factory=lambda: {"min": 20, "max": 100})
    """Audio to buffer after a pause before it is played: absorbs the jitter of applications. With `min` and `max` it
    adapts to each application. One number: always as much."""
    max_unsent_ms: Annotated[int, Field(ge=60, le=60_000, description="a number of milliseconds from 60 to 60000")] = (
        1000
    )
    """Audio of one stream that may wait for an application that reads too slowly. Beyond it the oldest is dropped and
    counted; the call never waits."""
    max_streams: Annotated[int, Field(ge=1, le=100_000, description="a number from 1 to 100000")] = 1000
    """Streams open at the same time; the next request returns 503, and a call whose route needs one is rejected before
    it is answered. Each takes up to 3 descriptors."""
    refuse_late_ms: Annotated[int, Field(ge=0, le=1000, description="a number of milliseconds from 0 to 1000")] = 40
    """Lateness of audio above which the process rejects new calls and streams, as it does when it is busy for more than
    75 % of the time. 0: neither."""
    refuse_from: Annotated[int, Field(ge=1, le=100_000, description="a number from 1 to 100000")] = 10
    """Calls and streams of a process below which an overload rejects nothing."""
    ping_interval_s: Annotated[float, Field(ge=1, le=3600, description="a number of seconds from 1 to 3600")] = 20
    """Time between WebSocket pings. An application that sends nothing for two of them is considered disconnected."""
    coalesce_ms: Annotated[float, Field(ge=0, le=5, description="a number of milliseconds from 0 to 5")] = 1.0
    """After a wake-up, the process waits this long for further frames and handles them together: a third less CPU for
    at most this delay. 0: never."""


class AuditConfig(Section):
    """Record of actions and of received audio, as JSON lines (docs/reference/audit-log.md)."""

    output: Annotated[str, AfterValidator(check_audit_output), Field(description="a string")] = "stdout"
    """Where the lines go: `"stdout"`, `"off"`, or the path of a file, which begins with a slash."""


class LogConfig(Section):
    """The log on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description='"debug", "info", "warning" or "error"')
    ] = "info"
    """Least important level that is written. `"debug"` adds every HTTP request, without its query."""
    format: Annotated[Literal["text", "json"], Field(description='"text" or "json"')] = "text"
    """`"json"` writes one object per line, in which each `name=value` field of a message is also a key."""
