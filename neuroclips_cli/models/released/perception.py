"""The published Perception Reconstructor: modules, arithmetic and keys of the authors' code.

``perception.network = "published"`` builds it. Its trunk and the reach of its temporal attention
are settings, so that each of the released code's departures from the paper can be taken alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from neuroclips_cli.models.backbone import MIXING, RidgeRegression
from neuroclips_cli.models.inception import make_extension
from neuroclips_cli.models.released.mixer import PublishedMixer
from neuroclips_cli.models.released.video_decoder import VideoDecoder
from neuroclips_cli.models.subject_scans import Scans
from neuroclips_cli.settings.schema import PerceptionSettings

MAP_CHANNELS = 64
"""Channels of the coarse map that the decoder starts from."""
AUXILIARY_CHANNELS = 512
"""Channels of the auxiliary map, those of the ConvNeXt maps it is compared with."""
_MAP_DROPOUT = 0.3
_EXTENSION_DROPOUT = 0.15


class PublishedExtension(PublishedMixer):
    """One scan to one scan per frame, without a path around the MLP.

    It ends in a GELU, so the extended fMRI is hardly ever negative.

    Parameters
    ----------
    voxels, frames, hidden : int
        Length of a scan, Nf, width of the MLP.
    """

    def __init__(self, voxels: int, frames: int, hidden: int) -> None:
        super().__init__(hidden, 1, _EXTENSION_DROPOUT, linears=1)
        self.frames = frames
        self.lin0 = _layer(voxels, hidden)
        self.lin1 = _layer(hidden, frames * voxels)

    def forward(self, fmri: Tensor) -> Tensor:
        """Extend ``(batch, voxels)`` to ``(batch, frames, voxels)``."""
        return self.lin1(super().forward(self.lin0(fmri))).unflatten(-1, (self.frames, -1))


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.GELU(), nn.Dropout(_EXTENSION_DROPOUT))


class PublishedBackbone(PublishedMixer):
    """Trunk, coarse map, auxiliary map and video decoder.

    Parameters
    ----------
    settings : PerceptionSettings
        Sizes, and how the trunk is wired.
    grid : tuple of int
        Height and width of the coarse map (published: 7 x 7).
    latent_channels : int
        Of the VAE.
    """

    def __init__(
        self, settings: PerceptionSettings, grid: tuple[int, int], latent_channels: int
    ) -> None:
        mixing = settings.backbone == MIXING
        super().__init__(settings.hidden, settings.blocks, settings.dropout, mixing=mixing)
        self.grid = grid
        self.blin1 = nn.Linear(settings.hidden, MAP_CHANNELS * prod(grid))
        self.bdropout = nn.Dropout(_MAP_DROPOUT)
        self.bnorm = nn.GroupNorm(1, MAP_CHANNELS)
        self.bupsampler = VideoDecoder(
            MAP_CHANNELS, latent_channels, settings.decoder_channels, settings.layers_per_block
        )
        self.b_maps_projector = nn.Sequential(
            nn.Conv2d(MAP_CHANNELS, AUXILIARY_CHANNELS, 1, bias=False),
            nn.GroupNorm(1, AUXILIARY_CHANNELS),
            nn.ReLU(),
            nn.Conv2d(AUXILIARY_CHANNELS, AUXILIARY_CHANNELS, 1, bias=False),
            nn.GroupNorm(1, AUXILIARY_CHANNELS),
            nn.ReLU(),
            nn.Conv2d(AUXILIARY_CHANNELS, AUXILIARY_CHANNELS, 1),
        )

    def maps(self, x: Tensor) -> Tensor:
        """Return the normalized coarse map ``(rows, 64, h, w)`` of ``(rows, hidden)``."""
        x = self.bdropout(self.blin1(PublishedMixer.forward(self, x)))
        return self.bnorm(x.unflatten(-1, (MAP_CHANNELS, *self.grid)))

    def forward(self, x: Tensor, span: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Decode rows.

        Parameters
        ----------
        x : Tensor
            ``(rows, hidden)``, a row per frame.
        span : int
            Consecutive rows that temporal attention joins; divides the number of rows.

        Returns
        -------
        tuple of Tensor
            Latents ``(rows, channels, height, width)`` and the auxiliary map
            ``(rows, h x w, 512)``.
        """
        maps = self.maps(x)
        auxiliary = self.b_maps_projector(maps).flatten(2).transpose(1, 2)
        return self.bupsampler(maps, span), auxiliary


class PublishedPerception(nn.Module):
    """Extension, ridge layer and backbone under the published keys.

    Parameters
    ----------
    voxels : int or sequence of int
        Length of a scan, of each subject where there are several.
    frames : int
        Nf.
    settings : PerceptionSettings
        Sizes; ``backbone`` and ``attention`` say where the paper's wiring is taken.
    grid : tuple of int
        Height and width of the coarse map.
    latent_channels : int
        Of the VAE.
    average : bool
        Whether there are first layers of an average subject, too.
    """

    def __init__(
        self,
        voxels: int | Sequence[int],
        frames: int,
        settings: PerceptionSettings,
        grid: tuple[int, int],
        latent_channels: int,
        *,
        average: bool = False,
    ) -> None:
        super().__init__()
        self.frames, self.attention = frames, settings.attention
        self.fmri = make_extension(
            lambda size: PublishedExtension(size, frames, settings.inception_hidden),
            voxels,
            average=average,
        )
        self.ridge1 = RidgeRegression(voxels, settings.hidden, average=average)
        self.backbone = PublishedBackbone(settings, grid, latent_channels)

    @property
    def ridge(self) -> RidgeRegression:
        """The ridge layer, whose published name is ``ridge1``."""
        return self.ridge1

    def forward(self, fmri: Scans) -> Tensor:
        """Decode ``(batch, voxels)`` to latents ``(batch, frames, channels, height, width)``."""
        return self.with_auxiliary(fmri)[0]

    def with_auxiliary(self, fmri: Scans) -> tuple[Tensor, Tensor]:
        """Return latents as above and the auxiliary maps ``(batch, frames, h x w, 512)``."""
        rows = self.ridge(self.fmri(fmri)).flatten(0, 1)
        span = len(rows) if self.attention == "batch" else self.frames
        latents, auxiliary = self.backbone(rows, span)
        shape = (len(fmri), self.frames)
        return latents.unflatten(0, shape), auxiliary.unflatten(0, shape)
