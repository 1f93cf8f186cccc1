"""Taps: the ARI objects behind media legs, how Asterisk opens them, and the sweep of what is left behind."""
