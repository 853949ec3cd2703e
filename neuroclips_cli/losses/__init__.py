"""Training losses: of the reconstructors (paper equations 1, 4, 8, 9, 10) and of the matcher."""

from neuroclips_cli.losses.contrastive import (
    frame_info_nce,
    info_nce,
    reftm_loss,
    soft_clip_loss,
    soft_contrastive_loss,
)
from neuroclips_cli.losses.matching import matching_loss
from neuroclips_cli.losses.mixco import Mix, bimixco_loss, draw_mix, mix_rows
from neuroclips_cli.losses.perception import auxiliary_loss, latent_error, perception_loss
from neuroclips_cli.losses.prior import prior_loss

__all__ = [
    "Mix",
    "auxiliary_loss",
    "bimixco_loss",
    "draw_mix",
    "frame_info_nce",
    "info_nce",
    "latent_error",
    "matching_loss",
    "mix_rows",
    "perception_loss",
    "prior_loss",
    "reftm_loss",
    "soft_clip_loss",
    "soft_contrastive_loss",
]
