"""Pixel-level agreement of two clips: SSIM and PSNR (paper 4.3)."""

from __future__ import annotations

import numpy as np

SSIM_VARIANT = "RGB, uniform 7x7 window, sample covariance, data range 255 (scikit-image)"

# Two identical frames have an infinite PSNR, which has no place in a mean or in JSON. The peers
# (Mind-Animator) count them as 100 dB; capping there keeps the scale monotonic.
PSNR_CAP_DB = 100.0


def _check_pair(pred: np.ndarray, gt: np.ndarray) -> None:
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

    Notes
    -----
    scikit-image's default 7 x 7 uniform window on RGB, as MinD-Video and Mind-Animator use it
    (Wang et al. 2004). "SSIM" is not one metric across papers: NEURONS averages one-dimensional
    SSIMs of grey image columns, which gives higher numbers.
    """
    from skimage.metrics import structural_similarity

    _check_pair(pred, gt)
    values = np.empty(pred.shape[:2])
    for clip, frame in np.ndindex(values.shape):
        values[clip, frame] = structural_similarity(
            pred[clip, frame], gt[clip, frame], channel_axis=-1, data_range=255
        )
    return values


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
    """
    _check_pair(pred, gt)
    values = np.empty(pred.shape[:2])
    for clip in range(len(pred)):
        # clip by clip: float64 copies of a whole batch would be eight times its size
        error = pred[clip].astype(np.float64) - gt[clip]
        mse = np.mean(error**2, axis=(1, 2, 3))
        with np.errstate(divide="ignore"):
            values[clip] = 10 * np.log10(255.0**2 / mse)
    return np.minimum(values, PSNR_CAP_DB)
