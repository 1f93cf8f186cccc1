"""Streams (one WebSocket each) and what starts them."""
