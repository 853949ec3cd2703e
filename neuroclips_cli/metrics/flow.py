"""Motion: end-point error between the optical flows of two clips (Mind-Animator)."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import pixel
from neuroclips_cli.runtime import threads

# pyramid scale, levels, window, iterations, neighborhood, its deviation, flags: the usual call
FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
WHAT = (
    "Farneback optical flow of adjacent frames (OpenCV, window 15 pixels), distance of the two "
    "flows in pixels, mean over pixels and frame pairs; grey as the public code makes it"
)


def end_point_error(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Distance between the optical flows of reconstruction and ground truth.

    Parameters
    ----------
    pred, gt : numpy.ndarray
        uint8 (clips, frames, h, w, 3) with two frames or more.

    Returns
    -------
    numpy.ndarray
        float64 (clips,), pixels per frame; 0 is best. It grows with the frame's size and with the
        time between frames, so compare it at one size and rate only.

    Raises
    ------
    UserError
        If OpenCV is not installed.

    Notes
    -----
    ``EPE = mean(norm(f_pred - f_gt))`` over pixels and adjacent frames, f the flow of Farneback
    (2003) in pixels per frame; as Mind-Animator (Lu et al. 2024) reports it.
    """
    pixel.check_pair(pred, gt)
    cv2 = load_opencv()
    errors = threads.in_order(lambda clip: _of_clip(cv2, pred[clip], gt[clip]), range(len(pred)))
    return np.array(list(errors), dtype=np.float64)


def load_opencv() -> Any:
    """Import OpenCV.

    Returns
    -------
    module
        ``cv2``.

    Raises
    ------
    UserError
        If OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as problem:
        raise UserError(
            "the end-point error (epe) needs OpenCV: pip install 'neuroclips[flow]', or leave epe "
            "out of --extra-metrics"
        ) from problem
    return cv2


def _of_clip(cv2: Any, pred: np.ndarray, gt: np.ndarray) -> float:
    # The public code takes RGB for BGR here, which weighs red and blue the other way round.
    pred_grey, gt_grey = (
        [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGR2GRAY) for frame in side]
        for side in (pred, gt)
    )
    errors = [
        np.linalg.norm(
            _flow(cv2, *pred_grey[i : i + 2]) - _flow(cv2, *gt_grey[i : i + 2]), axis=-1
        ).mean()
        for i in range(len(pred_grey) - 1)
    ]
    return float(np.mean(errors))


def _flow(cv2: Any, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    flow: np.ndarray = cv2.calcOpticalFlowFarneback(first, second, None, *FARNEBACK)
    return flow
