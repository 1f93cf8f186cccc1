"""The table of routes. Which of them are served depends on the services that the backend has."""

from __future__ import annotations

from bridge.api import (
    calls,
    cluster,
    conferences,
    documents,
    flows,
    issuing,
    media_streams,
    plivo,
    recordings,
    status,
    subscriptions,
    telnyx,
    twilio,
    twilio_changes,
    twilio_media,
    verbs,
    yeastar,
)
from bridge.api.backend import Backend
from bridge.api.bodies import BodyLimits
from bridge.api.health import PROBES
from bridge.api.models.events import EventQuery
from bridge.api.models.twilio import (
    TwilioCall,
    TwilioCallList,
    TwilioCreate,
    TwilioError,
    TwilioRecording,
    TwilioRecordingStart,
    TwilioStop,
    TwilioStream,
    TwilioStreamStart,
    TwilioUpdate,
)
from bridge.api.models.yeastar import YeastarResult, YeastarSettings, YeastarToken, YeastarUpdate
from bridge.api.routing import Route

AWAY = ("ASTERISK_UNREACHABLE",)
ACTING = ("CALL_NOT_FOUND", "STATE_INVALID", "OVERLOADED", "ASTERISK_FAILED", *AWAY)
DIALING = ("INVALID_DESTINATION", "DESTINATION_NOT_ALLOWED", "TOKEN_LIMITED")
PLACING = ("INVALID_FLOW", *DIALING, "FLOW_NOT_FOUND", "OVERLOADED", "ASTERISK_FAILED", *AWAY)
CONFERRING = ("CONFERENCE_NOT_FOUND", "STATE_INVALID", "OVERLOADED", "ASTERISK_FAILED", *AWAY)
KEEPING = ("INVALID_SUBSCRIPTION", "SUBSCRIPTION_CONFIGURED", "STATE_NOT_KEPT")

_CALLS, _CALL = "/v1.0/calls", "/v1.0/calls/{id}"
_CONFERENCES, _CONFERENCE = "/v1.0/conferences", "/v1.0/conferences/{id}"
_PARTICIPANT = _CONFERENCE + "/participants/{channel}"
_SUBSCRIPTIONS, _SUBSCRIPTION = "/v1.0/subscriptions", "/v1.0/subscriptions/{id}"
_RECORDINGS, _RECORDING = "/v1.0/recordings", "/v1.0/recordings/{id}"
FLOWS = BodyLimits(size=1 << 19, values=10_000)
"""Limits of a body with a flow: up to 1000 actions, each with a few options and a string of 500 characters."""
_STREAM_TEXT = (
    "Binary WebSocket messages in the encapsulation that the query selects: see docs/reference/media-stream.md."
)

_TICKET_TEXT = (
    "A browser opens the WebSocket with `?ticket=...` instead of a token, once, within 30 s. The direction decides"
    " which scopes the token needs: `streams:listen`, `streams:speak`, or both."
)

_YEASTAR_ERRORS = {401: YeastarResult, 403: YeastarResult, 429: YeastarResult}

ALWAYS = (
    Route("GET", _CALLS, "listCalls", "List calls, newest first", calls.list_calls, "Calls", "calls:read", AWAY),
    Route("GET", _CALL, "getCall", "Get a call", calls.get_call, "Calls", "calls:read", ("CALL_NOT_FOUND", *AWAY),
          text="By its own id or the id of one of its channels. Also returns a call that has ended recently."),
    Route("GET", _CALL + "/media_stream", "openCallMediaStream", "Stream a call's audio", media_streams.media_stream,
          "Streams", "streams:listen", ACTING, websocket=True, text=_STREAM_TEXT,
          audit="stream.start"),
    Route("POST", _CALL + "/tickets", "createCallTicket", "Create a ticket for a call's stream", issuing.for_call,
          "Streams", "streams:listen", ("CALL_NOT_FOUND", *AWAY), audit="ticket.create", text=_TICKET_TEXT),
    Route("GET", "/v1.0/streams", "listStreams", "List open streams", media_streams.list_streams, "Streams",
          "calls:read"),
    *PROBES,
    Route("GET", "/metrics", "getMetrics", "Prometheus metrics", status.prometheus, "Bridge", "metrics",
          content="text/plain"),
    Route("GET", "/", "getStatusPage", "Get the status page", status.page, "Bridge", None, access="public",
          content="text/html", conditional=True),
    Route("GET", "/openapi.json", "getOpenApi", "Get this document", documents.openapi, "Bridge", None, access="public",
          content="application/json", conditional=True),
    Route("GET", "/docs", "getDocs", "Get this document as a page", documents.docs, "Bridge", None, access="public",
          content="text/html", conditional=True),
)  # fmt: skip

