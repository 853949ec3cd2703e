"""The synthetic dataset and its simulated brain."""
