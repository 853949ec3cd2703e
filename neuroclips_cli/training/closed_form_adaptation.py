"""A first layer for a new subject in closed form: ridge regression to latents that others share.

Where a new subject saw films that the training subjects saw too, what their first layers make of
these films is known, and the new layer is the regression from the new scans to that. Nothing
else is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.ridge import FOLDS, segment_folds
from neuroclips_cli.training.cross_fitted_ridge import PENALTIES

_VOXELS = 2048
"""Voxels in one product of float32; the products are added in float64."""
_STRIPS = 6
"""Strips of the Gram matrix, each computed up to the diagonal."""
_SKETCH = 256
"""Wider latents are projected to so many random axes where penalties are compared."""


@dataclass(frozen=True)
class AdaptedLayer:
    """A first layer fitted to shared latents.

    Attributes
    ----------
    weight, bias : numpy.ndarray
        float32 (width, voxels) and (width,).
    penalty : float
        The chosen multiple of a scan's mean squared norm.
    r2 : float
        Share of the latents' variance predicted on segments left out, at most 1.
    clips : int
        Clips that the layer was fitted to.
    """

    weight: np.ndarray
    bias: np.ndarray
    penalty: float
    r2: float
    clips: int

    @property
    def width(self) -> int:
        """Number of outputs."""
        return len(self.weight)


def shared_latents(
    outputs: Sequence[np.ndarray], clips: Sequence[Sequence[str]], wanted: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Average the training subjects' latents of the clips that a new subject saw too.

    Parameters
    ----------
    outputs : sequence of numpy.ndarray
        Per training subject (clips, width): its first layer's outputs, means over repetitions.
    clips : sequence of sequence of str
        Per training subject the names of these clips, each once, alike for one stretch of film.
    wanted : sequence of str
        Names of the new subject's clips.

    Returns
    -------
    rows : numpy.ndarray
        int64 (shared,), the wanted clips that at least one training subject saw, in order.
    latents : numpy.ndarray
        float32 (shared, width), means over the subjects that saw the clip.

    Raises
    ------
    UserError
        If no clip is shared.

    Examples
    --------
    >>> first, second = np.array([[1.0], [2.0]]), np.array([[4.0]])
    >>> rows, latents = shared_latents([first, second], [["a", "b"], ["b"]], ["c", "b", "a"])
    >>> rows.tolist(), latents.tolist()
    ([1, 2], [[3.0], [1.0]])
    """
    places = [{clip: row for row, clip in enumerate(names)} for names in clips]
    rows = [row for row, clip in enumerate(wanted) if any(clip in known for known in places)]
    if not rows:
        raise UserError(
            "the new subject saw no training film that the pooled model's subjects saw: choose "
            "another mode than closed-form, which needs films in common"
        )
    latents = np.empty((len(rows), outputs[0].shape[1]), np.float32)
    for index, row in enumerate(rows):
        seen = [
            output[known[wanted[row]]]
            for output, known in zip(outputs, places, strict=True)
            if wanted[row] in known
        ]
        latents[index] = np.mean(seen, axis=0)
    return np.array(rows), latents