CALLING = (
    Route("POST", _CALLS, "createCalls", "Create calls", calls.originate_calls, "Calls", "calls:originate", PLACING,
          limits=FLOWS,
          text="Each answered call runs the flow that `flow_id` names or that `actions` contains; without either, the "
               "call stays connected. Returns as soon as the calls are being dialed.", audit="call.originate"),
    Route("DELETE", _CALL, "deleteCall", "End a call, or discard an ended one", calls.delete_call, "Calls",
          "calls:control", ACTING, audit="call.hangup"),
    Route("POST", _CALL + "/hangup", "hangupCall", "Hang up a call", verbs.hangup, "Calls", "calls:control", ACTING,
          audit="call.hangup"),
    Route("POST", _CALL + "/hold", "holdCall", "Put a call on hold", verbs.hold, "Calls", "calls:control", ACTING,
          audit="call.hold"),
    Route("DELETE", _CALL + "/hold", "resumeCall", "Resume a call", verbs.unhold, "Calls",
          "calls:control", ACTING, audit="call.resume"),
    Route("POST", _CALL + "/unhold", "postCallUnhold", "Resume a call", verbs.unhold, "Calls",
          "calls:control", ACTING, text="The same as `DELETE /v1.0/calls/{id}/hold`.", audit="call.resume"),
    Route("POST", _CALL + "/mute", "muteCall", "Mute a party", verbs.mute, "Calls",
          "calls:control", ACTING, audit="call.mute"),
    Route("DELETE", _CALL + "/mute", "unmuteCall", "Unmute a party", verbs.unmute, "Calls",
          "calls:control", ACTING, audit="call.unmute"),
    Route("POST", _CALL + "/unmute", "postCallUnmute", "Unmute a party", verbs.unmute, "Calls",
          "calls:control", ACTING, text="The same as `DELETE /v1.0/calls/{id}/mute`.", audit="call.unmute"),
    Route("POST", _CALL + "/moh", "startMusicOnHold", "Start music on hold", verbs.moh, "Calls", "calls:control",
          ACTING,
          audit="call.moh"),
    Route("DELETE", _CALL + "/moh", "stopMusicOnHold", "Stop music on hold", verbs.moh_stop, "Calls", "calls:control",
          ACTING,
          audit="call.moh_stop"),
    Route("POST", _CALL + "/silence", "startSilence", "Start silence", verbs.silence, "Calls", "calls:control",
          ACTING, audit="call.silence"),
    Route("DELETE", _CALL + "/silence", "stopSilence", "Stop silence", verbs.silence_stop, "Calls",
          "calls:control", ACTING, audit="call.silence_stop"),
    Route("POST", _CALL + "/talk", "speakText", "Speak text", verbs.talk, "Calls", "calls:control",
          (*ACTING, "SPEECH_FAILED"),
          text="Returns when speech begins.", audit="call.talk"),
    Route("POST", _CALL + "/play", "playSounds", "Play sounds", verbs.play, "Calls", "calls:control",
          (*ACTING, "SOUND_UNAVAILABLE"),
          text="Returns when the first sound begins.", audit="call.play"),
    Route("POST", _CALL + "/dtmf", "sendDtmf", "Send DTMF", verbs.dtmf, "Calls", "calls:control", ACTING,
          text="Returns when the first digit is sent.", audit="call.dtmf"),
    Route("POST", _CALL + "/transfer", "transferCall", "Transfer a call", verbs.transfer, "Calls",
          "calls:control",
          (*ACTING, *DIALING), text="Ends a flow that the call runs. Returns the new call.",
          audit="call.transfer"),
    Route("POST", _CALL + "/recording_start", "startRecording", "Record a call", verbs.recording_start, "Calls",
          "recordings",
          ACTING, audit="recording.start"),
    Route("POST", _CALL + "/recording_stop", "stopRecording", "Stop the newest recording",
          verbs.recording_stop, "Calls", "recordings", ACTING, audit="recording.stop"),
    Route("POST", _CALL + "/sensitive", "startSensitiveMode", "Start sensitive mode", verbs.sensitive, "Calls",
          "calls:control", ACTING,
          text="Until it ends, recordings of the call pause, its streams carry silence in both directions of the "
               "conversation, and DTMF digits are not reported. Call it again to restart the timeout.",
          audit="call.sensitive"),
    Route("DELETE", _CALL + "/sensitive", "stopSensitiveMode", "End sensitive mode", verbs.sensitive_stop, "Calls",
          "calls:control", ACTING, audit="call.sensitive_end"),
    Route("GET", "/v1.0/groupcalls/{id}", "getGroupCall", "Get calls that were created together",
          calls.get_groupcall, "Calls", "calls:read", ("GROUPCALL_NOT_FOUND", *AWAY)),
    Route("GET", _RECORDINGS, "listRecordings", "List recordings, newest first", recordings.list_recordings,
          "Recordings", "recordings", AWAY),
    Route("GET", _RECORDING, "getRecording", "Get a recording", recordings.get_recording, "Recordings",
          "recordings",
          ("RECORDING_NOT_FOUND", *AWAY)),
    Route("GET", _RECORDING + "/file", "getRecordingFile", "Download a recording", recordings.get_file,
          "Recordings", "recordings", ("RECORDING_NOT_FOUND", "STATE_INVALID", "OVERLOADED", "ASTERISK_FAILED", *AWAY),
          content="audio/wav", audit="recording.download"),
    Route("DELETE", _RECORDING, "deleteRecording", "Delete a recording and its file", recordings.delete_recording,
          "Recordings", "recordings", ("RECORDING_NOT_FOUND", "OVERLOADED", "ASTERISK_FAILED", *AWAY),
          audit="recording.delete"),
    Route("GET", "/v1.0/flows", "listFlows", "List the configured flows", flows.list_flows, "Flows", "flows"),
    Route("GET", "/v1.0/flows/{id}", "getFlow", "Get a configured flow", flows.get_flow, "Flows", "flows",
          ("FLOW_NOT_FOUND",)),
)  # fmt: skip

