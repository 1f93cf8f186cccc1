"""Admission of inbound calls: one that cannot be served is rejected before it is answered, at no cost to the caller."""

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
    """Admits calls that enter the Stasis application.

    Args:
        admission: the capacity of the process.
        inbound: determines which calls get a stream.
        flows: determines which calls run a flow.
    """

    def __init__(self, admission: CallAdmission, inbound: InboundCalls, flows: FlowManager) -> None:
        self._admission = admission
        self._inbound = inbound
        self._flows = flows

    def refusal(self, channel: Channel, arguments: Sequence[str]) -> Refusal | None:
        """Return how a call that cannot be served is rejected, and why; None: it is admitted.

        A call that needs a stream reserves one. A call that is already up, because it was answered before or is being
        transferred, is not rejected because of lateness.

        Args:
            channel: the call's channel.
            arguments: the arguments of Stasis().
        """
        if arguments and arguments[0] == CONFERENCE:
            return None  # it was admitted by the process that had it before
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
