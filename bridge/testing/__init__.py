"""A lab for tests: real Asterisk, real softphones, WebSocket peers, and measurements of audio."""
