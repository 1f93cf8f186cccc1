"""Conferences: their model, the mixing bridges of this process and of other workers, and the participants."""
