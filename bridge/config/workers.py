"""The section ``[workers]``: how many processes share the work of one instance."""

from typing import Annotated

from pydantic import Field

from bridge.config.values import Section

MAX_WORKERS = 64


class WorkersConfig(Section):
    """Processes that share one HTTP port; each has its own AudioSocket port and Stasis application."""

    count: Annotated[int, Field(ge=1, le=MAX_WORKERS, description=f"a number from 1 to {MAX_WORKERS}")] = 1
    """Processes that carry calls; about one for each core. With 2 or more, `serve` starts and watches them. They share
    `http.port`; the first one listens for Asterisk on `audiosocket.bind_port`, the second one on the next port, ...
    (likewise `advertised_port`)."""
