"""Training of the embedded backbones on the practice world."""
