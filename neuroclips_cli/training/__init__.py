"""Training of the two reconstructors: samples, targets, objectives, optimizer, loop."""
