"""The Perception Reconstructor: one scan to the blurry clip's VAE latents (paper 3.1, B.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.backbone import RELEASED, ResidualMLP, RidgeRegression
from neuroclips_cli.models.inception import InceptionExtension, make_extension
from neuroclips_cli.models.released.mixer import PublishedMixer
from neuroclips_cli.models.subject_scans import Scans
from neuroclips_cli.models.temporal_upsampling import TemporalUpsampling
from neuroclips_cli.settings.schema import PerceptionSettings

if TYPE_CHECKING:
    from neuroclips_cli.models.released.perception import PublishedPerception

PUBLISHED = "published"


def make_perception(
    voxels: int | Sequence[int],
    frames: int,
    settings: PerceptionSettings,
    latent_shape: tuple[int, int, int],
    *,
    window: int = 1,
    average: bool = False,
) -> Perception | PublishedPerception:
    """Build the network that ``perception.network`` names.

    Parameters
    ----------
    voxels : int or sequence of int
        Length of a scan, of each subject where there are several.
    frames : int
        Nf, frames kept of a clip.
    settings : PerceptionSettings
        Kind and sizes.
    latent_shape : tuple of int
        ``(channels, height, width)`` of one frame's VAE latents.
    window : int
        Volumes of a clip.
    average : bool
        Whether there are first layers of an average subject, too.

    Returns
    -------
    Perception or PublishedPerception

    Raises
    ------
    UserError
        If the latents are not ``start_size`` doubled once per further decoder channel, or the
        published network is to read a window.
    """
    if settings.network != PUBLISHED:
        return Perception(voxels, frames, settings, latent_shape, window=window, average=average)
    if window != 1:
        raise UserError(
            'perception.network = "published" reads one volume per clip and the data has '
            f'{window}: set perception.network = "paper", or preprocess with data.window=1'
        )
    # Its layers are diffusers', which takes seconds to import.
    from neuroclips_cli.models.released.perception import PublishedPerception

    grid = _start_grid(settings, latent_shape)
    return PublishedPerception(voxels, frames, settings, grid, latent_shape[0], average=average)


class Perception(nn.Module):
    """Inception Extension, ridge layer, MLP backbone, Temporal Upsampling.

    Parameters
    ----------
    voxels : int or sequence of int
        Length of a scan, of each subject where there are several.
    frames : int
        Nf, frames kept of a clip.
    settings : PerceptionSettings
        Sizes.
    latent_shape : tuple of int
        ``(channels, height, width)`` of one frame's VAE latents.
    window : int
        Volumes of a clip.
    average : bool
        Whether there are first layers of an average subject, too.

    Raises
    ------
    UserError
        If the latents are not ``start_size`` doubled once per further decoder channel.

    Notes
    -----
    Order of operations (paper 3.1): Inception Extension, ridge layer, MLP backbone, a linear layer
    to a coarse grid, one Temporal Upsampling module per decoder channel, convolution to latents.
    The first two work on voxels: of several subjects each has its own, all above is shared.
    """

    def __init__(
        self,
        voxels: int | Sequence[int],
        frames: int,
        settings: PerceptionSettings,
        latent_shape: tuple[int, int, int],
        *,
        window: int = 1,
        average: bool = False,
    ) -> None:
        super().__init__()
        channels = settings.decoder_channels
        self.frames, self.latent_shape = frames, tuple(latent_shape)
        self.start = (channels[0], *_start_grid(settings, latent_shape))
        self.fmri = make_extension(
            lambda size: InceptionExtension(size, frames, settings.inception_hidden),
            voxels,
            average=average,
        )
        self.ridge = RidgeRegression(voxels, settings.hidden, window=window, average=average)
        trunk = PublishedMixer if settings.backbone == RELEASED else ResidualMLP
        self.backbone: nn.Module = trunk(settings.hidden, settings.blocks, settings.dropout)
        cells = self.start[0] * self.start[1] * self.start[2]
        self.to_grid = nn.Linear(settings.hidden, cells)
        self.upsampling = nn.Sequential(
            *(
                TemporalUpsampling(
                    width,
                    channels[min(level + 1, len(channels) - 1)],
                    None if settings.attention == "batch" else frames,
                    settings.layers_per_block,
                    upsample=level + 1 < len(channels),
                )
                for level, width in enumerate(channels)
            )
        )
        self.to_latents = nn.Conv2d(channels[-1], latent_shape[0], 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, fmri: Scans) -> Tensor:
        """Decode scans.

        Parameters
        ----------
        fmri : Tensor or SubjectScans
            ``(batch, voxels)`` or ``(batch, window, voxels)``, standardized.

        Returns
        -------
        Tensor
            ``(batch, frames, channels, height, width)``, VAE latents after the scaling factor.
        """
        x = self.backbone(self.ridge(self.fmri(fmri)).flatten(0, 1))
        x = self.to_grid(x).unflatten(-1, self.start)
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
