"""Frozen networks: where they lie, how they are loaded, what they turn into what."""
