"""Pixel-level agreement of two clips: SSIM and PSNR (paper 4.3), correlation and hue."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neuroclips_cli.runtime import threads

WINDOW = 7
REACH = WINDOW - 1
"""Rows, and columns, beyond its first one that a window takes."""
STRIP = 50
"""Rows of windows at a time: what is kept in between then stays in the processor's cache."""
SSIM_VARIANT = "RGB, uniform 7x7 window, sample covariance, data range 255 (scikit-image)"

# Two identical frames have an infinite PSNR, which has no place in a mean or in JSON. The peers
# (Mind-Animator) count them as 100 dB; capping there keeps the scale monotonic.
PSNR_CAP_DB = 100.0


def check_pair(pred: np.ndarray, gt: np.ndarray) -> None:
    """Check that two arrays are pairs of clips.

    Parameters
    ----------
    pred, gt : numpy.ndarray
        Expected to be uint8 (clips, frames, height, width, 3) of one shape.

    Raises
    ------
    ValueError
        If they are anything else.

    Examples
    --------
    >>> check_pair(np.zeros((1, 2, 8, 8, 3)), np.zeros((1, 2, 8, 8, 3)))
    Traceback (most recent call last):
        ...
    ValueError: expected uint8 frames, got float64 and float64
    """
    if pred.shape != gt.shape or pred.ndim != 5 or pred.shape[-1] != 3:
        raise ValueError(
            f"expected two arrays (clips, frames, h, w, 3), got {pred.shape} and {gt.shape}"
        )
    if pred.dtype != np.uint8 or gt.dtype != np.uint8:
        raise ValueError(f"expected uint8 frames, got {pred.dtype} and {gt.dtype}")


