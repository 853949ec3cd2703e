"""Trainable networks: Perception and Semantics Reconstructor, diffusion prior, matcher."""
