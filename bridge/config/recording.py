"""The section ``[recording]``: limits of recordings, and how long they are kept."""

from typing import Annotated

from pydantic import Field

from bridge.config.values import Section

MAX_RECORDING_S = 86_400


class RecordingConfig(Section):
    """Recordings of calls, which are files of Asterisk."""

    max_s: Annotated[
        int, Field(ge=1, le=MAX_RECORDING_S, description=f"a number of seconds from 1 to {MAX_RECORDING_S}")
    ] = MAX_RECORDING_S
    """Longest recording, in seconds. One that requests a longer limit, or none, ends at this one. Time in which it is
    paused does not count."""
    retention_days: Annotated[float, Field(ge=0, le=36_500, description="a number of days from 0 to 36500")] = 0.0
    """Recordings are deleted this many days after they began; once a minute, by one process. 0: they are kept until
    they are deleted."""
    max_total_mb: Annotated[float, Field(ge=0, le=1e9, description="a number of megabytes from 0 to 1000000000")] = 0.0
    """Limit of the size of all recordings: beyond it, new ones are rejected with 503 `OVERLOADED`; none is deleted. 0:
    no limit."""