def ssim(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Structural similarity of every frame.

    Parameters
    ----------
    pred, gt : numpy.ndarray
        uint8 (clips, frames, h, w, 3), at least 7 x 7 pixels.

    Returns
    -------
    numpy.ndarray
        float64 (clips, frames), in -1..1; 1 for identical frames.

    Raises
    ------
    ValueError
        If the arrays differ in shape, are not uint8 frames, or are smaller than the window.

    See Also
    --------
    neuroclips_cli.metrics.pixel.ssim_variant : The other published forms.
    psnr : Pixel error on a logarithmic scale.

    Notes
    -----
    scikit-image's default 7 x 7 uniform window on RGB, as MinD-Video and Mind-Animator use it
    (Wang et al. 2004). "SSIM" is not one metric across papers: NEURONS averages one-dimensional
    SSIMs of grey image columns, which gives higher numbers. Sums over a window of uint8 pixels and
    of their products are exact in int32, and clips are shared out between threads; scikit-image's
    float64 gives the same to 1e-6 and takes ten times as long.

    Per window, with means m, variances s, covariance c and L = 255, averaged over whole windows and
    channels::

        (2 m_x m_y + (0.01 L)^2) (2 c + (0.03 L)^2)
        -------------------------------------------------------
        (m_x^2 + m_y^2 + (0.01 L)^2) (s_x + s_y + (0.03 L)^2)

    Examples
    --------
    >>> gt = np.arange(192, dtype=np.uint8).reshape(1, 1, 8, 8, 3)
    >>> ssim(gt, gt).tolist()
    [[1.0]]
    >>> ssim(255 - gt, gt).round(3).tolist()
    [[-0.848]]
    """
    check_pair(pred, gt)
    if min(pred.shape[2:4]) < WINDOW:
        raise ValueError(f"SSIM needs {WINDOW} x {WINDOW} pixels or more, got {pred.shape[2:4]}")
    rows = threads.in_order(lambda clip: _ssim_of_clip(pred[clip], gt[clip]), range(len(pred)))
    return np.array(list(rows)).reshape(pred.shape[:2])


def _ssim_of_clip(pred: np.ndarray, gt: np.ndarray) -> list[float]:
    buffers = _Buffers((min(STRIP, pred.shape[1]) + REACH) * 3 * pred.shape[2])
    return [_ssim_of_frame(x, y, buffers) for x, y in zip(pred, gt, strict=True)]


class _Buffers:
    """Work arrays of a strip, which are used again: fresh pages cost as much as the arithmetic."""

    def __init__(self, size: int) -> None:
        self.pixels = np.empty((5, size), np.uint16)
        self.products = np.empty((5, size), np.int32)
        self.factors = np.empty((4, size), np.float32)


def _ssim_of_frame(pred: np.ndarray, gt: np.ndarray, buffers: _Buffers) -> float:
    """Return the mean SSIM of two uint8 frames (h, w, 3)."""
    # Rows lie one behind the other, and colors side by side: a step down is a step of a row, one to
    # the right a step of three. Windows that would reach round the end of a row are left out last.
    row, count = 3 * pred.shape[1], len(pred) - REACH
    x, y = pred.reshape(-1), gt.reshape(-1)
    total = 0.0
    for top in range(0, count, STRIP):
        strip = slice(top * row, (top + STRIP + REACH) * row)
        total += _ssim_sum(x[strip], y[strip], row, buffers)
    return total / (count * (row - 3 * REACH))


def _ssim_sum(x: np.ndarray, y: np.ndarray, row: int, buffers: _Buffers) -> float:
    """Return the sum of SSIM over all whole windows of a strip, uint8 (rows * row,).

    Every step is one pass over a contiguous array, which numpy does at the cache's speed.
    """
    size = len(x)
    sum_x, sum_y, difference, *spare = buffers.pixels[:, :size]
    product, square, *wide = buffers.products[:, :size]
    sum_x[:], sum_y[:] = x, y
    # 255^2 fits 16 bits, and so does the square of a difference that wrapped around.
    product[:] = np.multiply(sum_x, sum_y, out=spare[0])
    np.subtract(sum_x, sum_y, out=difference)
    square[:] = np.multiply(difference, difference, out=difference)
    for values, (first, second) in (
        (sum_x, spare),
        (sum_y, spare),
        (product, wide[:2]),
        (square, wide[:2]),
    ):
        _window_sums(values, row, first, second)
    size -= REACH * row
    sum_x, sum_y, product, square = (v[:size] for v in (sum_x, sum_y, product, square))
    return _combined(sum_x, sum_y, product, square, row, [w[:size] for w in wide], buffers)


def _combined(
    sum_x: np.ndarray,
    sum_y: np.ndarray,
    product: np.ndarray,
    square: np.ndarray,
    row: int,
    wide: list[np.ndarray],
    buffers: _Buffers,
) -> float:
    """Return the sum of SSIM from the windows' sums of x, y, x y and (x - y)^2.

    With p = 2 m_x m_y + C1 and q = 2 c + C2 it is p q / ((p + e) (q + f)), where e is
    (m_x - m_y)^2 and f the variance of x - y: equal frames have exactly 1. All factors are taken
    half, times count^2; those of the spread as sample statistics, n / (n - 1).
    """
    count, half = WINDOW**2, np.float32(0.5)
    means, gaps, other = wide
    means[:], other[:] = sum_x, sum_y
    np.subtract(means, other, out=gaps)
    gaps *= gaps
    means *= other
    for spread, mean in ((product, means), (square, gaps)):
        spread *= count  # exact up to here
        spread -= mean
    p, q, e, f = buffers.factors[:, : len(means)]
    p[:], q[:], e[:], f[:] = means, product, gaps, square
    p += np.float32((0.01 * 255) ** 2 * count**2 / 2)
    q += np.float32((0.03 * 255) ** 2 * count * (count - 1) / 2)
    e *= half
    e += p
    f *= half
    f += q
    p *= q
    e *= f
    p /= e
    whole = p.reshape(-1, row)[:, : row - 3 * REACH]
    return float(whole.sum(dtype=np.float64))


def _window_sums(values: np.ndarray, row: int, pairs: np.ndarray, columns: np.ndarray) -> None:
    """Put the sum over the 7 x 7 window that begins there in place of each of the values.

    Parameters
    ----------
    values : numpy.ndarray
        Whole numbers (rows * row,); the last ``REACH`` rows hold nothing of use afterwards.
    row : int
        Values in a row of interleaved RGB.
    pairs, columns : numpy.ndarray
        Work arrays of the same size and type.
    """
    size = len(values) - REACH * row
    _sums_of_seven(values, row, pairs, columns[:size])
    _sums_of_seven(columns[:size], 3, pairs, values[: size - 3 * REACH])
    values[size - 3 * REACH : size] = 0


def _sums_of_seven(values: np.ndarray, step: int, pairs: np.ndarray, sums: np.ndarray) -> None:
    """Add seven values, each a step behind the other, at every place."""
    pairs = pairs[: len(values) - step]
    np.add(values[:-step], values[step:], out=pairs)
    np.add(pairs[: len(sums)], pairs[2 * step : 2 * step + len(sums)], out=sums)
    sums += pairs[4 * step : 4 * step + len(sums)]
    sums += values[6 * step :]


def psnr(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of every frame.

    Parameters
    ----------
    pred, gt : numpy.ndarray
        uint8 (clips, frames, h, w, 3).

    Returns
    -------
    numpy.ndarray
        float64 (clips, frames), decibels, data range 255, at most ``PSNR_CAP_DB``.

    Raises
    ------
    ValueError
        If the arrays differ in shape or are not uint8 frames.

    See Also
    --------
    ssim : Structural similarity.

    Notes
    -----
    ``PSNR = 10 log10(255^2 / MSE)``, MSE over all pixels and channels of the frame.

    Examples
    --------
    >>> gt = np.zeros((1, 2, 8, 8, 3), dtype=np.uint8)
    >>> pred = gt.copy()
    >>> pred[0, 1] = 255
    >>> psnr(pred, gt).tolist()
    [[100.0, 0.0]]
    """
    check_pair(pred, gt)
    mse = _framewise(_mse_of_frame, pred, gt)
    with np.errstate(divide="ignore"):
        return np.minimum(10 * np.log10(255.0**2 / mse), PSNR_CAP_DB)


def _mse_of_frame(pred: np.ndarray, gt: np.ndarray) -> float:
    # float64 sums of whole numbers below 2^53 are exact
    error = np.subtract(pred, gt, dtype=np.float64).ravel()
    return float(error @ error) / error.size


def pearson(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Pearson correlation of all RGB values of every frame.

    Parameters
    ----------
    pred, gt : numpy.ndarray
        uint8 (clips, frames, h, w, 3).

    Returns
    -------
    numpy.ndarray
        float64 (clips, frames), -1..1; 0 where a frame has one value only, which correlates with
        nothing.

    Raises
    ------
    ValueError
        If the arrays differ in shape or are not uint8 frames.

    Examples
    --------
    >>> gt = np.arange(192, dtype=np.uint8).reshape(1, 1, 8, 8, 3)
    >>> pearson(255 - gt, gt).round(6).tolist()
    [[-1.0]]
    """
    check_pair(pred, gt)
    return _framewise(_pearson_of_frame, pred, gt)


def _pearson_of_frame(pred: np.ndarray, gt: np.ndarray) -> float:
    # float64 sums of whole numbers below 2^53 are exact
    x, y = (side.ravel().astype(np.float64) for side in (pred, gt))
    count, sum_x, sum_y = len(x), x.sum(), y.sum()
    spread = (count * (x @ x) - sum_x**2) * (count * (y @ y) - sum_y**2)
    return float((count * (x @ y) - sum_x * sum_y) / np.sqrt(spread)) if spread > 0 else 0.0


def hue_similarity(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Cosine similarity of the hues of every frame, as Mind-Animator's "hue-pcc" computes it.

    Parameters
    ----------
    pred, gt : numpy.ndarray
        uint8 (clips, frames, h, w, 3), RGB.

    Returns
    -------
    numpy.ndarray
        float64 (clips, frames), 0..1; 0 where a frame has no hue above 0, such as a grey one.

    Raises
    ------
    ValueError
        If the arrays differ in shape or are not uint8 frames.

    Notes
    -----
    The published name says correlation, but no mean is taken out: all hues are positive, and
    frames that share nothing score high. Red and blue are exchanged, since RGB frames are
    converted as BGR, and hue is not treated as a circle. Read it next to its shuffled control.

    Examples
    --------
    >>> grey = np.full((1, 1, 8, 8, 3), 99, dtype=np.uint8)
    >>> red = np.zeros((1, 1, 8, 8, 3), dtype=np.uint8)
    >>> red[..., 0] = 200
    >>> hue_similarity(grey, red).tolist(), hue_similarity(red, red).round(6).tolist()
    ([[0.0]], [[1.0]])
    """
    check_pair(pred, gt)
    return _framewise(_hue_similarity_of_frame, pred, gt)


def _hue_similarity_of_frame(pred: np.ndarray, gt: np.ndarray) -> float:
    x, y = (_swapped_hue(side).ravel().astype(np.float64) for side in (pred, gt))
    length = np.sqrt((x @ x) * (y @ y))
    return float((x @ y) / length) if length > 0 else 0.0


def _framewise(
    metric: Callable[[np.ndarray, np.ndarray], float], pred: np.ndarray, gt: np.ndarray
) -> np.ndarray:
    """Return a metric of every pair of frames (clips, frames), clips shared out to threads."""
    rows = threads.in_order(
        lambda clip: [metric(a, b) for a, b in zip(pred[clip], gt[clip], strict=True)],
        range(len(pred)),
    )
    return np.array(list(rows), dtype=np.float64).reshape(pred.shape[:2])


_HUE_STEPS = np.rint(np.divide(180 << 12, 6.0 * np.maximum(np.arange(256), 1))).astype(np.int32)


def _swapped_hue(frame: np.ndarray) -> np.ndarray:
    """Return OpenCV's 8-bit hue 0..179 of an RGB frame (h, w, 3) that is taken for BGR."""
    blue, green, red = (np.ascontiguousarray(frame[..., c], dtype=np.int32) for c in range(3))
    most = np.maximum(np.maximum(red, green), blue)
    spread = most - np.minimum(np.minimum(red, green), blue)
    hue = np.where(
        most == red,
        green - blue,
        np.where(most == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = (hue * _HUE_STEPS[spread] + (1 << 11)) >> 12
    return np.where(hue < 0, hue + 180, hue)


SIGMA, TRUNCATE = 1.5, 3.5
EDGE = 5
"""Pixels that a Gaussian of 1.5, cut off at 3.5 deviations, reaches to either side."""

WHAT = {
    "rgb-uniform7": SSIM_VARIANT,
    "grey-columns": (
        "grey, every image column a channel of its own: one-dimensional Gaussian window sigma 1.5, "
        "data range 1 (NEURONS as coded)"
    ),
    "rgb-gaussian": "RGB, Gaussian window sigma 1.5, data range 255",
    "grey-gaussian": "grey, Gaussian window sigma 1.5, data range 1",
}
"""What each variant is, in words."""


def ssim_variant(pred: np.ndarray, gt: np.ndarray, variant: str = "rgb-uniform7") -> np.ndarray:
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
    >>> frames = np.zeros((1, 2, 11, 11, 3), dtype=np.uint8)
    >>> ssim_variant(frames, frames, "grey-gaussian").tolist()
    [[1.0, 1.0]]
    """
    if variant == "rgb-uniform7":
        return ssim(pred, gt)
    check_pair(pred, gt)
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


def _gaussian(x: np.ndarray, y: np.ndarray, data_range: float, channel_axis: int | None) -> float:
    """Return SSIM with a Gaussian window, mean over whole windows."""
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            x,
            y,
            channel_axis=channel_axis,
            data_range=data_range,
            gaussian_weights=True,
            sigma=SIGMA,
            use_sample_covariance=False,
        )
    )


def _columns(x: np.ndarray, y: np.ndarray) -> float:
    """Return SSIM of grey frames whose columns are channels, in 0..1.

    scikit-image gives the same to the last digit, one column at a time and 40 times as slowly.
    """
    from scipy.ndimage import gaussian_filter1d

    def smooth(values: np.ndarray) -> np.ndarray:
        result: np.ndarray = gaussian_filter1d(values, SIGMA, axis=0, truncate=TRUNCATE)
        return result

    mean_x, mean_y = smooth(x), smooth(y)
    variances = smooth(x * x) + smooth(y * y) - mean_x**2 - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    mean_c, spread_c = 0.01**2, 0.03**2
    similar = (2 * mean_x * mean_y + mean_c) * (2 * covariance + spread_c)
    similar /= (mean_x**2 + mean_y**2 + mean_c) * (variances + spread_c)
    return float(similar[EDGE:-EDGE].mean())


_FRAME: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "grey-columns": lambda a, b: _columns(_grey(a), _grey(b)),
    "rgb-gaussian": lambda a, b: _gaussian(a, b, 255.0, channel_axis=-1),
    "grey-gaussian": lambda a, b: _gaussian(_grey(a), _grey(b), 1.0, channel_axis=None),
}
