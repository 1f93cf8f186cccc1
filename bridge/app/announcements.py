"""Announces streams and recordings to the parties of the call with a tone, a sound or a sentence."""

from __future__ import annotations

import logging

from bridge.audio.sound import Sound
from bridge.calls.call import CallAnswered, CallEnded, Change
from bridge.calls.tracker import CallTracker
from bridge.conferences.conferences import Conferences, NoSuchConference
from bridge.config.privacy import PrivacyConfig
from bridge.control.call_control import CallControl, NotControlled
from bridge.control.legs import LegEnded
from bridge.control.playback import Players
from bridge.errors import AriError
from bridge.events.hub import Event, Events
from bridge.logs import Fields
from bridge.speech.announcement import Announcements
from bridge.speech.engine import SpeechFailed
from bridge.speech.fetch import SoundUnavailable
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)


class Announcer:
    """Plays announcements. It follows the events, so it does not depend on what started a stream.

    A call that is not answered yet gets its announcement when it is. An announcement also covers streams and recordings
    that start while it is played to the same call.

    Args:
        config: the announcements.
        call_control: plays sounds to calls, also to those outside the Stasis application.
        announcements: the sounds of announcements.
        players: plays sounds to all participants of a conference.
    """

    def __init__(
        self,
        config: PrivacyConfig,
        *,
        events: Events,
        tracker: CallTracker,
        call_control: CallControl,
        announcements: Announcements,
        conferences: Conferences,
        players: Players,
    ) -> None:
        self._said = {"stream_started": config.announce_streams, "recording_started": config.announce_recordings}
        self._tracker = tracker
        self._call_control = call_control
        self._announcements = announcements
        self._conferences = conferences
        self._players = players
        self._unanswered: dict[str, set[str]] = {}
        """Pending announcements, by call."""
        self._playing: set[tuple[str, str]] = set()
        self._tasks = BackgroundTasks("announcements")
        if any(self._said.values()):
            events.subscribe(self._on_event)
            tracker.subscribe(self._on_change)

    async def stop(self) -> None:
        """Stop playback."""
        await self._tasks.stop()

    def _on_event(self, event: Event) -> None:
        announcement = self._said.get(event.type)
        if not announcement:
            return
        conference_id = event.data.get("conference_id")
        if conference_id:
            self._tasks.spawn(self._announce("conference", conference_id, announcement))
            return
        found = self._tracker.find(event.data["call_id"])
        if found is None:
            log.warning(
                "announcement skipped, call not found on the PBX call=%s type=%s", event.data["call_id"], event.type
            )
        elif found[0].answered:
            self._tasks.spawn(self._announce("call", event.data["call_id"], announcement))
        else:
            self._unanswered.setdefault(found[0].id, set()).add(announcement)

    def _on_change(self, change: Change) -> None:
        if isinstance(change, CallAnswered):
            for announcement in self._unanswered.pop(change.call.id, ()):
                self._tasks.spawn(self._announce("call", change.call.id, announcement))
        elif isinstance(change, CallEnded):
            self._unanswered.pop(change.call.id, None)

    async def _announce(self, kind: str, identity: str, announcement: str) -> None:
        if (identity, announcement) in self._playing:
            return
        self._playing.add((identity, announcement))
        try:
            sound = await self._announcements.sound(announcement)
            if kind == "conference":
                await self._play_to_conference(identity, sound)
            else:
                await self._call_control.play(identity, sound.pcm, sound.rate, direction="both")
        except (KeyError, LegEnded, NoSuchConference):
            pass  # the call has just ended
        except (AriError, NotControlled, SpeechFailed, SoundUnavailable) as error:
            log.warning("announcement failed %s error=%s", Fields(**{kind: identity}), error)
        finally:
            self._playing.discard((identity, announcement))

    async def _play_to_conference(self, conference_id: str, sound: Sound) -> None:
        player = self._players.at(self._conferences.tap_point(conference_id))
        try:
            await player.play(sound.pcm, sound.rate)
        finally:
            await player.close()
