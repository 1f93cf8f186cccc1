"""Peers for tests that need no PBX, over loopback."""
