"""The ridge layer of Eq. 3 in closed form, cross-fitted over segments.

A ridge regression overfits its training scans: a decoder trained on its predictions for these
scans relies on them too much. Here each segment's scans are decoded by a regression fitted
without them, so that the layers above meet in training what they will meet on new films
(stacking, Wolpert 1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import nn

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.backbone import RidgeRegression, WindowLinear
from neuroclips_cli.models.head import init_from_linear
from neuroclips_cli.models.semantics import PublishedSemanticsBackbone, SemanticsBackbone
from neuroclips_cli.signal.ridge import FOLDS, dual_weights, predict_left_out, segment_folds

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Tried penalties, as multiples of a scan's mean squared norm."""


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

    Captions lie along few axes that scans predict well. All of them weigh as much as all tokens:
    where they weigh more, the components that are kept say what captions say, and not where an
    object is.

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
    The captions, centered, are scaled to the total standard deviation of the tokens:
    ``sqrt(var(tokens) / var(text)) (text - mean)``.

    Examples
    --------
    >>> tokens = np.array([[[0.0]], [[2.0]]], dtype=np.float32)
    >>> joint_targets(tokens, np.array([[1.0], [3.0]], dtype=np.float32)).tolist()
    [[0.0, -1.0], [2.0, 1.0]]
    """
    flat = tokens.reshape(len(tokens), -1)
    text = text - text.mean(axis=0)
    spread = max(float(text.var(axis=0).sum()), 1e-6)
    return np.concatenate([flat, np.sqrt(flat.var(axis=0).sum() / spread) * text], 1)


def stretches(segments: np.ndarray) -> np.ndarray:
    """Return the segments, or six stretches of clips where there is only one segment to leave out.

    Examples
    --------
    >>> stretches(np.full(12, 4)).tolist()
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    """
    if len(np.unique(segments)) > 1:
        return segments
    return np.arange(len(segments)) * FOLDS // len(segments)


Part = tuple[np.ndarray, np.ndarray, np.ndarray]
"""One subject's scans, segments and targets, as :func:`cross_fit_pool` takes them."""


def cross_fit_pool(
    parts: Sequence[Part], widest: int, penalties: Sequence[float] = PENALTIES
) -> list[CrossFit]:
    """Fit Eq. 3 for every subject and keep what it predicts on segments left out.

    Every subject has a regression and a penalty of its own: the one with the least squared error
    on segments left out. Components are the principal axes of all subjects' cross-fitted
    predictions together; those are kept whose prediction is better than the mean (cross-validated
    R squared above 0). The first always stays.

    Parameters
    ----------
    parts : sequence of tuple
        Per subject scans (clips, repetitions, voxels), standardized, with the voxels of a window
        of volumes one after the other, of which the mean over repetitions is fitted; segments
        (clips,), at least two different ones; targets (clips, outputs), all in one space.
    widest : int
        Most components to keep.
    penalties : sequence of float
        Multiples of a scan's mean squared norm.

    Returns
    -------
    list of CrossFit
        One per subject, of the same axes, mean and width.

    Raises
    ------
    UserError
        If all targets are the same.

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

    >>> scans = np.random.default_rng(0).normal(size=(12, 1, 2))
    >>> scans -= scans.mean(axis=0)
    >>> part = (scans, np.repeat([0, 1, 2], 4), scans[:, 0, :1])
    >>> (fit,) = cross_fit_pool([part], widest=4, penalties=[1e-9])
    >>> decoded = (scans[:, 0] @ fit.weight.T + fit.bias) @ fit.axes + fit.mean
    >>> fit.width, bool(np.allclose(decoded, scans[:, 0, :1], atol=1e-5))
    (1, True)
    """
    center = _stacked([targets for _, _, targets in parts]).mean(axis=0, dtype=np.float64)
    fits = [_Regression.fit(*part, center, penalties) for part in parts]
    predicted = _stacked([fit.predicted for fit in fits])
    wanted = _stacked([fit.wanted for fit in fits])
    offset = predicted.mean(axis=0)
    _, spread, axes = np.linalg.svd(predicted - offset, full_matrices=False)
    if not spread[0] > 0:
        raise UserError(
            "the training clips cannot be told apart: all of them have the same image tokens and "
            "captions; check the films that preprocess read"
        )
    axes = axes[: min(widest, int((spread > 1e-6 * spread[0]).sum()))]
    axes = axes[_predicted(predicted @ axes.T, wanted @ axes.T)]
    deviation = ((predicted - offset) @ axes.T).std(axis=0)

    onto = axes.T / deviation
    bias = -offset @ onto
    found = []
    for fit, (fmri, _, _) in zip(fits, parts, strict=True):
        features, weight = fit.components(fmri, onto, bias)
        found.append(
            CrossFit(
                features=features,
                weight=weight.astype(np.float32),
                bias=bias.astype(np.float32),
                axes=(axes * deviation[:, None]).astype(np.float32),
                mean=(center + offset).astype(np.float32),
                penalty=fit.penalty,
            )
        )
    return found


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


