"""Training of the two reconstructors: samples, targets, objectives, optimiser, loop."""
