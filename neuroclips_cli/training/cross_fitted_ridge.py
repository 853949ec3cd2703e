"""The ridge layer of Eq. 3 in closed form, cross-fitted over segments.

A ridge regression overfits its training scans: a decoder trained on its predictions for these
scans relies on them too much. Here each segment's scans are decoded by a regression fitted
without them, so that the layers above meet in training what they will meet on new movies
(stacking, Wolpert 1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from neuroclips_cli.models.backbone import RidgeRegression
from neuroclips_cli.models.head import init_from_linear
from neuroclips_cli.models.semantics import PublishedSemanticsBackbone, SemanticsBackbone
from neuroclips_cli.signal.ridge import dual_weights, predict_left_out, segment_folds

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Tried penalties, as multiples of a scan's mean squared norm."""
TEXT_WEIGHT = 3.0
"""Deviation of the captions beside the tokens in :func:`joint_targets`."""


@dataclass(frozen=True)
class CrossFit:
    """A ridge regression cut to the components that the scans predict.

    Attributes
    ----------
    features : numpy.ndarray
        float32 (clips, repetitions, width), the components of every scan decoded without its
        segment, at unit deviation over the clips.
    weight, bias : numpy.ndarray
        float32 (width, voxels) and (width,): the same components from new scans, by the
        regression on all segments.
    axes : numpy.ndarray
        float32 (width, outputs): components times axes, plus ``mean``, are the decoded targets.
    mean : numpy.ndarray
        float32 (outputs,).
    penalty : float
        The chosen multiple of a scan's mean squared norm.
    """

    features: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    axes: np.ndarray
    mean: np.ndarray
    penalty: float

    @property
    def width(self) -> int:
        """Number of components."""
        return len(self.weight)


