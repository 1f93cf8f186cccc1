"""What ``serve`` runs where there are no workers: the whole bridge in this process."""

from __future__ import annotations

from bridge.app.application import Application
from bridge.app.where import say_audiosocket, say_http


class Alone(Application):
    """A bridge that nothing ends but a signal."""

    ended = None

    def say_where(self) -> None:
        """Log where it listens."""
        say_http(self.config, self.http_port)
        say_audiosocket(self.config, self.audiosocket_port)

    def abandon(self) -> None:
        """Nothing is left behind that the next life does not sweep."""
