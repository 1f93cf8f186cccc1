"""What each action does: one function in one place, registered under VoIPBIN's name for it."""