VOXOLOGY = (
    Route("POST", "/v1/Dials/Connect", "createVoxologyCall", "Call a number and run `voxology.flow` when it answers",
          flows.dial_connect, "Voxology", "calls:originate", PLACING, access="voxology", audit="call.originate"),
)  # fmt: skip

CONFERENCES = (
    Route("GET", _CONFERENCES, "listConferences", "List conferences, newest first", conferences.list_conferences,
          "Conferences", "calls:read", AWAY),
    Route("POST", _CONFERENCES, "createConference", "Create a conference", conferences.create_conference, "Conferences",
          "calls:control",
          ("INVALID_CONFERENCE", "TOKEN_LIMITED", "CONFERENCE_EXISTS", "OVERLOADED", "ASTERISK_FAILED", *AWAY),
          audit="conference.create"),
    Route("GET", _CONFERENCE, "getConference", "Get a conference", conferences.get_conference, "Conferences",
          "calls:read",
          ("CONFERENCE_NOT_FOUND", *AWAY)),
    Route("DELETE", _CONFERENCE, "deleteConference", "End a conference", conferences.delete_conference, "Conferences",
          "calls:control",
          CONFERRING, audit="conference.delete"),
    Route("GET", _CONFERENCE + "/participants", "listParticipants", "List the participants of a conference",
          conferences.list_participants, "Conferences", "calls:read", ("CONFERENCE_NOT_FOUND", *AWAY)),
    Route("DELETE", _PARTICIPANT, "kickParticipant", "Remove a participant from a conference", conferences.kick,
          "Conferences",
          "calls:control",
          CONFERRING, success=204, audit="conference.kick"),
    Route("POST", _PARTICIPANT + "/mute", "muteParticipant", "Mute a participant", conferences.mute,
          "Conferences", "calls:control", CONFERRING, audit="conference.mute"),
    Route("DELETE", _PARTICIPANT + "/mute", "unmuteParticipant", "Unmute a participant", conferences.unmute,
          "Conferences", "calls:control", CONFERRING, audit="conference.unmute"),
    Route("POST", _CONFERENCE + "/tickets", "createConferenceTicket", "Create a ticket for a conference's stream",
          issuing.for_conference, "Streams", "streams:listen", ("CONFERENCE_NOT_FOUND", *AWAY), audit="ticket.create",
          text=_TICKET_TEXT),
    Route("GET", _CONFERENCE + "/media_stream", "openConferenceMediaStream", "Stream a conference's audio",
          media_streams.conference_media_stream, "Streams", "streams:listen", CONFERRING, websocket=True,
          text=_STREAM_TEXT, audit="stream.start"),
)  # fmt: skip

