"""Streams (one WebSocket each) and what starts them: subscriptions, clients, the dialplan, flows."""
