"""The media path: AudioSocket legs, WebSocket links, and the pump between them."""
