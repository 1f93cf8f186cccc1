"""Requests to servers of TwiML as Twilio sends them: a form with the facts of the call, signed.

Sources: twilio.com/docs/voice/twiml ("Twilio's request to your application") and usage/security (2026).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal
from urllib.parse import urlencode

from msgspec import Struct
from yarl import URL

from bridge.calls.call_record import CallRecord, HangupReason
from bridge.config import TwilioConfig
from bridge.dialects.twilio import account_sid, call_sid, signature
from bridge.flows.web import ServerResponse, Web, WebFailed
from bridge.tls import Trust

API_VERSION = "2010-04-01"
TwimlMethod = Literal["POST", "GET"]
UNANSWERED: Mapping[HangupReason, str] = {
    "busy": "busy",
    "noanswer": "no-answer",
    "timeout": "no-answer",
    "cancel": "canceled",
}
"""The vendor's status of an unanswered call, by reason; otherwise ``failed``."""


class TwimlAccount(Struct, frozen=True):
    """The account in whose name requests are sent.

    Args:
        sid: its id.
        token: its secret, which signs requests; empty: they are not signed.
        public_url: where agents reach asterisk-bridge; empty: unknown.
        originate: documents that come over HTTP may dial.
    """

    sid: str = ""
    token: str = ""
    public_url: str = ""
    originate: bool = False

    def __repr__(self) -> str:
        return f"TwimlAccount({self.sid!r})"

    @classmethod
    def of(cls, config: TwilioConfig, installation: str) -> TwimlAccount:
        """Return the configured account.

        Args:
            config: the section.
            installation: name of this installation, from which the id is derived where none is configured.
        """
        token = config.auth_token.get_secret_value()
        return cls(config.account_sid or account_sid(installation), token, config.public_url, config.originate)


def call_status(record: CallRecord | None, *, answered: bool = False) -> str:
    """Return the vendor's status of a call.

    Args:
        record: its record; None: unknown.
        answered: it is answered, although its record may lag behind.
    """
    if record is not None and record.ended:
        if record.tm_progressing is not None:
            return "completed"
        return UNANSWERED.get(record.hangup_reason, "failed")
    if answered or (record is not None and record.tm_progressing is not None):
        return "in-progress"
    if record is not None and record.direction == "outgoing" and record.tm_ringing is None:
        return "queued"
    return "ringing"


def call_parameters(account: TwimlAccount, call_id: str, record: CallRecord | None, status: str) -> dict[str, str]:
    """Return the parameters of every request about a call.

    Args:
        account: the account.
        call_id: the call's id.
        record: its record; None: unknown.
        status: the vendor's.
    """
    source = record.source if record is not None else None
    caller = source.target if source is not None else ""
    called = record.destination.target if record is not None else ""
    found = {
        "CallSid": call_sid(record.id if record is not None else call_id),
        "AccountSid": account.sid,
        "From": caller,
        "To": called,
        "Caller": caller,
        "Called": called,
        "CallStatus": status,
        "ApiVersion": API_VERSION,
        "Direction": "outbound-api" if record is not None and record.direction == "outgoing" else "inbound",
    }
    if source is not None and (name := source.name or source.target_name):
        found["CallerName"] = name
    return found


def rfc2822(moment: float) -> str:
    """Return a time, in seconds since 1970, as the vendor writes it."""
    return format_datetime(datetime.fromtimestamp(moment, UTC))


async def send(
    web: Web,
    account: TwimlAccount,
    method: TwimlMethod,
    url: str,
    parameters: Mapping[str, str],
    *,
    configured: bool = False,
    trust: Trust | None = None,
) -> ServerResponse:
    """Send a signed request with parameters: in a form, or in the URL of a GET.

    Args:
        web: sends it.
        account: signs it.
        method: HTTP method.
        url: where to.
        parameters: of the request.
        configured: the configuration determines the host.
        trust: which certificates to accept.

    Returns:
        The response, of any status.

    Raises:
        WebFailed: the server did not respond.
    """
    headers = {"Accept": "*/*"}
    body: bytes | None = None
    signed: Mapping[str, str] = {}
    url, _, _ = url.partition("#")  # a fragment, which the vendor reads as settings of the request, is not sent
    if method == "GET":
        url += ("&" if "?" in url else "?") + urlencode(parameters)
    else:
        body, signed = urlencode(parameters).encode(), parameters
        headers["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8"
    try:
        url = str(URL(url))  # as it is sent, and as the server reads it
    except ValueError:
        raise WebFailed("not a URL") from None
    if account.token:
        text = url + "".join(f"{name}{value}" for name, value in sorted(signed.items()))
        headers["X-Twilio-Signature"] = signature(account.token, text)
    return await web.ask(method, url, body=body, headers=headers, trust=trust, configured=configured)


def duration_s(began: float | None, ended: float | None) -> int:
    """Return a duration as the vendor reports it: integer seconds.

    Args:
        began: when it began, in seconds since 1970; None: it has not begun, its duration is 0.
        ended: when it ended; None: it lasts until now.
    """
    if began is None:
        return 0
    return max(round((time.time() if ended is None else ended) - began), 0)
