"""Training objectives, one module per phase (so that every wrapper of Accelerate works)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroclips_cli.losses import (
    Mix,
    auxiliary_loss,
    bimixco_loss,
    draw_mix,
    mix_rows,
    perception_loss,
    prior_loss,
    reftm_loss,
    soft_clip_loss,
)
from neuroclips_cli.losses.contrastive import annealed_temperature
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.models.subject_scans import Scans, SubjectScans
from neuroclips_cli.runtime.precision import in_float32, to_device
from neuroclips_cli.training.batch_sharding import BatchShard
from neuroclips_cli.training.batches import SampleBatch
from neuroclips_cli.training.samples import derived_seed

if TYPE_CHECKING:
    from neuroclips_cli.models.released.perception import PublishedPerception

Decode = Callable[[Scans], tuple[Tensor, Tensor]]
"""From the samples' ``fmri`` to the prior's condition and the contrastive tokens."""


@in_float32
def flat_unit(tokens: Tensor) -> Tensor:
    """Flatten tokens to one unit row per sample.

    Parameters
    ----------
    tokens : Tensor
        ``(batch, tokens, dim)``.

    Returns
    -------
    Tensor
        float32 ``(batch, tokens * dim)``, Euclidean norm 1; zeros stay zero.

    Examples
    --------
    >>> [round(value, 4) for value in flat_unit(torch.tensor([[[3.0], [4.0]]]))[0].tolist()]
    [0.6, 0.8]
    """
    return F.normalize(tokens.flatten(1), dim=-1)


def draw_in_parts(
    draw: Callable[..., Mix], scans: Scans, beta: float, device: torch.device, **more: float
) -> Mix:
    """Draw a mixing in which no row's partner is another subject's: their voxels differ.

    Parameters
    ----------
    draw : callable
        :func:`draw_mix`, asked once per subject, in their order.
    scans : Tensor or SubjectScans
        Whose rows are mixed.
    beta, device, **more
        Of ``draw``.

    Returns
    -------
    Mix
        Of all rows; partners are counted through all parts.
    """
    if isinstance(scans, Tensor):
        return draw(len(scans), beta, device, **more)
    drawn = [draw(size, beta, device, **more) for size in scans.sizes]
    begins = [0, *accumulate(scans.sizes)]
    return Mix(
        torch.cat([mix.partner + begin for mix, begin in zip(drawn, begins, strict=False)]),
        torch.cat([mix.coefficient for mix in drawn]),
        torch.cat([mix.selected for mix in drawn]),
    )


def mix_in_parts(scans: Scans, mix: Mix) -> Scans:
    """Mix rows with their partners (Eq. 7), each subject's with its own.

    Parameters
    ----------
    scans : Tensor or SubjectScans
        Rows of one subject or of several.
    mix : Mix
        As :func:`draw_in_parts` draws it.
    """
    if isinstance(scans, Tensor):
        return mix_rows(scans, mix)
    parts, begin = [], 0
    for part in scans.parts:
        own = slice(begin, begin + len(part))
        of_part = Mix(mix.partner[own] - begin, mix.coefficient[own], mix.selected[own])
        parts.append(mix_rows(part, of_part))
        begin += len(part)
    return SubjectScans(tuple(parts), scans.averaged)


class Objective(nn.Module):
    """What a phase minimizes: a batch to named scalar losses, ``loss`` among them.

    Attributes
    ----------
    share : BatchShard
        The rows of a batch that this process sends through the network; the losses are those of
        the whole batch in every process.
    seed, epoch, step : int
        Set by the loop: of the phase, of the epoch and of the step in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.share = BatchShard()
        self.seed = self.epoch = self.step = 0

    def generator(self, device: torch.device) -> torch.Generator | None:
        """Return a random generator for this step.

        Parameters
        ----------
        device : torch.device
            Where the draws are made.

        Returns
        -------
        torch.Generator or None
            Seeded by seed, epoch and step; None where a device has none (meta).
        """
        if device.type == "meta":
            return None
        seed = derived_seed("step", self.seed, self.epoch, self.step)
        return torch.Generator(device).manual_seed(seed)


