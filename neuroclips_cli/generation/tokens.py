"""Image tokens of a clip, drawn from the diffusion prior with the clip's own random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from neuroclips_cli.runtime.seeding import draw

if TYPE_CHECKING:
    from neuroclips_cli.models.semantics import Semantics


@torch.inference_mode()
def sample_tokens(
    semantics: Semantics, fmri: torch.Tensor, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Decode scans to image tokens through the prior.

    Where the settings ask for several draws, their average tends to the expected tokens, which
    a single draw of a prior trained on few clips misses by its noise; where they set a
    ``token_pca_rank``, what no training film has in its tokens is taken out.

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
    return _drawn(semantics, brain, generators)


@torch.inference_mode()
def sample_without_scans(
    semantics: Semantics, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Draw image tokens from the prior with its learned null condition.

    Parameters
    ----------
    semantics, generators
        As in :func:`sample_tokens`.

    Returns
    -------
    torch.Tensor
        float32 (clips, tokens, dim).
    """
    nothing = semantics.diffusion_prior.net.null_brain_embeds
    return _drawn(semantics, nothing.expand(len(generators), *nothing.shape), generators)


def _drawn(
    semantics: Semantics, brain: torch.Tensor, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    steps, draws = semantics.sampling_steps, semantics.draws
    noise = draw(generators, (draws, steps + 1, *brain.shape[1:]), str(brain.device)).flatten(0, 1)
    drawn = semantics.diffusion_prior.sample(
        brain.repeat_interleave(draws, dim=0),
        steps=steps,
        start=noise[:, 0],
        step_noise=noise[:, 1:].transpose(0, 1),
    )
    return semantics.token_subspace(drawn.unflatten(0, (-1, draws)).mean(dim=1))
