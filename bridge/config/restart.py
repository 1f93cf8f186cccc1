"""The section ``[restart]``: what happens to active calls and streams when asterisk-bridge stops."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from bridge.config.values import Section

RESUME = "resume"


def _check_calls(calls: str) -> str:
    if calls != RESUME and not re.fullmatch(r"[^@,\s]{1,80}@[A-Za-z0-9_.-]{1,80}", calls):
        raise ValueError(f'must be "{RESUME}", or an extension and its context, for example "900@from-internal"')
    return calls


class RestartConfig(Section):
    """The behavior at a stop and at the next start."""

    drain_s: Annotated[float, Field(ge=0, le=86_400, description="a number of seconds from 0 to 86400")] = 0
    """How long SIGTERM waits for calls and streams to end, while nothing new is accepted. 0: it ends streams
    immediately."""
    calls: Annotated[str, AfterValidator(_check_calls), Field(description="a string")] = RESUME
    """`"resume"`: the next run continues with the calls that this one controls (flows, originated calls, conferences).
    Or the extension that gets them, with its context: `"900@from-internal"`."""
    wait_s: Annotated[int, Field(ge=5, le=3600, description="a number of seconds from 5 to 3600")] = 60
    """After a stop, Asterisk hangs up the calls that no run has resumed within this many seconds."""

    @property
    def extension(self) -> tuple[str, str] | None:
        """The extension and context that get the calls; None: they are resumed."""
        if self.calls == RESUME:
            return None
        extension, _, context = self.calls.rpartition("@")
        return extension, context