@dataclass(frozen=True)
class _Regression:
    """One subject's regression at its best penalty; ``predicted`` are clips left out."""

    scans: np.ndarray
    gram: np.ndarray
    wanted: np.ndarray
    folds: list[np.ndarray]
    penalty: float
    predicted: np.ndarray

    @classmethod
    def fit(
        cls,
        fmri: np.ndarray,
        segments: np.ndarray,
        targets: np.ndarray,
        center: np.ndarray,
        penalties: Sequence[float],
    ) -> _Regression:
        """Choose the penalty with the least squared error on segments left out."""
        scans = fmri.mean(axis=1, dtype=np.float64)
        wanted = targets - center
        gram = scans @ scans.T
        folds = segment_folds(segments)
        fits = {penalty: predict_left_out(gram, wanted, folds, penalty) for penalty in penalties}
        penalty = min(fits, key=lambda p: float(np.square(fits[p] - wanted).sum()))
        return cls(scans, gram, wanted, folds, penalty, fits[penalty])

    def components(
        self, fmri: np.ndarray, onto: np.ndarray, bias: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return every scan's components decoded without its fold, and the weights of all folds."""
        features = np.empty((*fmri.shape[:2], onto.shape[1]), np.float32)
        for fold in self.folds:
            weights = self._weights(onto, ~fold)
            features[fold] = fmri[fold] @ weights + bias
        return features, self._weights(onto, np.ones(len(self.scans), bool)).T

    def _weights(self, onto: np.ndarray, used: np.ndarray) -> np.ndarray:
        weights: np.ndarray = self.scans[used].T @ dual_weights(
            self.gram, self.wanted @ onto, used, self.penalty
        )
        return weights


def _predicted(components: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Tell which components are predicted better than their mean, (components,) of bool."""
    error = np.square(components - wanted).sum(axis=0)
    kept = error < np.square(wanted - wanted.mean(axis=0)).sum(axis=0)
    kept[0] = True
    return kept


class LinearFit(Protocol):
    """A fitted linear map: ``weight`` (width, voxels), ``bias`` (width,)."""

    @property
    def weight(self) -> np.ndarray: ...  # noqa: D102

    @property
    def bias(self) -> np.ndarray: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102


def load_into_ridge(fit: LinearFit, layer: RidgeRegression, place: int = 0) -> None:
    """Put the regression into a ridge layer and freeze it: learning would undo the cross-fit.

    Parameters
    ----------
    fit : LinearFit
        The regression; of a window of volumes, one after the other.
    layer : RidgeRegression
        From scans to at least ``fit.width`` channels; those beyond become zero.
    place : int
        The subject's.
    """
    own = layer.linears[place]
    linears = [own] if isinstance(own, nn.Linear) else list(cast(WindowLinear, own).volumes)
    weights = np.split(fit.weight, len(linears), axis=1)
    with torch.no_grad():
        for linear, weight in zip(cast(list[nn.Linear], linears), weights, strict=True):
            linear.weight.zero_()
            linear.bias.zero_()
            # The sum over the volumes begins as their mean.
            linear.weight[: fit.width] = torch.from_numpy(weight * np.float32(len(linears)))
            linear.bias[: fit.width] = torch.from_numpy(fit.bias)
    own.requires_grad_(False)


@torch.no_grad()
def average_ridge(layer: RidgeRegression) -> None:
    """Make the average subject's layer the mean of all subjects' layers, and freeze it.

    Parameters
    ----------
    layer : RidgeRegression
        Of subjects who share a space; nothing is done where it has no average subject.
    """
    if layer.average is None:
        return
    states = [linear.state_dict() for linear in layer.linears]
    layer.average.load_state_dict(
        {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    )
    layer.average.requires_grad_(False)


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
