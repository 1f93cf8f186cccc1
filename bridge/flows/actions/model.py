"""The action ai_talk: a model talks with the call's party."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from bridge.flows.action_registry import ActionFailed, Missing, action
from bridge.flows.action_settings import ActionSettings
from bridge.flows.actions.sound import SwitchOption
from bridge.flows.actions.streams import ApplicationOptions, LongText, ObjectOption
from bridge.flows.options import holds_variables
from bridge.streams.flow_options import FlowTarget, StreamStart, model_target
from bridge.streams.subscription import AUTO
from bridge.validation import KeyedError, suggestion

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run


class AiTalkOptions(ApplicationOptions):
    """Options of ai_talk: the id of a route to a model, or a model's address with its settings."""

    start: ClassVar[str] = "stream"

    ai_id: LongText = ""
    """The id of a `[[dialplan]]` route whose dialect is a model's."""
    agent: ObjectOption = Field(default_factory=dict)
    """With ``url``: how the model is configured, as in a route."""
    duration: Annotated[float, Field(ge=0, le=86_400, description="a number of seconds from 0 to 86400")] = 0
    """Longest conversation in seconds; 0: the model's limits."""
    language: LongText = ""
    """Language of the conversation; empty: as configured."""
    gender: LongText = ""
    """Accepted without effect: voices have names."""
    resume: SwitchOption = False
    """Accepted without effect: a conversation is not stored."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if bool(self.ai_id) == bool(self.url):
            raise KeyedError("ai_id: give either ai_id or url" + (", not both" if self.url else ""))
        if self.url and not holds_variables(self.model_dump()):
            self.target()
        return self

    def target(self, *, configured: bool = False) -> FlowTarget:
        """Return the model at ``url``.

        Args:
            configured: the configuration determines the host.

        Raises:
            KeyedError: an option is invalid; the message names its key.
        """
        agent = {**self.agent, **({"language": self.language} if self.language else {})}
        target = self._target(self.options, configured=configured, layout=AUTO, agent=agent)
        if not target.is_model:
            raise KeyedError(f"dialect: {target.dialect} is not a dialect of models")
        return target


def _missing(options: AiTalkOptions, settings: ActionSettings) -> Missing:
    if options.ai_id and options.ai_id not in settings.models:
        known = sorted(settings.models)
        yield "ai_id", "is not the id of a [[dialplan]] route to a model" + suggestion(options.ai_id, known)


@action("ai_talk", options=AiTalkOptions, needs_audio=True, needs=_missing)
async def ai_talk(run: Run, options: AiTalkOptions) -> None:
    """Let a model talk with the party; continue when the conversation has ended."""
    if options.ai_id:
        route = run.services.settings.models.get(options.ai_id)
        if route is None:
            raise ActionFailed(f"the route {options.ai_id!r} to a model was removed from the configuration")
        target = model_target(route, language=options.language)
    else:
        filled, configured = options.filled(run)
        owner = f"flow:{run.flow_id}" if run.flow_id else f"token:{run.principal.id}"
        target = filled.target(configured=configured).model_copy(update={"owner": owner})
    await run.stop_playback()
    request = StreamStart(target, {"caller": "in"})
    stream = await run.services.streams.stream_start(run.leg, request, run.principal, label="flow:ai_talk")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.duration or None):
            await stream.wait()
    if not stream.ended:
        stream.end("the duration of ai_talk is over")
        await stream.wait()
    if stream.agent is not None and stream.agent.failed:
        raise ActionFailed("the model was unavailable")
