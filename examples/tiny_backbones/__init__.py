"""Training of the embedded backbones on the synthetic dataset."""
