"""Published variants of SSIM under names of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neuroclips_cli.metrics import pixel
from neuroclips_cli.runtime import threads

SIGMA, TRUNCATE = 1.5, 3.5
EDGE = 5
"""Pixels that a Gaussian of 1.5, cut off at 3.5 deviations, reaches to either side."""

WHAT = {
    "rgb-uniform7": pixel.SSIM_VARIANT,
    "grey-columns": (
        "grey, every image column a channel of its own: one-dimensional Gaussian window sigma 1.5, "
        "data range 1 (NEURONS as coded)"
    ),
    "rgb-gaussian": "RGB, Gaussian window sigma 1.5, data range 255",
    "grey-gaussian": "grey, Gaussian window sigma 1.5, data range 1",
}
"""What each variant is, in words."""


def ssim(pred: np.ndarray, gt: np.ndarray, variant: str = "rgb-uniform7") -> np.ndarray:
    """Structural similarity of every frame in one of the published forms.

    Parameters
    ----------
    pred, gt : numpy.ndarray
        uint8 (clips, frames, h, w, 3), at least 11 x 11 pixels (7 x 7 for ``rgb-uniform7``).
    variant : str
        A key of `WHAT`.

    Returns
    -------
    numpy.ndarray
        float64 (clips, frames), in -1..1; 1 for identical frames.

    Raises
    ------
    ValueError
        If the arrays do not fit together or are smaller than the window.

    See Also
    --------
    neuroclips_cli.metrics.pixel.ssim : The variant ``rgb-uniform7`` and the equation.

    Notes
    -----
    ``rgb-uniform7`` is `pixel.ssim` (MinD-Video, Mind-Animator). NEURONS turns frames to grey and
    still passes ``channel_axis=-1`` to scikit-image, which then takes image columns for channels:
    ``grey-columns``; ``grey-gaussian`` is what was presumably meant.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.ssim_variants import ssim
    >>> frames = np.zeros((1, 2, 11, 11, 3), dtype=np.uint8)
    >>> ssim(frames, frames, "grey-gaussian").tolist()
    [[1.0, 1.0]]
    """
    if variant == "rgb-uniform7":
        return pixel.ssim(pred, gt)
    pixel.check_pair(pred, gt)
    if min(pred.shape[2:4]) <= 2 * EDGE:
        least = 2 * EDGE + 1
        raise ValueError(f"SSIM needs {least} x {least} pixels or more, got {pred.shape[2:4]}")
    of_frame = _FRAME[variant]
    rows = threads.in_order(
        lambda clip: [of_frame(a, b) for a, b in zip(pred[clip], gt[clip], strict=True)],
        range(len(pred)),
    )
    return np.array(list(rows)).reshape(pred.shape[:2])


def _grey(frame: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2gray

    grey: np.ndarray = rgb2gray(frame)
    return grey


def _gaussian(x: np.ndarray, y: np.ndarray, axes: tuple[int, ...], data_range: float) -> float:
    """Return SSIM with a Gaussian window over some axes, mean over whole windows."""
    from scipy.ndimage import gaussian_filter

    def smooth(values: np.ndarray) -> np.ndarray:
        result: np.ndarray = gaussian_filter(values, SIGMA, truncate=TRUNCATE, axes=axes)
        return result

    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = smooth(x), smooth(y)
    variances = smooth(x * x) + smooth(y * y) - mean_x**2 - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    mean_c, spread_c = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similar = (2 * mean_x * mean_y + mean_c) * (2 * covariance + spread_c)
    similar /= (mean_x**2 + mean_y**2 + mean_c) * (variances + spread_c)
    inside = tuple(slice(EDGE, -EDGE) if axis in axes else slice(None) for axis in range(x.ndim))
    return float(similar[inside].mean())


_FRAME: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "grey-columns": lambda a, b: _gaussian(_grey(a), _grey(b), (0,), 1.0),
    "rgb-gaussian": lambda a, b: _gaussian(a, b, (0, 1), 255.0),
    "grey-gaussian": lambda a, b: _gaussian(_grey(a), _grey(b), (0, 1), 1.0),
}
