"""The Semantics Reconstructor: one scan to CLIP image tokens (paper 3.2, B.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from neuroclips_cli.models.backbone import RELEASED, ResidualMLP, RidgeRegression
from neuroclips_cli.models.head import make_head
from neuroclips_cli.models.prior import DiffusionPrior
from neuroclips_cli.models.released.mixer import PublishedMixer
from neuroclips_cli.models.subject_scans import Scans, SubjectScans
from neuroclips_cli.models.token_subspace import TokenSubspace
from neuroclips_cli.settings.schema import SemanticsSettings


class SemanticsBackbone(ResidualMLP):
    """MLP blocks, a linear layer to the tokens, and the contrastive projector per token.

    Parameters
    ----------
    hidden, blocks, dropout
        See :class:`ResidualMLP`.
    tokens, token_dim : int
        Of the CLIP image model.
    rank : int
        Of the layer to the tokens, see :func:`make_head`; 0 for a whole one.
    """

    def __init__(
        self,
        hidden: int,
        blocks: int,
        dropout: float,
        tokens: int,
        token_dim: int,
        *,
        rank: int = 0,
    ) -> None:
        super().__init__(hidden, blocks, dropout)
        self.tokens = tokens
        self.backbone_linear = make_head(hidden, tokens, token_dim, rank)
        self.clip_proj = _contrastive_projector(token_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map the ridge layer's output to tokens.

        Parameters
        ----------
        x : Tensor
            ``(batch, hidden)``.

        Returns
        -------
        backbone : Tensor
            ``(batch, tokens, token_dim)``.
        contrastive : Tensor
            ``(batch, tokens, token_dim)``, for retrieval.
        """
        tokens = self.backbone_linear(super().forward(x)).unflatten(-1, (self.tokens, -1))
        return tokens, self.clip_proj(tokens)


class PublishedSemanticsBackbone(PublishedMixer):
    """The same with the published mixer as its trunk: keys and arithmetic of the checkpoints.

    Parameters
    ----------
    hidden, blocks, dropout, sequence
        See :class:`PublishedMixer`.
    tokens, token_dim : int
        Of the CLIP image model.
    rank : int
        As :class:`SemanticsBackbone`'s.
    """

    def __init__(
        self,
        hidden: int,
        blocks: int,
        dropout: float,
        tokens: int,
        token_dim: int,
        sequence: int = 1,
        *,
        rank: int = 0,
    ) -> None:
        super().__init__(hidden, blocks, dropout, sequence=sequence)
        self.tokens = tokens
        self.backbone_linear = make_head(hidden * sequence, tokens, token_dim, rank)
        self.clip_proj = _contrastive_projector(token_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map the ridge layer's output to tokens, as :class:`SemanticsBackbone` does.

        Parameters
        ----------
        x : Tensor
            ``(batch, hidden)``, or ``(batch, sequence, hidden)``.

        Returns
        -------
        backbone : Tensor
            ``(batch, tokens, token_dim)``.
        contrastive : Tensor
            ``(batch, tokens, token_dim)``, for retrieval.
        """
        tokens = self.backbone_linear(super().forward(x)).unflatten(-1, (self.tokens, -1))
        return tokens, self.clip_proj(tokens)


def _contrastive_projector(dim: int) -> nn.Sequential:
    return nn.Sequential(
        *(layer for _ in range(3) for layer in (nn.LayerNorm(dim), nn.GELU(), nn.Linear(dim, dim)))
    )


class Semantics(nn.Module):
    """Ridge layer, MLP backbone, contrastive projector and diffusion prior.

    Keys follow MindEye2: ``ridge.``, ``backbone.``, ``diffusion_prior.``; with a ``token_pca_rank``
    also ``token_subspace.``.

    Parameters
    ----------
    voxels : int or sequence of int
        Length of a scan, of each subject where there are several: their ridge layers are their
        own, all above is shared.
    settings : SemanticsSettings
        Sizes.
    tokens, token_dim : int
        Of the CLIP image model.
    window : int
        Volumes of a clip.
    average : bool
        Whether there is a ridge layer of an average subject, too.
    """

    def __init__(
        self,
        voxels: int | Sequence[int],
        settings: SemanticsSettings,
        tokens: int,
        token_dim: int,
        *,
        window: int = 1,
        average: bool = False,
    ) -> None:
        super().__init__()
        self.sampling_steps, self.draws = settings.prior_sampling_steps, settings.prior_samples
        self.prior_condition = settings.prior_condition
        self.decoded_tokens = settings.decoded_tokens
        self.ridge = RidgeRegression(voxels, settings.hidden, window=window, average=average)
        released = settings.backbone == RELEASED
        make = PublishedSemanticsBackbone if released else SemanticsBackbone
        self.backbone: SemanticsBackbone | PublishedSemanticsBackbone = make(
            settings.hidden,
            settings.blocks,
            settings.dropout,
            tokens,
            token_dim,
            rank=settings.head_rank,
        )
        self.diffusion_prior = DiffusionPrior(
            token_dim,
            tokens,
            depth=settings.prior_depth,
            heads=settings.prior_heads,
            head_dim=settings.prior_head_dim,
            timesteps=settings.prior_timesteps,
            drop_probability=settings.prior_drop_probability,
            epsilon=settings.prior_norm_epsilon,
        )
        self.token_subspace: nn.Module = nn.Identity()
        if settings.token_pca_rank:
            self.token_subspace = TokenSubspace(settings.token_pca_rank, tokens, token_dim)

    def forward(self, fmri: Scans) -> tuple[Tensor, Tensor]:
        """Decode scans.

        Parameters
        ----------
        fmri : Tensor or SubjectScans
            ``(batch, voxels)`` or ``(batch, window, voxels)``, standardized.

        Returns
        -------
        tuple of Tensor
            The prior's condition (backbone tokens; with ``prior_condition = "contrastive"`` the
            contrastive ones) and contrastive tokens (for retrieval), both
            ``(batch, tokens, token_dim)``.
        """
        return self.decode(self.ridge(fmri))

    def decode(self, x: Scans) -> tuple[Tensor, Tensor]:
        """Decode from the ridge layer's output, as :meth:`forward` does from scans.

        Parameters
        ----------
        x : Tensor or SubjectScans
            ``(batch, hidden)``, of one subject or of several.

        Returns
        -------
        tuple of Tensor
            The prior's condition and contrastive tokens, both ``(batch, tokens, token_dim)``.
        """
        tokens, contrastive = self.backbone(x.joined() if isinstance(x, SubjectScans) else x)
        return (contrastive if self.prior_condition == "contrastive" else tokens), contrastive
