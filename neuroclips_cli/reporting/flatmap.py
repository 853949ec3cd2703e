"""Pictures of voxel weights: on flat surfaces, or as dots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

from collections.abc import Mapping

from neuroclips_cli.data.surfaces import FlatSurface

SHOWN = (0.25, 0.75)
"""Range of the colors (paper C.5); what is beyond has the end's color."""
PANEL = 520  # pixels of a panel's longer side
GAP, TOP, BAR = 24, 34, 70
SMOOTH = 2  # drawn this much larger, then averaged down
GREY = (222, 222, 222)
# from dark to bright, evenly in lightness
_COLORS = np.array(
    [(24, 16, 78), (92, 24, 122), (176, 46, 104), (236, 104, 64), (252, 186, 72), (252, 250, 170)],
    dtype=float,
)


@dataclass(frozen=True)
class Panel:
    """One picture among several.

    Attributes
    ----------
    title : str
    points : float (vertices, 2)
        Positions, y upwards.
    values : float (vertices,)
        0..1; NaN where there is nothing to show.
    triangles : int (triangles, 3) or None
        Numbers of vertices; None draws dots.
    """

    title: str
    points: NDArray[np.float64]
    values: NDArray[np.float64]
    triangles: NDArray[np.int64] | None = None


def colors(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return uint8 (n, 3) for values, `SHOWN` from dark to bright."""
    low, high = SHOWN
    place = np.clip((values - low) / (high - low), 0, 1) * (len(_COLORS) - 1)
    steps = np.arange(len(_COLORS))
    return np.stack([np.interp(place, steps, _COLORS[:, c]) for c in range(3)], -1).astype(np.uint8)


def draw(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """Draw panels in rows, with one color bar below.

    Parameters
    ----------
    rows : sequence of sequence of Panel
        Rows of equal length.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    from PIL import Image, ImageDraw, ImageFont

    step = PANEL + GAP
    width = GAP + len(rows[0]) * step
    height = len(rows) * (step + TOP) + BAR
    sheet = Image.new("RGB", (width, height), "white")
    font = ImageFont.load_default(size=16)
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            left, top = GAP + column * step, TOP + row * (step + TOP)
            sheet.paste(_panel(panel), (left, top))
            ImageDraw.Draw(sheet).text((left, top - 26), panel.title, fill="black", font=font)
    _bar(sheet, height - BAR)
    return sheet


def _panel(panel: Panel) -> Image.Image:
    from PIL import Image, ImageDraw

    size = PANEL * SMOOTH
    image = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(image)
    low, extent = panel.points.min(axis=0), np.ptp(panel.points, axis=0)
    margin = 8 * SMOOTH
    scale = (size - 2 * margin) / max(extent.max(), 1e-9)
    offset = (size - extent * scale) / 2
    places = (panel.points - low) * scale + offset
    places[:, 1] = size - places[:, 1]
    if panel.triangles is None:
        _dots(pen, places, panel.values)
    else:
        _mesh(pen, places, panel.triangles, panel.values)
    return image.resize((PANEL, PANEL), Image.Resampling.BOX)


def _dots(
    pen: ImageDraw.ImageDraw, places: NDArray[np.float64], values: NDArray[np.float64]
) -> None:
    radius = 5 * SMOOTH
    # strong ones last, so that they are not hidden
    for row in np.argsort(np.nan_to_num(values, nan=-1), kind="stable"):
        x, y = places[row]
        known = not np.isnan(values[row])
        fill = tuple(colors(values[row : row + 1])[0]) if known else GREY
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _mesh(
    pen: ImageDraw.ImageDraw,
    places: NDArray[np.float64],
    triangles: NDArray[np.int64],
    values: NDArray[np.float64],
) -> None:
    """Fill each triangle with the mean of its known corners; grey where none is known."""
    corners = values[triangles]
    known = ~np.isnan(corners)
    total = np.where(known, corners, 0).sum(axis=1)
    fills = colors(total / np.maximum(known.sum(axis=1), 1))
    fills[~known.any(axis=1)] = GREY
    for triangle, fill in zip(places[triangles].reshape(-1, 6), fills, strict=True):
        pen.polygon(triangle.tolist(), fill=tuple(fill.tolist()))


def _bar(sheet: Image.Image, top: int) -> None:
    """Draw the color bar with its ends and middle."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=16)
    width, height = min(400, sheet.width - 2 * GAP), 16
    left = (sheet.width - width) // 2
    ramp = colors(np.linspace(*SHOWN, width))
    sheet.paste(Image.fromarray(np.repeat(ramp[None], height, axis=0)), (left, top))
    pen = ImageDraw.Draw(sheet)
    for share in (0.0, 0.5, 1.0):
        value = SHOWN[0] + share * (SHOWN[1] - SHOWN[0])
        place = (left + share * width, top + height + 4)
        pen.text(place, f"{value:g}", fill="black", font=font, anchor="ma")


TITLES = {"perception": "Perception Reconstructor", "semantics": "Semantics Reconstructor"}


def hemispheres(
    maps: Mapping[str, NDArray[np.float64]],
    sides: Sequence[NDArray[np.bool_]],
    vertices: NDArray[np.int64],
    surfaces: Sequence[FlatSurface],
) -> list[list[Panel]]:
    """Return one row per map, left and right.

    Parameters
    ----------
    maps
        Key of `TITLES` -> float (voxels,).
    sides
        bool (voxels,): which voxels lie in the left, which in the right hemisphere.
    vertices
        int (voxels,) their vertices.
    surfaces
        Left and right.
    """
    return [
        [
            Panel(
                f"{TITLES[name]}, {side}",
                surface.points,
                _on_surface(values[here], vertices[here], len(surface.points)),
                surface.triangles,
            )
            for side, here, surface in zip(("left", "right"), sides, surfaces, strict=True)
        ]
        for name, values in maps.items()
    ]


def synthetic_panels(
    maps: Mapping[str, NDArray[np.float64]],
    areas: NDArray[np.str_],
    centers: NDArray[np.float64],
) -> list[list[Panel]]:
    """Return one row per map: early voxels where in the picture they look, then the others.

    Parameters
    ----------
    maps
        Key of `TITLES` -> float (voxels,).
    areas
        (voxels,) ``early``, ``higher`` or ``none``.
    centers
        float (voxels, 2) of the receptive fields, x and y, y downward; NaN for other voxels.
    """
    early = areas == "early"
    # higher voxels have no position: they stand row by row in the order of their numbers
    count = int((~early).sum())
    row, column = np.divmod(np.arange(count), max(1, int(np.ceil(np.sqrt(count)))))
    block = np.stack([column, -row], axis=1).astype(float)
    return [
        [
            Panel(f"{TITLES[name]}: early, by visual field", centers[early] * (1, -1), map_[early]),
            Panel("higher, by number", block, map_[~early]),
        ]
        for name, map_ in maps.items()
    ]


def _on_surface(
    values: NDArray[np.float64], vertices: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    whole = np.full(count, np.nan)
    whole[vertices] = values
    return whole
