"""Conferences: their model, the mixing bridges of this process, those of others, and who takes part."""
