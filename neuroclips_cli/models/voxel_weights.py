"""Mean absolute first-layer weight per voxel of a trained reconstructor (paper 7, C.5)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.errors import UserError

RIDGE = ("ridge", "ridge1")
"""The first ridge layer of our reconstructors, and of the released perception network."""


def voxel_weights(weights: Path, place: int | str | None = None) -> NDArray[np.float64]:
    """Return the mean absolute weight of every voxel in a subject's first ridge layer.

    Parameters
    ----------
    weights : pathlib.Path
        ``model.safetensors`` of ``train-pr`` or ``train-sr``.
    place : int or str, optional
        Of the subject in a decoder of several, see :func:`checkpoint.place_of`.

    Returns
    -------
    numpy.ndarray
        float64 (voxels,), at least 0, in output units per standard deviation of the voxel.

    Raises
    ------
    UserError
        If the file is missing, damaged, or of another model.

    See Also
    --------
    scaled : Brings the weights to 0..1 for maps.
    neuroclips_cli.metrics.roi.region_means : Averages them over regions.

    Notes
    -----
    ``w_v = (1 / hidden) sum_h abs(W[h, v])``; of a window of volumes the mean over them.
    """
    from safetensors import SafetensorError, safe_open

    own = "average" if place == "average" else f"linears.{place or 0}"
    one = re.compile(rf"({'|'.join(RIDGE)})\.{own}(\.volumes\.\d+)?\.weight")
    try:
        with safe_open(weights, framework="np") as file:
            names = sorted(name for name in file.keys() if one.fullmatch(name))  # noqa: SIM118
            if not names or len({name.split(".")[0] for name in names}) != 1:
                named = " nor ".join(f"{ridge}.{own}.weight" for ridge in RIDGE)
                raise UserError(
                    f"{weights} holds no ridge layer, neither {named}: it is no trained "
                    "reconstructor, train again"
                )
            layers = [file.get_tensor(name) for name in names]
    except FileNotFoundError as error:
        raise UserError(f"{weights} is not there: run the training command first") from error
    except SafetensorError as error:
        raise UserError(
            f"{weights} holds no readable ridge layer ({error}): train again"
        ) from error
    means = [np.abs(layer.astype(np.float64)).mean(axis=0) for layer in layers]
    found: NDArray[np.float64] = means[0] if len(means) == 1 else np.mean(means, axis=0)
    return found


def scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale values linearly to 0..1.

    Parameters
    ----------
    values : numpy.ndarray
        float64 (voxels,), at least one.

    Returns
    -------
    numpy.ndarray
        float64 (voxels,), ``(x - min) / (max - min)``; all 0 where the values are equal (paper A).

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.models.voxel_weights import scaled
    >>> scaled(np.array([2.0, 4.0, 3.0])).tolist(), scaled(np.ones(2)).tolist()
    ([0.0, 1.0, 0.5], [0.0, 0.0])
    """
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
