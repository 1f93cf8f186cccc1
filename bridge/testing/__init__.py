"""A lab for tests: real Asterisk, real softphones, WebSocket peers, and judgements about audio."""
