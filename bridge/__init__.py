"""A bridge between Asterisk and WebSocket applications."""

__version__ = "0.1.0"
