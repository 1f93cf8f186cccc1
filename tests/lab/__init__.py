"""Tests on a real Asterisk with real softphones: what is heard is judged, not how many packets came."""
