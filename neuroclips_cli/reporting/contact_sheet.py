"""A contact sheet: one row of still frames per clip, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuroclips_cli.reporting.clips import ShownClip

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

TILE = 128  # pixels of one frame on the sheet; twice the frames of profile tiny
GAP = 6
TEXT = 300  # width of the caption column
TOP = 40
FILM = ("shown: first", "shown: last")
COLUMNS = (*FILM, "blurry", "keyframe", "pred: first", "pred: middle", "pred: last")


def contact_sheet(clips: Sequence[ShownClip]) -> Image.Image:
    """Draw the sheet.

    Parameters
    ----------
    clips : sequence of ShownClip
        One row each: ground truth first and last where the films are known, blurry clip's middle,
        keyframe, reconstruction first, middle and last, and the captions.

    Returns
    -------
    PIL.Image.Image
        RGB; a missing part is left grey.
    """
    from PIL import Image, ImageDraw, ImageFont

    step = TILE + GAP
    columns = COLUMNS if any(clip.gt is not None for clip in clips) else COLUMNS[len(FILM) :]
    size = (GAP + len(columns) * step + TEXT, TOP + len(clips) * step)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for column, title in enumerate(columns):
        draw.text((GAP + column * step, 12), title, fill="black", font=font)
    for row, clip in enumerate(clips):
        top = TOP + row * step
        for column, frame in enumerate(_frames(clip)[-len(columns) :]):
            left = GAP + column * step
            if frame is None:
                draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=(225, 225, 225))
            else:
                image = Image.fromarray(np.asarray(frame))
                sheet.paste(image.resize((TILE, TILE), _method(image)), (left, top))
        _write(draw, clip, (GAP + len(columns) * step, top), font)
    return sheet


def _frames(clip: ShownClip) -> list[np.ndarray | None]:
    blurry = None if clip.blurry is None else clip.blurry[len(clip.blurry) // 2]
    pred, gt = clip.pred, clip.gt
    return [
        *((None, None) if gt is None else (gt[0], gt[-1])),
        *(blurry, clip.keyframe),
        *(pred[0], pred[len(pred) // 2], pred[-1]),
    ]


def _method(image: Image.Image) -> Image.Resampling:
    from PIL import Image

    # small frames are shown as they are, pixel by pixel
    return Image.Resampling.NEAREST if image.width < TILE else Image.Resampling.BOX


def _write(
    draw: ImageDraw.ImageDraw, clip: ShownClip, corner: tuple[int, int], font: object
) -> None:
    from textwrap import wrap

    lines = [f"clip {clip.number} ({clip.kind})"]
    for title, text in (("shown", clip.true_caption), ("decoded", clip.caption)):
        if text:
            lines += wrap(f"{title}: {text}", 38)[:2]
    if "ssim" in clip.scores:
        lines.append(f"SSIM {clip.scores['ssim']:.2f}")
    draw.multiline_text(corner, "\n".join(lines), fill="black", font=font, spacing=3)  # type: ignore[arg-type]