class PerceptionObjective(Objective):
    """Eq. 1 on a batch of scans and latents.

    Parameters
    ----------
    model : nn.Module
        What is trained: scans to latents.
    temperature, contrast_weight : float
        Of the contrastive term.

    See Also
    --------
    AuxiliaryObjective : The released loss.
    neuroclips_cli.losses.perception.perception_loss : The loss itself.
    """

    def __init__(self, model: nn.Module, temperature: float, contrast_weight: float) -> None:
        super().__init__()
        self.model = model
        self.temperature, self.contrast_weight = temperature, contrast_weight

    def forward(self, batch: SampleBatch) -> dict[str, Tensor]:
        """Compute Eq. 1 on a batch.

        Parameters
        ----------
        batch : dict
            ``fmri`` (batch, voxels) and ``latents`` (batch, frames, channels, h, w).

        Returns
        -------
        dict of str to Tensor
            Scalars ``loss``, ``error`` (mean absolute) and ``contrast``.
        """
        total = len(batch["fmri"])
        rows = self.share.rows(total)
        predicted = self.share.whole(self.model(batch["fmri"][rows]).float(), rows, total)
        loss, error, contrast = perception_loss(
            predicted, batch["latents"], self.temperature, self.contrast_weight
        )
        return {"loss": loss, "error": error, "contrast": contrast}


class AuxiliaryObjective(PerceptionObjective):
    """The released loss, see :func:`auxiliary_loss`."""

    def forward(self, batch: SampleBatch) -> dict[str, Tensor]:
        """Compute the released loss on a batch.

        Parameters
        ----------
        batch : dict
            ``fmri`` and ``latents`` as in Eq. 1, and ``maps`` (batch, frames, 2, positions, width).

        Returns
        -------
        dict of str to Tensor
            Scalars ``loss``, ``error`` (mean absolute) and ``contrast``.
        """
        model = cast("PublishedPerception", self.model)
        total = len(batch["fmri"])
        rows = self.share.rows(total)
        decoded = model.with_auxiliary(batch["fmri"][rows])
        predicted, auxiliary = (self.share.whole(x.float(), rows, total) for x in decoded)
        loss, error, contrast = auxiliary_loss(
            predicted,
            batch["latents"],
            auxiliary,
            batch["maps"],
            self.temperature,
            self.contrast_weight,
        )
        return {"loss": loss, "error": error, "contrast": contrast}