def joint_targets(tokens: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Put tokens and captions side by side as targets of one regression.

    Captions lie along few axes that scans predict well: they weigh more than all tokens.

    Parameters
    ----------
    tokens : numpy.ndarray
        float32 (clips, tokens, token_dim).
    text : numpy.ndarray
        float32 (clips, embed_dim), embeddings of the captions; all may be the same.

    Returns
    -------
    numpy.ndarray
        float32 (clips, tokens x token_dim + embed_dim), flattened tokens first.

    Notes
    -----
    The captions, centered, are scaled to ``TEXT_WEIGHT`` times the total standard deviation of the
    tokens: ``3 sqrt(var(tokens) / var(text)) (text - mean)``.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.training.cross_fitted_ridge import joint_targets
    >>> tokens = np.array([[[0.0]], [[2.0]]], dtype=np.float32)
    >>> joint_targets(tokens, np.array([[1.0], [3.0]], dtype=np.float32)).tolist()
    [[0.0, -3.0], [2.0, 3.0]]
    """
    flat = tokens.reshape(len(tokens), -1)
    text = text - text.mean(axis=0)
    spread = max(float(text.var(axis=0).sum()), 1e-6)
    return np.concatenate([flat, TEXT_WEIGHT * np.sqrt(flat.var(axis=0).sum() / spread) * text], 1)


def cross_fit(
    fmri: np.ndarray,
    segments: np.ndarray,
    targets: np.ndarray,
    widest: int,
    penalties: Sequence[float] = PENALTIES,
) -> CrossFit:
    """Fit Eq. 3 and keep what it predicts on segments left out.

    The penalty is the one with the least squared error on segments left out. Components are the
    principal axes of the cross-fitted predictions; those are kept whose prediction is better
    than the mean (cross-validated R squared above 0). The first always stays.

    Parameters
    ----------
    fmri : numpy.ndarray
        (clips, repetitions, voxels), standardized; the fit uses the mean over repetitions.
    segments : numpy.ndarray
        (clips,), at least two different ones.
    targets : numpy.ndarray
        (clips, outputs).
    widest : int
        Most components to keep.
    penalties : sequence of float
        Multiples of a scan's mean squared norm.

    Returns
    -------
    CrossFit
        With at most ``widest`` components.

    See Also
    --------
    load_into_ridge : Puts the fit into a network's ridge layer.
    init_from_ridge : Initializes the layers above.

    Notes
    -----
    Paper Eq. 3, ``W = (X^T X + l I)^-1 X^T Y``, in its dual form ``X^T (X X^T + l I)^-1 Y`` with
    ``l = penalty mean(norm(x)^2)``. Order of operations:

    1. up to six folds of whole segments;
    2. predictions of every fold by the regression without it, for every penalty;
    3. the penalty with the least squared error;
    4. principal axes of these predictions; those with cross-validated R squared above 0 stay;
    5. features of every scan by the regression without its fold, weights by that on all segments.

    Examples
    --------
    Targets that are a linear function of centered scans are recovered in one component:

    >>> import numpy as np
    >>> from neuroclips_cli.training.cross_fitted_ridge import cross_fit
    >>> scans = np.random.default_rng(0).normal(size=(12, 1, 2))
    >>> scans -= scans.mean(axis=0)
    >>> fit = cross_fit(scans, np.repeat([0, 1, 2], 4), scans[:, 0, :1], widest=4, penalties=[1e-9])
    >>> decoded = (scans[:, 0] @ fit.weight.T + fit.bias) @ fit.axes + fit.mean
    >>> fit.width, bool(np.allclose(decoded, scans[:, 0, :1], atol=1e-5))
    (1, True)
    """
    scans = fmri.mean(axis=1, dtype=np.float64)
    center = targets.mean(axis=0, dtype=np.float64)
    wanted = targets - center
    gram = scans @ scans.T
    folds = segment_folds(segments)
    fits = {penalty: predict_left_out(gram, wanted, folds, penalty) for penalty in penalties}
    penalty = min(fits, key=lambda p: float(np.square(fits[p] - wanted).sum()))
    predicted = fits[penalty]
    offset = predicted.mean(axis=0)
    _, spread, axes = np.linalg.svd(predicted - offset, full_matrices=False)
    axes = axes[: min(widest, int((spread > 1e-6 * spread[0]).sum()))]
    axes = axes[_predicted(predicted @ axes.T, wanted @ axes.T)]
    deviation = ((predicted - offset) @ axes.T).std(axis=0)

    onto = axes.T / deviation
    bias = -offset @ onto
    features = np.empty((*fmri.shape[:2], len(axes)), np.float32)
    for fold in folds:
        weights = scans[~fold].T @ dual_weights(gram, wanted @ onto, ~fold, penalty)
        features[fold] = fmri[fold] @ weights + bias
    everywhere = np.ones(len(scans), bool)
    weights = scans.T @ dual_weights(gram, wanted @ onto, everywhere, penalty)
    return CrossFit(
        features=features,
        weight=weights.T.astype(np.float32),
        bias=bias.astype(np.float32),
        axes=(axes * deviation[:, None]).astype(np.float32),
        mean=(center + offset).astype(np.float32),
        penalty=penalty,
    )


def _predicted(components: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Tell which components are predicted better than their mean, (components,) of bool."""
    error = np.square(components - wanted).sum(axis=0)
    kept = error < np.square(wanted - wanted.mean(axis=0)).sum(axis=0)
    kept[0] = True
    return kept


def load_into_ridge(fit: CrossFit, layer: RidgeRegression) -> None:
    """Put the regression into a ridge layer and freeze it: learning would undo the cross-fit.

    Parameters
    ----------
    fit : CrossFit
        The regression.
    layer : RidgeRegression
        From scans to at least ``fit.width`` channels; those beyond become zero.
    """
    ridge = cast(nn.Linear, layer.linears[0])
    with torch.no_grad():
        ridge.weight.zero_()
        ridge.bias.zero_()
        ridge.weight[: fit.width] = torch.from_numpy(fit.weight)
        ridge.bias[: fit.width] = torch.from_numpy(fit.bias)
    ridge.requires_grad_(False)


def init_from_ridge(
    fit: CrossFit, backbone: SemanticsBackbone | PublishedSemanticsBackbone
) -> None:
    """Let untrained layers predict what the regression predicts.

    Parameters
    ----------
    fit : CrossFit
        Whose first targets are the flattened tokens.
    backbone : SemanticsBackbone
        Its output layer turns components into tokens, its residual blocks begin as the identity.
    """
    output = backbone.backbone_linear
    tokens = len(cast(torch.Tensor, output.bias))
    weight, bias = fit.axes[:, :tokens].T.copy(), fit.mean[:tokens]
    init_from_linear(output, torch.from_numpy(weight), torch.from_numpy(bias))
    backbone.init_as_identity()


def padded(fit: CrossFit, hidden: int) -> np.ndarray:
    """Pad the features to the width of the ridge layer.

    Parameters
    ----------
    fit : CrossFit
        The regression.
    hidden : int
        Width of the ridge layer, at least ``fit.width``.

    Returns
    -------
    numpy.ndarray
        float32 (clips, repetitions, hidden), zeros beyond ``fit.width``.
    """
    return np.pad(fit.features, [(0, 0), (0, 0), (0, hidden - fit.width)])
