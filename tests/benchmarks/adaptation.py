"""A new subject's first layer in closed form, at full width, on random numbers."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np

CLIPS, REPETITIONS, VOXELS, WIDTH, SEGMENTS = 4320, 2, 13447, 4096, 18


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Fit the layer once, its penalty chosen among all."""
    import torch

    from neuroclips_cli.training.closed_form_adaptation import fit_first_layer

    draw = np.random.default_rng(0)
    fmri = draw.standard_normal((CLIPS, REPETITIONS, VOXELS), np.float32)
    latents = draw.standard_normal((CLIPS, WIDTH), np.float32)
    segments = np.repeat(np.arange(SEGMENTS), CLIPS // SEGMENTS)
    began, used = time.perf_counter(), time.process_time()
    fit_first_layer(fmri, segments, latents)
    spent = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    size = f"{CLIPS} clips, {VOXELS} voxels, width {WIDTH}, {torch.get_num_threads()} threads"
    return [
        (f"first layer in closed form, s ({size})", spent[0], ""),
        ("the same, processor time, s", spent[1], ""),
        ("peak memory, GB", peak, ""),
    ]
