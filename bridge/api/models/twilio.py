"""The supported part of Twilio's REST API: one call."""

from typing import Annotated

from pydantic import Field

from bridge.api.models.base import Body, Shown, maybe


class TwilioUpdate(Body):
    """A form with exactly one of two fields."""

    Status: str = maybe()
    """`completed` or `canceled` ends the call."""
    Twiml: Annotated[str, Field(max_length=4000)] = maybe()
    """A document with `<Hangup/>` or `<Dial>number</Dial>`."""


class TwilioCall(Shown):
    """A call in Twilio's shape; null where Asterisk has no equivalent."""

    sid: str
    account_sid: str
    api_version: str
    date_created: str | None
    date_updated: str | None
    start_time: str | None
    end_time: str | None
    duration: str | None
    direction: str
    from_: Annotated[str, Field(alias="from")]
    from_formatted: str
    to: str
    to_formatted: str
    status: str
    parent_call_sid: str | None
    price: str | None
    price_unit: str | None
    uri: str


class TwilioError(Shown):
    """An error in Twilio's shape."""

    code: int
    """Twilio's error code."""
    message: str
    more_info: str
    status: int