def fit_first_layer(
    fmri: np.ndarray,
    segments: np.ndarray,
    latents: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
) -> AdaptedLayer:
    """Fit a first layer to latents by ridge regression, its penalty chosen on segments left out.

    Parameters
    ----------
    fmri : numpy.ndarray
        (clips, repetitions, voxels), standardized; the fit uses the mean over repetitions.
    segments : numpy.ndarray
        int (clips,). Of a single segment six stretches take the place of the segments.
    latents : numpy.ndarray
        (clips, width).
    penalties : sequence of float
        Tried multiples of a scan's mean squared norm, above 0.

    Returns
    -------
    AdaptedLayer

    Raises
    ------
    UserError
        If there are fewer than two clips.

    See Also
    --------
    neuroclips_cli.training.cross_fitted_ridge.cross_fit_pool : Eq. 3 from scans to tokens.

    Notes
    -----
    Scans X (clips, voxels) and latents Z are centered. With the Gram matrix ``K = X X^T``, the
    penalty ``l = penalty trace(K) / clips`` and ``A = (K + l I)^-1``, the weights are
    ``W = (A Z)^T X`` (the dual form of Eq. 3), and the residuals of the clips f that were left out,
    ``(A_ff)^-1 (A Z)_f``, are those of a regression on all others, without another fit (the block
    form of the leave-one-out formula; Hastie, Tibshirani & Friedman 2009, section 7.10). Penalties
    are compared on at most 256 random projections of the latents. Products and factors are
    float32, sums over blocks of voxels and of squared errors float64.

    Examples
    --------
    >>> scans = np.random.default_rng(0).normal(size=(12, 1, 2))
    >>> layer = fit_first_layer(scans, np.repeat([0, 1, 2], 4), scans[:, 0, :1] + 5, [1e-4])
    >>> bool(np.allclose(layer.weight, [[1, 0]], atol=1e-3)), round(layer.r2, 2)
    (True, 1.0)
    """
    if len(fmri) < 2:
        raise UserError("a first layer needs at least two clips of shared films to be fitted to")
    scans = torch.from_numpy(fmri.mean(axis=1, dtype=np.float32))
    wanted = torch.from_numpy(np.asarray(latents, np.float32))
    scan_mean, latent_mean = (x.mean(dim=0, dtype=torch.float64) for x in (scans, wanted))
    scans = scans - scan_mean.float()
    wanted = wanted - latent_mean.float()
    gram = _gram(scans)
    size = gram.diagonal().double().mean().item()
    folds = [torch.from_numpy(rows) for rows in _folds(segments)]
    sketch = _sketch(wanted)
    errors = {p: _left_out(gram, sketch, folds, p * size)[0] for p in penalties}
    penalty = min(errors, key=errors.__getitem__)
    error, dual = _left_out(gram, wanted, folds, penalty * size)
    weight = dual.T @ scans
    bias = latent_mean - weight.double() @ scan_mean
    total = _squares(wanted)
    return AdaptedLayer(
        weight=weight.numpy(),
        bias=bias.float().numpy(),
        penalty=float(penalty),
        r2=1 - error / total if total else 0.0,
        clips=len(scans),
    )


def _sketch(wanted: Tensor) -> Tensor:
    """Project latents (clips, width) to fewer axes that keep squared errors, where they are wide.

    Gaussian axes estimate every squared error without bias (Johnson & Lindenstrauss 1984), and all
    penalties are compared on the same ones.
    """
    width = wanted.shape[1]
    if width <= _SKETCH:
        return wanted
    axes = torch.randn(width, _SKETCH, generator=torch.Generator().manual_seed(0))
    return wanted @ (axes / _SKETCH**0.5)


def _squares(values: Tensor) -> float:
    return sum(part.double().square().sum().item() for part in values.split(256))


def _gram(scans: Tensor) -> Tensor:
    """Products of all pairs of scans, float32 (clips, clips), summed in float64."""
    total = torch.zeros(len(scans), len(scans), dtype=torch.float64)
    step = -(-len(scans) // _STRIPS)
    for block in scans.split(_VOXELS, dim=1):
        for start in range(0, len(scans), step):
            stop = start + step
            total[start:stop, :stop] += block[start:stop] @ block[:stop].T
    below = total.float().tril_()
    return below + below.tril(-1).T


def _folds(segments: np.ndarray) -> list[np.ndarray]:
    """Rows of up to six groups of whole segments, or of stretches where there is one segment."""
    if len(np.unique(segments)) == 1:
        return np.array_split(np.arange(len(segments)), min(FOLDS, len(segments)))
    return [np.flatnonzero(fold) for fold in segment_folds(segments)]


def _left_out(
    gram: Tensor, wanted: Tensor, folds: Sequence[Tensor], penalty: float
) -> tuple[float, Tensor]:
    """Return the squared error on clips left out, and the dual weights (clips, width) on all."""
    ridged = gram.clone()
    ridged.diagonal().add_(penalty)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ridged))
    dual = inverse @ wanted
    error = 0.0
    for rows in folds:
        own = torch.linalg.cholesky(inverse[rows[:, None], rows])
        residual = torch.cholesky_solve(dual[rows], own)
        error += _squares(residual)
    return error, dual