class ContrastiveObjective(Objective):
    """Phase 1: BiMixCo (Eq. 8) between contrastive tokens and the keyframe's CLIP tokens.

    Parameters
    ----------
    model : Semantics
        Its diffusion prior is not touched.
    decode : Decode
        The model itself, or its ``decode`` where the samples went through the ridge layer before.
    temperature, mixco_beta : float
        Of BiMixCo.
    projector : TokenProjector, optional
        Frozen; for Reftm on the contrastive tokens, which the released code adds here.
    reftm_weight, reftm_temperature : float
        Of that Reftm (temperature 0: BiMixCo's); without a projector it is left out.
    """

    def __init__(
        self,
        model: Semantics,
        decode: Decode,
        temperature: float,
        mixco_beta: float,
        *,
        projector: TokenProjector | None = None,
        reftm_weight: float = 0.0,
        reftm_temperature: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.decode, self.projector = model, decode, projector
        self.temperature, self.mixco_beta = temperature, mixco_beta
        self.reftm_weight = reftm_weight
        self.reftm_temperature = reftm_temperature or temperature

    def forward(self, batch: SampleBatch) -> dict[str, Tensor]:
        """Compute BiMixCo, and Reftm where there is a projector.

        Parameters
        ----------
        batch : dict
            ``fmri`` (batch, voxels), ``tokens`` (batch, tokens, dim) and, with a projector,
            ``text`` (batch, embed_dim).

        Returns
        -------
        dict of str to Tensor
            Scalar ``loss``; with a projector also ``contrast`` and ``reftm``.
        """
        total = len(batch["fmri"])
        scans: Scans = batch["fmri"]
        mix = draw_in_parts(draw_mix, scans, self.mixco_beta, scans.device)
        rows = self.share.rows(total)
        _, contrastive = self.decode(mix_in_parts(scans, mix)[rows])
        contrastive = self.share.whole(contrastive, rows, total)
        loss = bimixco_loss(
            flat_unit(contrastive), flat_unit(batch["tokens"]), self.temperature, mix
        )
        if self.projector is None:
            return {"loss": loss}
        image = self.projector(contrastive)
        reftm = reftm_loss(image, batch["text"], self.reftm_temperature)
        return {"loss": loss + self.reftm_weight * reftm, "contrast": loss, "reftm": reftm}


class PriorObjective(Objective):
    """Phase 2: Eq. 4, BiMixCo + delta prior + mu Reftm.

    Parameters
    ----------
    model : Semantics
        Trained whole.
    decode : Decode
        As above.
    projector : TokenProjector
        Frozen.
    temperature, mixco_beta : float
        Of BiMixCo.
    prior_weight, reftm_weight : float
        delta and mu of Eq. 4.
    reftm_temperature : float
        Of Reftm; 0 takes BiMixCo's.
    softclip_epochs : int
        0 keeps BiMixCo; otherwise nothing is mixed, and the contrast is SoftCLIP whose temperature
        is annealed over so many epochs, as in the released phase 2.

    See Also
    --------
    ContrastiveObjective : Phase 1.

    Notes
    -----
    ``L_SR = L_BiMixCo + delta L_Prior + mu L_Reftm`` (paper 3.2, Eq. 4; paper A: delta 30, mu 1).
    Order of operations in a step:

    1. draw partners and coefficients, mix the scans (Eq. 7);
    2. decode them to the prior's condition and contrastive tokens;
    3. contrast of the whole batch (Eq. 8, or SoftCLIP);
    4. denoise the targets of the unmixed rows (Eq. 9);
    5. Reftm on the denoised tokens (Eq. 10).
    """

    SOFTCLIP = (0.004, 0.0075)

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
        reftm_temperature: float = 0.0,
        softclip_epochs: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.decode, self.projector = model, decode, projector
        self.temperature, self.mixco_beta = temperature, mixco_beta
        self.prior_weight, self.reftm_weight = prior_weight, reftm_weight
        self.reftm_temperature = reftm_temperature or temperature
        self.softclip_epochs = softclip_epochs
        self.draw_mix = draw_mix

    def forward(self, batch: SampleBatch) -> dict[str, Tensor]:
        """Compute Eq. 4 on a batch.

        Parameters
        ----------
        batch : dict
            ``fmri`` (batch, voxels), ``tokens`` (batch, tokens, dim), ``text`` (batch, embed_dim).

        Returns
        -------
        dict of str to Tensor
            Scalars ``loss``, ``contrast``, ``prior`` and ``reftm``.
        """
        share = 0.0 if self.softclip_epochs else 0.5
        total = len(batch["fmri"])
        scans: Scans = batch["fmri"]
        drawn = draw_in_parts(
            self.draw_mix, scans, self.mixco_beta, torch.device("cpu"), share=share
        )
        mix, pure = drawn.to(scans.device), drawn.unmixed()
        rows = self.share.rows(total)
        brain, contrastive = self.decode(mix_in_parts(scans, mix)[rows])
        contrastive = self.share.whole(contrastive, rows, total)
        tokens = batch["tokens"]
        contrast = self._contrast(flat_unit(contrastive), flat_unit(tokens), mix)
        there = to_device(pure, tokens.device)
        clean = tokens[there]
        predicted = self._denoised(brain, clean, pure)
        prior = prior_loss(predicted, clean)
        image = self.projector(predicted)
        reftm = reftm_loss(image, batch["text"][there], self.reftm_temperature)
        loss = contrast + self.prior_weight * prior + self.reftm_weight * reftm
        return {"loss": loss, "contrast": contrast, "prior": prior, "reftm": reftm}

    def _denoised(self, brain: Tensor, tokens: Tensor, pure: Tensor) -> Tensor:
        """Denoise the targets of the rows ``pure``, which lie on the CPU.

        ``brain`` holds this process's rows only.
        """
        drawn = self.model.diffusion_prior.draw(tokens, self.generator(tokens.device))
        found = self.share.places(pure)
        rows = pure[found] - self.share.own().start
        places, rows = (to_device(x, tokens.device) for x in (found, rows))
        own = {name: values[places] for name, values in drawn.items()}
        condition = brain[rows]
        _, predicted = self.model.diffusion_prior(condition, tokens[places], **own)
        return self.share.whole(predicted, places, len(pure))

    def _contrast(self, predictions: Tensor, targets: Tensor, mix: Mix) -> Tensor:
        if not self.softclip_epochs:
            return bimixco_loss(predictions, targets, self.temperature, mix)
        temperature = annealed_temperature(*self.SOFTCLIP, self.epoch, self.softclip_epochs)
        return soft_clip_loss(predictions, targets, temperature)
