"""A bridge between Asterisk and WebSocket applications."""

try:
    from bridge._version import __version__
except ImportError:  # a checkout that was never built: `./lab setup` writes the file, by packaging/version.py
    __version__ = "0.0.0+unknown"

__all__ = ["__version__"]
