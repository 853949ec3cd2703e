"""Start the Semantics Reconstructor from the closed-form ridge regression of Eq. 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from neuroclips_cli.models.semantics import Semantics

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Tried penalties, as multiples of a scan's mean squared norm."""


@dataclass(frozen=True)
class RidgeFit:
    """A ridge regression in dual form.

    Attributes
    ----------
    scans : numpy.ndarray
        float64 (samples, voxels), what it was fitted on.
    weights : numpy.ndarray
        float64 (samples, outputs): the prediction is ``x @ scans.T @ weights + mean``.
    mean : numpy.ndarray
        float64 (outputs,).
    penalty : float
        The chosen multiple of a scan's mean squared norm.
    """

    scans: np.ndarray
    weights: np.ndarray
    mean: np.ndarray
    penalty: float


def fit_ridge(
    scans: np.ndarray,
    targets: np.ndarray,
    held_scans: np.ndarray,
    held_targets: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
) -> RidgeFit:
    """Fit Eq. 3 and choose the penalty by the squared error on held-out training segments.

    Parameters
    ----------
    scans, held_scans : numpy.ndarray
        (samples, voxels), standardised.
    targets, held_targets : numpy.ndarray
        (samples, outputs).
    penalties : sequence of float
        Multiples of a scan's mean squared norm.
    """
    x, mean = scans.astype(np.float64), targets.mean(axis=0, dtype=np.float64)
    gram = x @ x.T
    size = np.trace(gram) / len(gram)
    across = held_scans.astype(np.float64) @ x.T
    best: tuple[float, RidgeFit] | None = None
    for penalty in penalties:
        regular = gram + penalty * size * np.eye(len(gram))
        weights = np.linalg.solve(regular, targets - mean)
        error = float(np.square(across @ weights + mean - held_targets).mean())
        if best is None or error < best[0]:
            best = error, RidgeFit(x, weights, mean, penalty)
    if best is None:
        raise ValueError("no penalty to try")
    return best[1]


def start_from_ridge(model: Semantics, fit: RidgeFit) -> None:
    """Make the untrained model predict the ridge regression's tokens, up to its width.

    The regression is cut to as many components as the model is wide, those with most variance
    over the training scans; the ridge layer gives their scores at unit variance, the output
    layer turns them into tokens, and the MLP blocks between start as the identity.

    Parameters
    ----------
    model : Semantics
        Changed in place.
    fit : RidgeFit
        Of the flattened tokens.
    """
    predicted = fit.scans @ (fit.scans.T @ fit.weights)
    centre = predicted.mean(axis=0)
    _, spread, axes = np.linalg.svd(predicted - centre, full_matrices=False)
    ridge = cast(nn.Linear, model.ridge.linears[0])
    output = model.backbone.backbone_linear
    kept = min(ridge.out_features, int((spread > 1e-6 * spread[0]).sum()))
    deviation = spread[:kept] / np.sqrt(len(predicted))
    scores = fit.scans.T @ (fit.weights @ axes[:kept].T) / deviation
    with torch.no_grad():
        ridge.weight[:kept] = torch.from_numpy(scores.T).float()
        ridge.bias.zero_()
        output.weight[:, :kept] = torch.from_numpy((axes[:kept] * deviation[:, None]).T).float()
        output.weight[:, kept:] = 0
        output.bias.copy_(torch.from_numpy(fit.mean).float())
        for block in model.backbone.blocks:
            last = cast(nn.Sequential, block)[-1]
            if isinstance(last, nn.Linear):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
