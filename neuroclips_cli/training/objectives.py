"""What each phase minimises, as modules (so that every parallel wrapper of Accelerate works)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from neuroclips_cli.losses import bimixco_loss, draw_mix, mix_rows, perception_loss, reftm_loss
from neuroclips_cli.models.perception import Perception
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import Semantics

Decode = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From the samples' ``fmri`` to the prior's condition and the contrastive tokens."""


def flat_unit(tokens: Tensor) -> Tensor:
    """Tokens ``(batch, tokens, dim)`` as one unit row per sample."""
    return F.normalize(tokens.flatten(1).float(), dim=-1)


class PerceptionObjective(nn.Module):
    """Eq. 1 on a batch of scans and latents.

    Parameters
    ----------
    model : Perception
        What is trained.
    temperature, contrast_weight : float
        Of the contrastive term.
    """

    def __init__(self, model: Perception, temperature: float, contrast_weight: float) -> None:
        super().__init__()
        self.model = model
        self.temperature, self.contrast_weight = temperature, contrast_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return ``loss``, ``error`` (MAE) and ``contrast`` of ``fmri`` and ``latents``."""
        predicted = self.model(batch["fmri"]).float()
        loss, error, contrast = perception_loss(
            predicted, batch["latents"], self.temperature, self.contrast_weight
        )
        return {"loss": loss, "error": error, "contrast": contrast}


class ContrastiveObjective(nn.Module):
    """Phase 1: BiMixCo (Eq. 8) between contrastive tokens and the keyframe's CLIP tokens.

    Parameters
    ----------
    model : Semantics
        Its diffusion prior is not touched.
    decode : Decode
        The model itself, or its ``decode`` where the samples went through the ridge layer before.
    temperature, mixco_beta : float
        Of BiMixCo.
    """

    def __init__(
        self, model: Semantics, decode: Decode, temperature: float, mixco_beta: float
    ) -> None:
        super().__init__()
        self.model, self.decode = model, decode
        self.temperature, self.mixco_beta = temperature, mixco_beta

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return ``loss`` of ``fmri`` and ``tokens``."""
        mix = draw_mix(len(batch["fmri"]), self.mixco_beta, batch["fmri"].device)
        _, contrastive = self.decode(mix_rows(batch["fmri"], mix))
        loss = bimixco_loss(
            flat_unit(contrastive), flat_unit(batch["tokens"]), self.temperature, mix
        )
        return {"loss": loss}


class PriorObjective(nn.Module):
    """Phase 2: Eq. 4, BiMixCo + delta prior + mu Reftm.

    MixCo mixes about half of the scans. A mixed scan has no keyframe of its own, so the prior and
    Reftm learn from the unmixed half of the batch.

    Parameters
    ----------
    model : Semantics
        Trained whole.
    decode : Decode
        As above.
    projector : TokenProjector
        Frozen.
    temperature, mixco_beta : float
        Of BiMixCo; Reftm uses the same temperature.
    prior_weight, reftm_weight : float
        delta and mu of Eq. 4.
    """

    def __init__(
        self,
        model: Semantics,
        decode: Decode,
        projector: TokenProjector,
        *,
        temperature: float,
        mixco_beta: float,
        prior_weight: float,
        reftm_weight: float,
    ) -> None:
        super().__init__()
        self.model, self.decode, self.projector = model, decode, projector
        self.temperature, self.mixco_beta = temperature, mixco_beta
        self.prior_weight, self.reftm_weight = prior_weight, reftm_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return ``loss``, ``contrast``, ``prior``, ``reftm`` of ``fmri``, ``tokens``, ``text``."""
        mix = draw_mix(len(batch["fmri"]), self.mixco_beta, batch["fmri"].device)
        brain, contrastive = self.decode(mix_rows(batch["fmri"], mix))
        tokens = batch["tokens"]
        contrast = bimixco_loss(flat_unit(contrastive), flat_unit(tokens), self.temperature, mix)
        pure = (~mix.selected).nonzero().flatten()
        if not len(pure):
            pure = mix.selected.nonzero().flatten()
        prior, predicted = self.model.diffusion_prior(brain[pure], tokens[pure])
        reftm = reftm_loss(self.projector(predicted.float()), batch["text"][pure], self.temperature)
        loss = contrast + self.prior_weight * prior + self.reftm_weight * reftm
        return {"loss": loss, "contrast": contrast, "prior": prior, "reftm": reftm}
