"""Image tokens of a clip, sampled from the diffusion prior with the clip's own random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch

from neuroclips_cli.runtime.seeding import randn_per_clip

if TYPE_CHECKING:
    from neuroclips_cli.models.semantics import Semantics


@torch.inference_mode()
def sample_tokens(
    semantics: Semantics, fmri: torch.Tensor, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Decode scans to image tokens, through the prior or, by ``decoded_tokens``, without it.

    Where the settings ask for several samples, their average tends to the expected tokens, which
    a single sample of a prior trained on few clips misses by its noise; where they set a
    ``token_pca_rank``, components that no training film has in its tokens are removed.

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

    See Also
    --------
    sample_without_scans : The prior alone, a lower bound.

    Notes
    -----
    Order of operations:

    1. backbone tokens of the scans; with ``decoded_tokens = "backbone"`` steps 2 and 3 are left
       out;
    2. ``prior_samples`` samples of the prior per clip;
    3. their mean;
    4. projection onto the token subspace, if there is one.
    """
    brain, _ = semantics(fmri)
    if semantics.decoded_tokens == "backbone":
        return cast("torch.Tensor", semantics.token_subspace(brain))
    return _drawn(semantics, brain, generators)


@torch.inference_mode()
def sample_without_scans(
    semantics: Semantics, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Sample image tokens from the prior with its learned null condition.

    Parameters
    ----------
    semantics : Semantics
        Trained Semantics Reconstructor.
    generators : sequence of torch.Generator
        One per clip.

    Returns
    -------
    torch.Tensor
        float32 (clips, tokens, dim).

    See Also
    --------
    sample_tokens : With scans.
    """
    nothing = semantics.diffusion_prior.net.null_brain_embeds
    return _drawn(semantics, nothing.expand(len(generators), *nothing.shape), generators)


def _drawn(
    semantics: Semantics, brain: torch.Tensor, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    steps, draws = semantics.sampling_steps, semantics.draws
    noise = randn_per_clip(
        generators, (draws, steps + 1, *brain.shape[1:]), str(brain.device)
    ).flatten(0, 1)
    drawn = semantics.diffusion_prior.sample(
        brain.repeat_interleave(draws, dim=0),
        steps=steps,
        start=noise[:, 0],
        step_noise=noise[:, 1:].transpose(0, 1),
    )
    return semantics.token_subspace(drawn.unflatten(0, (-1, draws)).mean(dim=1))
