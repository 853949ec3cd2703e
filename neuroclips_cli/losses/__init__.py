"""What the two reconstructors minimise (paper equations 1, 8, 9, 10)."""

from neuroclips_cli.losses.contrastive import (
    frame_info_nce,
    info_nce,
    reftm_loss,
    soft_clip_loss,
    soft_contrastive_loss,
)
from neuroclips_cli.losses.mixco import Mix, bimixco_loss, draw_mix, mix_rows
from neuroclips_cli.losses.perception import perception_loss

__all__ = [
    "Mix",
    "bimixco_loss",
    "draw_mix",
    "frame_info_nce",
    "info_nce",
    "mix_rows",
    "perception_loss",
    "reftm_loss",
    "soft_clip_loss",
    "soft_contrastive_loss",
]
