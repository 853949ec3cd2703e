"""From fMRI to fluent video: an open implementation of NeuroClips (NeurIPS 2024)."""

__version__ = "0.1.0"
