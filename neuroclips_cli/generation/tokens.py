"""Image tokens of a clip, drawn from the diffusion prior with the clip's own random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from neuroclips_cli.generation.seeds import draw

if TYPE_CHECKING:
    from neuroclips_cli.models.semantics import Semantics


@torch.inference_mode()
def sample_tokens(
    semantics: Semantics, fmri: torch.Tensor, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Decode scans to image tokens through the prior.

    Parameters
    ----------
    semantics : Semantics
        Trained Semantics Reconstructor.
    fmri : torch.Tensor
        float32 (clips, voxels).
    generators : sequence of torch.Generator
        One per clip.

    Returns
    -------
    torch.Tensor
        float32 (clips, tokens, dim), in the scale of the CLIP model's tokens.
    """
    brain, _ = semantics(fmri)
    steps = semantics.sampling_steps
    noise = draw(generators, (steps + 1, *brain.shape[1:]), str(brain.device))
    return semantics.diffusion_prior.sample(
        brain, steps=steps, start=noise[:, 0], step_noise=noise[:, 1:].transpose(0, 1)
    )
