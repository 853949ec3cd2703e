"""The Perception Reconstructor: one scan to the blurry clip's VAE latents (paper 3.1, B.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.backbone import ResidualMLP, RidgeRegression
from neuroclips_cli.models.inception import InceptionExtension
from neuroclips_cli.models.temporal_upsampling import TemporalUpsampling
from neuroclips_cli.schema import PerceptionSettings


class Perception(nn.Module):
    """Inception Extension, ridge layer, MLP backbone, Temporal Upsampling.

    Parameters
    ----------
    voxels : int
        Length of a scan.
    frames : int
        Nf, frames kept of a clip.
    settings : PerceptionSettings
        Sizes.
    latent_shape : tuple of int
        ``(channels, height, width)`` of one frame's VAE latents.

    Raises
    ------
    UserError
        If the latents are not ``start_size`` doubled once per further decoder channel.
    """

    def __init__(
        self,
        voxels: int,
        frames: int,
        settings: PerceptionSettings,
        latent_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        channels = settings.decoder_channels
        self.frames, self.latent_shape = frames, tuple(latent_shape)
        self.start = (channels[0], *_start_grid(settings, latent_shape))
        self.fmri = InceptionExtension(voxels, frames, settings.inception_hidden)
        self.ridge = RidgeRegression(voxels, settings.hidden)
        self.backbone = ResidualMLP(settings.hidden, settings.blocks, settings.dropout)
        cells = self.start[0] * self.start[1] * self.start[2]
        self.to_grid = nn.Linear(settings.hidden, cells)
        self.upsampling = nn.Sequential(
            *(
                TemporalUpsampling(
                    width,
                    channels[min(level + 1, len(channels) - 1)],
                    frames,
                    settings.layers_per_block,
                    upsample=level + 1 < len(channels),
                )
                for level, width in enumerate(channels)
            )
        )
        self.to_latents = nn.Conv2d(channels[-1], latent_shape[0], 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, fmri: Tensor) -> Tensor:
        """Decode scans.

        Parameters
        ----------
        fmri : Tensor
            ``(batch, voxels)``, standardised.

        Returns
        -------
        Tensor
            ``(batch, frames, channels, height, width)``, VAE latents after the scaling factor.
        """
        x = self.backbone(self.ridge(self.fmri(fmri)))
        x = self.to_grid(x).flatten(0, 1).unflatten(-1, self.start)
        x = self.upsampling(x.contiguous(memory_format=torch.channels_last))
        return self.to_latents(x).unflatten(0, (-1, self.frames)).contiguous()


def _start_grid(
    settings: PerceptionSettings, latent_shape: tuple[int, int, int]
) -> tuple[int, int]:
    factor = 2 ** (len(settings.decoder_channels) - 1)
    _, height, width = latent_shape
    if height != settings.start_size * factor or width % factor:
        raise UserError(
            f"perception.start_size {settings.start_size} doubled {len(settings.decoder_channels)}"
            f"-1 times gives no {height} x {width} latents; change perception.start_size or the "
            "number of perception.decoder_channels"
        )
    return height // factor, width // factor
