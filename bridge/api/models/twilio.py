"""The supported part of Twilio's REST API: calls, their streams and recordings."""

from typing import Annotated

from pydantic import Field

from bridge.api.models.base import Body, Shown, maybe


class TwilioUpdate(Body):
    """A form with exactly one of `Status`, `Url` and `Twiml`."""

    Status: str = maybe()
    """`completed` or `canceled` ends the call."""
    Twiml: Annotated[str, Field(max_length=4000)] = maybe()
    """A document that the call runs from now on."""
    Url: str = maybe()
    """Where to request a document that the call runs from now on."""
    Method: str = maybe()
    """HTTP method of `Url`: `POST` or `GET`."""
    FallbackUrl: str = maybe()
    """Requested instead when a document is unavailable."""
    FallbackMethod: str = maybe()
    """HTTP method of `FallbackUrl`."""


class TwilioCreate(Body):
    """A form with `To`, `From`, and either `Url` or `Twiml`."""

    To: str
    """A number, `client:extension` or `sip:extension@host`."""
    From: str
    """The number that the called phone shows."""
    Url: str = maybe()
    """Where to request the document that the call runs when it is answered."""
    Twiml: Annotated[str, Field(max_length=4000)] = maybe()
    """The document itself."""
    Method: str = maybe()
    """HTTP method of `Url`: `POST` or `GET`."""
    FallbackUrl: str = maybe()
    """Requested instead when a document is unavailable."""
    FallbackMethod: str = maybe()
    """HTTP method of `FallbackUrl`."""
    StatusCallback: str = maybe()
    """Server that is notified of the call's status."""
    StatusCallbackMethod: str = maybe()
    """HTTP method of `StatusCallback`."""
    StatusCallbackEvent: str = maybe()
    """`initiated`, `ringing`, `answered`, `completed`; may be repeated. By default `completed`."""
    Timeout: str = maybe()
    """Ringing time in seconds."""
    TimeLimit: str = maybe()
    """Maximum duration of the call in seconds."""
    MachineDetection: str = maybe()
    """`Enable`: detect first whether a person or a machine has answered (`AnsweredBy`)."""
    SendDigits: str = maybe()
    """DTMF digits that are sent when the call is answered; `w` waits half a second, `W` a second."""


class TwilioCall(Shown):
    """A call in Twilio's shape; null where Asterisk has no equivalent."""

    sid: str
    account_sid: str
    annotation: str | None
    answered_by: str | None
    api_version: str
    caller_name: str | None
    date_created: str | None
    date_updated: str | None
    direction: str
    duration: str | None
    end_time: str | None
    forwarded_from: str | None
    from_: Annotated[str, Field(alias="from")]
    from_formatted: str
    group_sid: str | None
    parent_call_sid: str | None
    phone_number_sid: str | None
    price: str | None
    price_unit: str | None
    queue_time: str | None
    start_time: str | None
    status: str
    stir_verstat: str | None
    subresource_uris: dict[str, str]
    to: str
    to_formatted: str
    trunk_sid: str | None
    uri: str


class TwilioCallList(Shown):
    """A page of calls."""

    calls: list[TwilioCall]
    first_page_uri: str
    next_page_uri: str | None
    previous_page_uri: str | None
    uri: str
    page: int
    page_size: int
    start: int
    end: int


class TwilioError(Shown):
    """An error in Twilio's shape."""

    code: int
    """Twilio's error code."""
    message: str
    more_info: str
    status: int


class TwilioStreamStart(Body):
    """A form; `Parameter1.Name` and `Parameter1.Value` to `Parameter99` are added to `start`."""

    Url: str
    """The WebSocket of the application."""
    Name: str = maybe()
    """Names the stream, to stop it."""
    Track: str = maybe()
    """`inbound_track`, `outbound_track` or `both_tracks`."""
    StatusCallback: str = maybe()
    """Server that is notified when the stream starts, stops or fails."""
    StatusCallbackMethod: str = maybe()
    """HTTP method of `StatusCallback`."""


class TwilioStop(Body):
    """A form that stops a stream or a recording."""

    Status: str
    """`stopped`."""


class TwilioStream(Shown):
    """A stream in Twilio's shape."""

    sid: str
    account_sid: str
    call_sid: str
    name: str | None
    status: str
    date_updated: str
    uri: str


class TwilioRecordingStart(Body):
    """A form."""

    RecordingStatusCallback: str = maybe()
    """Server that is notified of the recording's status."""
    RecordingStatusCallbackMethod: str = maybe()
    """HTTP method of `RecordingStatusCallback`."""
    RecordingStatusCallbackEvent: str = maybe()
    """`in-progress`, `completed`, `absent`; may be repeated. By default `completed`."""
    RecordingTrack: str = maybe()
    """`inbound`, `outbound` or `both`."""
    RecordingChannels: str = maybe()
    """`mono`."""
    Trim: str = maybe()
    """`do-not-trim`."""


class TwilioRecording(Shown):
    """A recording in Twilio's shape; null where Asterisk has no equivalent."""

    sid: str
    account_sid: str
    api_version: str
    call_sid: str
    channels: int
    conference_sid: str | None
    date_created: str
    date_updated: str
    duration: str | None
    encryption_details: dict[str, str] | None
    error_code: int | None
    price: str | None
    price_unit: str | None
    source: str
    start_time: str
    status: str
    track: str
    uri: str
