"""The load bench: what a call costs in our bridge and in three others, and whether every byte arrives in time."""
