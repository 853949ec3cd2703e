"""Guidance, keyframes, clips and chains of clips."""
