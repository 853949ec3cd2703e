"""The practice world and its simulated brain."""