SUBSCRIPTIONS = (
    Route("GET", _SUBSCRIPTIONS, "listSubscriptions", "List subscriptions", subscriptions.list_subscriptions,
          "Subscriptions", "subscriptions"),
    Route("POST", _SUBSCRIPTIONS, "createSubscription", "Create a subscription", subscriptions.create_subscription,
          "Subscriptions", "subscriptions", ("SUBSCRIPTION_EXISTS", *KEEPING), success=201,
          audit="subscription.create"),
    Route("GET", _SUBSCRIPTION, "getSubscription", "Get a subscription", subscriptions.get_subscription,
          "Subscriptions", "subscriptions", ("SUBSCRIPTION_NOT_FOUND",)),
    Route("PUT", _SUBSCRIPTION, "replaceSubscription", "Replace a subscription",
          subscriptions.replace_subscription, "Subscriptions", "subscriptions",
          ("SUBSCRIPTION_NOT_FOUND", "SUBSCRIPTION_OF_YEASTAR", *KEEPING), text="Omitted fields get their defaults.",
          audit="subscription.replace"),
    Route("PATCH", _SUBSCRIPTION, "modifySubscription", "Modify a subscription", subscriptions.modify_subscription,
          "Subscriptions", "subscriptions", ("SUBSCRIPTION_NOT_FOUND", "SUBSCRIPTION_OF_YEASTAR", *KEEPING),
          text='Omitted fields keep their values. `{"enabled": true}` works for every subscription.',
          audit="subscription.modify"),
    Route("DELETE", _SUBSCRIPTION, "deleteSubscription", "Delete a subscription", subscriptions.delete_subscription,
          "Subscriptions", "subscriptions", ("SUBSCRIPTION_NOT_FOUND", "SUBSCRIPTION_CONFIGURED", "STATE_NOT_KEPT"),
          success=204,
          text="Ends its streams.", audit="subscription.delete"),
    Route("GET", f"{yeastar.PREFIX}websocketaudiostream/get", "getYeastarSettings", "Get Yeastar's settings",
          yeastar.get_settings, "Yeastar", "subscriptions", access="yeastar", query=YeastarToken,
          answer=YeastarSettings,
          others=_YEASTAR_ERRORS),
    Route("POST", f"{yeastar.PREFIX}websocketaudiostream/update", "updateYeastarSettings", "Update Yeastar's settings",
          yeastar.update_settings, "Yeastar", "subscriptions", access="yeastar", query=YeastarToken, body=YeastarUpdate,
          answer=YeastarResult, others={**_YEASTAR_ERRORS, **dict.fromkeys((400, 408, 413, 415), YeastarResult)},
          audit="subscription.modify"),
)  # fmt: skip

CLUSTER = (
    Route("GET", "/v1.0/cluster/nodes", "listClusterNodes", "List the nodes of the cluster", cluster.list_nodes,
          "Cluster",
          "calls:read",
          ("STORE_UNREACHABLE",)),
    Route("GET", "/v1.0/cluster/calls", "listClusterCalls", "List the calls of all nodes, newest first",
          cluster.list_calls, "Cluster", "calls:read", ("STORE_UNREACHABLE",),
          text="Up to two seconds old. To control a call, send requests to one of its `nodes`."),
    Route("GET", "/v1.0/cluster/calls/{id}", "getClusterCall", "Find a call in the cluster", cluster.get_call,
          "Cluster", "calls:read",
          ("CALL_NOT_FOUND", "STORE_UNREACHABLE")),
)  # fmt: skip

_TWILIO_ERRORS = dict.fromkeys((401, 403, 404, 429, 503), TwilioError)
_TWILIO_BODY_ERRORS = _TWILIO_ERRORS | dict.fromkeys((400, 408, 413, 415), TwilioError)
_TWILIO_ALIASES = ("/" + twilio.PATH,)
"""For clients whose base address ends with a slash."""

TWILIO = (
    Route("GET", twilio.PATH, "getTwilioCall", "Get a call", twilio.get_call, "Twilio", "calls:read",
          access="twilio",
          answer=TwilioCall, others=_TWILIO_ERRORS, aliases=_TWILIO_ALIASES,
          text="Also returns a call that has ended recently."),
    Route("POST", twilio.PATH, "updateTwilioCall", "End or redirect a call", twilio_changes.update_call, "Twilio",
          "calls:control",
          access="twilio", form=TwilioUpdate, answer=TwilioCall,
          others=_TWILIO_BODY_ERRORS, aliases=_TWILIO_ALIASES,
          text="`Status` ends it; `Twiml` or `Url` run another document on it, instead of what it runs now.",
          audit="call.update"),
)  # fmt: skip

