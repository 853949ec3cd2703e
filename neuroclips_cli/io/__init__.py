"""Files: atomic writing, locks, checksums, arrays, tensors and text."""
