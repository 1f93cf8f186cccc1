"""One worker: the application with a Stasis application and an AudioSocket port of its own, connected to the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.access import PartyNames
from bridge.api.ports import SharedPort
from bridge.api.tickets import VALID_S
from bridge.app.addresses import log_audiosocket
from bridge.app.application import Application
from bridge.app.worker_share import WorkerShare
from bridge.calls.call import Change, PartyChanged
from bridge.calls.journal import journal_file
from bridge.conferences.remote import RemoteConferences
from bridge.config import Config
from bridge.config.streams import NOT_KEPT
from bridge.errors import ConfigError
from bridge.events.hub import Event, Events, as_json
from bridge.tasks import BackgroundTasks, Changed
from bridge.workers.peer_workers import PeerWorkers
from bridge.workers.request_forwarding import RequestForwarder
from bridge.workers.supervisor_client import SupervisorClient
from bridge.workers.ticket_key import read_ticket_key
from bridge.workers.worker_pool import app_of

log = logging.getLogger(__name__)

CONFERENCE_TOLD_S = 2.0
"""How long it may take until a conference that another worker has created is known here."""


class SharedEvents(Events):
    """Publishes only what this worker owns: most of what happens on the PBX is seen by all workers.

    Args:
        worker: the worker.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker
        self._conferences: set[str] = set()
        """This worker's conferences: no other one sees who is in them."""

    def publish(self, type: str, data: Mapping[str, Any]) -> None:
        """Publish an event as `Events.publish` does, if this worker owns it."""
        if type.startswith("call_"):
            ours = self._worker.owns(data["id"])
        elif type in ("dtmf_received", "sensitive_started", "sensitive_ended"):
            ours = self._worker.owns(data["call_id"])
        elif type.startswith("conference_"):
            ours = self._conference_is_ours(type, data)
        else:
            ours = True  # only this worker has this event
        if ours:
            super().publish(type, data)

    def _conference_is_ours(self, type: str, data: Mapping[str, Any]) -> bool:
        identity = data["conference_id"]
        if type == "conference_created" and data["kind"] == "bridge":
            self._conferences.add(identity)
        ours = identity in self._conferences
        if type == "conference_deleted":
            self._conferences.discard(identity)
        return ours or self._worker.view.leads


