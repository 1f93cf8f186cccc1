"""Which calls of the dialplan are served: one that cannot be is refused before it is answered, at nobody's cost."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.ari.model import Channel
from bridge.control.legs import CONFERENCE
from bridge.control.stasis import Refusal
from bridge.errors import Overloaded
from bridge.flows.manager import FlowManager
from bridge.media.call_admission import CallAdmission
from bridge.streams.inbound import InboundCalls


class InboundAdmission:
    """Admits calls that enter our application.

    Args:
        admission: what the process can carry.
        inbound: knows which calls get a stream.
        flows: knows which calls run a flow.
    """

    def __init__(self, admission: CallAdmission, inbound: InboundCalls, flows: FlowManager) -> None:
        self._admission = admission
        self._inbound = inbound
        self._flows = flows

    def refusal(self, channel: Channel, arguments: Sequence[str]) -> Refusal | None:
        """Return what becomes of a call that cannot be served, and why; None: it is admitted.

        A call that needs a stream reserves one. One that is up already, because it was answered before or is
        transferred to us, is not refused because of lateness.

        Args:
            channel: the call.
            arguments: those of Stasis().
        """
        if arguments and arguments[0] == CONFERENCE:
            return None  # it was admitted where it came from
        flow = self._flows.flow_of(channel, arguments)
        route = self._inbound.route_of(channel, arguments) if flow is None else None
        streams = self._inbound.starting + 1 if route is not None else 0
        try:
            self._admission.check(streams, admitted=channel.state == "Up")
        except Overloaded as problem:
            then = flow.config.then if flow is not None else route.then if route is not None else "hangup"
            return then, str(problem)
        if route is not None:
            self._inbound.expect(channel.id)
        return None
