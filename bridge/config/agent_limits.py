"""What a model on a call may do with the tools that act on the call."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from bridge.config.privacy import Announcement
from bridge.config.values import PatternList, Section, Text, as_tuple
from bridge.patterns import Patterns

BUILT_IN_TOOLS = (
    *("transfer", "hang_up", "send_dtmf", "hold"),
    *("set_variable", "extension_state", "conference"),
)
"""Names of the tools that act on the call."""


class AgentLimits(Section):
    """Limits of the tools by which a model acts on the call. Everything else is rejected and audited."""

    tools: Annotated[
        tuple[Text, ...], BeforeValidator(as_tuple), Field(description='a list of names, for example ["transfer"]')
    ] = ()
    """Names of the tools that the model may use: those that act on the call, and ids of `[[tools]]`."""
    transfer_to: PatternList = Patterns()
    """Extensions that the model may transfer the call to, and whose state it may query: `["1001", "20*"]`. Empty:
    none."""
    transfer_mode: Annotated[Literal["any", "blind", "attended"], Field(description='"any", "blind" or "attended"')] = (
        "any"
    )
    """`"attended"`: the colleague gets an announcement and accepts or declines by key, and the caller returns to the
    model unless the colleague accepts. `"blind"`: the caller is connected without asking. `"any"`: the model
    decides."""
    transfer_prompt: Announcement = "To take the call, press 1. To decline, press 2."
    """Played to the colleague after the announcement: `"sound:FILE"` or a sentence."""
    transfer_decision_s: Annotated[float, Field(ge=1, le=300, description="a number of seconds from 1 to 300")] = 20.0
    """How long the colleague may take to decide after the announcement."""
    set_variables: PatternList = Patterns()
    """Names of channel variables that the model may set: `["ORDER_*"]`. Empty: none."""
    conferences: PatternList = Patterns()
    """Ids of conferences that the model may move the caller to. Empty: none."""
    max_hold_s: Annotated[float, Field(ge=1, le=3600, description="a number of seconds from 1 to 3600")] = 300.0
    """The caller is resumed after this time on hold, if the model does not do it before."""