class Worker:
    """One worker, with ``start`` and ``stop`` like the application.

    Args:
        config: the configuration of all workers.
        number: which worker this is, from 1.
        control: the supervisor's socket; this worker's own is beside it.
        http_port: the shared port.
    """

    def __init__(self, config: Config, number: int, control: Path, http_port: int) -> None:
        count = config.workers.count
        self.view = PeerWorkers(config.ari.app, number, count)
        self._control = control
        self._socket = control.with_name(f"http-{number}")
        self._member = SupervisorClient(self.view, lambda: (self.bridge.load, self.bridge.synchronized))
        self._forwarder = RequestForwarder(self.view, self.owner)
        events = SharedEvents(self)
        self._heard = Events()
        events.subscribe(self._tell_event)
        sharing = WorkerShare(
            number=number,
            count=count,
            app=app_of(config.ari.app, number),
            claims=self._member,
            events=events,
            heard=self._heard,
            port=SharedPort(
                *(http_port, self._socket, self._forwarder.middleware, read_ticket_key(control), self._claim_ticket),
                self._forwarder.operate,
            ),
            conferences=RemoteConferences(
                find=self._conference_elsewhere,
                make=self._make_conference,
                has_leg=lambda channel_id: self.view.holder([channel_id]) not in (None, number),
                on_own=self._member.report_conferences,
            ),
            journal=journal_file(config.streams.state_file, number),
            owns=self.owns,
            leads=lambda: self.view.leads,
        )
        self.bridge = Application(own_config(config, number, control), self._member, sharing)
        self.bridge.stasis.held_elsewhere = self._held_elsewhere
        self.bridge.tracker.subscribe(self._on_change)
        self.bridge.catalog.on_change(self._on_subscriptions)
        self._tasks = BackgroundTasks("worker")
        self._workers_changed = Changed()
        self._elsewhere: set[str] = set()
        """Conferences of other workers."""
        self._member.on_home = self._on_home
        self._member.on_workers = self._on_workers
        self._member.on_event = self._hear_event
        self._member.on_dropped = self._count_dropped
        self._member.on_subscriptions = self._reload

    @property
    def ended(self) -> asyncio.Event:
        """Set when the supervisor has ended: this worker must stop."""
        return self._member.lost

    @property
    def settled(self) -> asyncio.Event:
        """Set as that of the `Application`."""
        return self.bridge.settled

    def log_addresses(self) -> None:
        """Log the AudioSocket address; the supervisor logs that of HTTP."""
        log_audiosocket(self.bridge.config, self.bridge.audiosocket_port)

    @property
    def http_port(self) -> int:
        """The shared port."""
        return self.bridge.http_port

    async def reload(self, config: Config) -> None:
        """Reload as `Application.reload` does."""
        await self.bridge.reload(own_config(config, self.view.number, self._control))

    async def drain(self) -> None:
        """Drain as `Application.drain` does."""
        await self.bridge.drain()

    def abandon(self) -> None:
        """Do nothing: what is left behind is swept by the next run."""

    async def start(self) -> None:
        """Start the application, and report it to the others.

        Raises:
            OSError: a port cannot be bound, or the supervisor does not run.
        """
        self._socket.unlink(missing_ok=True)  # of a previous run
        await self._member.start(self._control)
        await self.bridge.start()
        self._member.up(self._socket)

    async def stop(self) -> None:
        """Stop the application; the end of the connection notifies the others."""
        await self.bridge.stop()
        await self._tasks.stop()
        await self._forwarder.close()
        await self._member.stop()

    async def _claim_ticket(self, nonce: str) -> bool:
        key = f"ticket/{nonce}"
        claimed = await self._member.claim(key)
        if claimed:  # kept for as long as the ticket could be used
            asyncio.get_running_loop().call_later(VALID_S + 1, self._member.release, key)
        else:
            self._member.release(key)
        return claimed

    # Ownership

    def owner(self, identity: str) -> int:
        """Return the worker of a call, by its id or that of one of its channels."""
        found = self.bridge.tracker.find(identity)
        return self.view.owner((identity, *((found[0].id, *found[0].parties) if found else ())))

    def owns(self, identity: str) -> bool:
        """Return whether this worker owns a call."""
        return self.owner(identity) == self.view.number

    def _on_home(self, channel_id: str, number: int) -> None:
        found = self.bridge.tracker.find(channel_id)
        if found is not None:
            self.view.settle(found[0].id, number)  # needed even if the channel has ended

    def _held_elsewhere(self, channel_id: str) -> str | None:
        """Return the mixing bridge in which another worker holds a party: streams of this worker join it."""
        member = self.bridge.tracker.model.member(channel_id)
        bridge_id = member[1].bridge_id if member is not None else None
        maker = self.view.maker(bridge_id) if bridge_id is not None else None
        return bridge_id if maker is not None and maker != self.view.number else None

    def _on_change(self, change: Change) -> None:
        if isinstance(change, PartyChanged) and "bridge_id" in change.fields:
            party_id = change.party.id
            if self.bridge.client_streams.of_party(party_id) and self.owner(party_id) != self.view.number:
                self.bridge.client_streams.party_moved(party_id)

    # Conferences of other workers

    def _conference_elsewhere(self, conference_id: str) -> str | None:
        found = self.view.conference(conference_id)
        return found[1] if found is not None and found[0] != self.view.number else None

    async def _make_conference(self, conference_id: str) -> str | None:
        number = self.view.conference_home(conference_id)
        if number == self.view.number:
            return None
        await self._forwarder.make_conference(number, conference_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONFERENCE_TOLD_S):
                while (found := self._conference_elsewhere(conference_id)) is None:
                    await self._workers_changed.wait()
                return found
        return None

    def _on_workers(self) -> None:
        self._workers_changed.notify()
        self._forwarder.tidy()
        before, self._elsewhere = self._elsewhere, self.view.conferences_elsewhere
        for ended in before - self._elsewhere:
            self.bridge.client_streams.end_conference(ended)

    # Messages from other workers

    def _count_dropped(self) -> None:
        self.bridge.counters.worker_messages_dropped += 1

    def _tell_event(self, event: Event) -> None:
        self._heard.deliver(event)
        self._member.report_event({**as_json(event), **self._participants_of(event)})

    def _hear_event(self, event: Mapping[str, Any]) -> None:
        # Another worker's event of a call may arrive before Asterisk's own: it includes the participants.
        for call_id, (extensions, trunks) in event.get("participants", {}).items():
            self.bridge.participants.learn(call_id, PartyNames(frozenset(extensions), frozenset(trunks)))
        when = datetime.fromisoformat(event["tm_create"]).timestamp()
        self._heard.deliver(Event(event["id"], event["type"], when, event["data"]))

    def _participants_of(self, event: Event) -> dict[str, Any]:
        call_id = event.data.get("id" if event.type.startswith("call_") else "call_id")
        if not call_id or not self.bridge.http.limits_reach:
            return {}
        names = self.bridge.participants.of(call_id)
        return {"participants": {call_id: [sorted(names.extensions), sorted(names.trunks)]}}

    def _on_subscriptions(self) -> None:
        if not self.bridge.catalog.reloading:
            self._member.report_subscriptions()

    def _reload(self) -> None:
        self._tasks.spawn(self._take_subscriptions())

    async def _take_subscriptions(self) -> None:
        try:
            await self.bridge.catalog.reload()
        except ConfigError as problem:
            log.error("reading another worker's change of subscriptions failed error=%s", problem)


def own_config(config: Config, number: int, control: Path) -> Config:
    """Return the configuration of one worker: its AudioSocket port, and the shared file of changes over HTTP."""
    audiosocket = config.audiosocket
    ports = {
        key: port + number - 1 for key in ("bind_port", "advertised_port") if (port := getattr(audiosocket, key)) > 0
    }
    state_file = config.streams.state_file
    if state_file in NOT_KEPT:
        state_file = str(control.with_name("state.sqlite"))  # deleted with the supervisor, not with a worker
    return config.model_copy(
        update={
            "audiosocket": audiosocket.model_copy(update=ports),
            "streams": config.streams.model_copy(update={"state_file": state_file}),
        }
    )