TWILIO_CALLING = (
    Route("GET", twilio.CALLS, "listTwilioCalls", "List calls, newest first", twilio.list_calls, "Twilio",
          "calls:read", access="twilio", answer=TwilioCallList, others=_TWILIO_ERRORS, aliases=("/" + twilio.CALLS,),
          text="Query parameters: `To`, `From`, `Status`, `PageSize`, `Page`."),
    Route("POST", twilio.CALLS, "createTwilioCall", "Create a call that runs a document", twilio_changes.create_call,
          "Twilio", "calls:originate", access="twilio", success=201, form=TwilioCreate, answer=TwilioCall,
          others=_TWILIO_BODY_ERRORS, aliases=("/" + twilio.CALLS,), audit="call.originate",
          text="Requires `twilio.originate`. Returns while the call rings."),
    Route("POST", twilio.STREAMS, "startTwilioStream", "Start a one-way stream of a call", twilio_media.start_stream,
          "Twilio", "calls:control", access="twilio", success=201, form=TwilioStreamStart, answer=TwilioStream,
          others=_TWILIO_BODY_ERRORS, aliases=("/" + twilio.STREAMS,), audit="call.update"),
    Route("POST", twilio.STREAM, "stopTwilioStream", "Stop a stream of a call", twilio_media.stop_stream, "Twilio",
          "calls:control", access="twilio", form=TwilioStop, answer=TwilioStream, others=_TWILIO_BODY_ERRORS,
          aliases=("/" + twilio.STREAM,), audit="call.update", text="`stream` is its id or its name."),
    Route("POST", twilio.RECORDINGS, "startTwilioRecording", "Record a call", twilio_media.start_recording, "Twilio",
          "recordings", access="twilio", success=201, form=TwilioRecordingStart, answer=TwilioRecording,
          others=_TWILIO_BODY_ERRORS, aliases=("/" + twilio.RECORDINGS,), audit="recording.start"),
    Route("POST", twilio.RECORDING_OF_CALL, "stopTwilioRecording", "Stop a recording of a call",
          twilio_media.stop_recording, "Twilio", "recordings", access="twilio", form=TwilioStop,
          answer=TwilioRecording, others=_TWILIO_BODY_ERRORS, aliases=("/" + twilio.RECORDING_OF_CALL,),
          audit="recording.stop", text="`recording` is its id, or `Twilio.CURRENT` for the newest."),
    Route("GET", twilio.RECORDING, "getTwilioRecording", "Download a recording", twilio_media.get_recording, "Twilio",
          "recordings", access="twilio", content="audio/wav", others=_TWILIO_ERRORS | {409: TwilioError},
          aliases=("/" + twilio.RECORDING,), audit="recording.download"),
)  # fmt: skip


def routes_of(backend: Backend) -> list[Route]:
    """Return the routes whose services ``backend`` has."""
    found = list(ALWAYS)
    if backend.calling is not None:
        found += CALLING
        if backend.calling.voxology is not None and backend.calling.voxology.api_key.get_secret_value():
            found += VOXOLOGY
    if backend.events is not None:
        found.append(
            Route(
                *("GET", "/v1.0/events", "openEventStream", "Stream events", backend.events, "Events", "events"),
                reasons=("INVALID_EVENT_OPTIONS", "OVERLOADED"),
                websocket=True,
                query=EventQuery,
                audit="events.start",
                text="One text message per event: `id`, `type`, `tm_create`, `data`. Missed events are not sent later.",
            )
        )
        found.append(
            Route("POST", "/v1.0/events/tickets", "createEventTicket", "Create a ticket for events",
                  issuing.for_events, "Events", "events", audit="ticket.create",
                  text="A browser opens `/v1.0/events` with `?ticket=...` instead of a token, once, within 30 s.")
        )  # fmt: skip
    if backend.conferences is not None:
        found += CONFERENCES
    if backend.subscriptions is not None:
        found += SUBSCRIPTIONS
    if backend.cluster is not None:
        found += CLUSTER
    if backend.twilio is not None and backend.twilio.enabled and backend.channels is not None:
        found += TWILIO
        if backend.calling is not None:
            found += TWILIO_CALLING
    if backend.vendors.telnyx.enabled and backend.channels is not None:
        found += telnyx.ROUTES
    if backend.vendors.plivo.enabled and backend.channels is not None:
        found += plivo.ROUTES
    return found
