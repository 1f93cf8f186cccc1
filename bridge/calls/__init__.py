"""The model of the calls of the PBX, built from the events of ARI."""
