"""Regions of interest from a CIFTI label file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.runs import CORTEX, guarded, load
from neuroclips_cli.errors import UserError

_NAMELESS = ("", "???", "unknown", "medial_wall")


def region_mask(path: Path, regions: Sequence[str], models: Any) -> NDArray[np.bool_]:
    """Tell which cortical vertices lie in named regions.

    Parameters
    ----------
    path
        CIFTI-2 label file (``*.dlabel.nii``); vertices are matched by hemisphere and number.
    regions
        Label names, such as ``L_V1_ROI``; ``V1`` stands for both hemispheres. Empty: every named
        label.
    models
        Brain models of the cortical vertices of the runs (nibabel BrainModelAxis).

    Returns
    -------
    bool (vertices,)

    Raises
    ------
    UserError
        If the file is no label file or has no such region.
    """
    names, values, theirs = _open(path, "set data.mask to a .dlabel.nii file")
    inside = np.isin(values, list(_keys(path, names, regions)))
    mask = np.zeros(len(models), bool)
    for structure in CORTEX:
        here = np.asarray(theirs.name, str) == structure
        ours = np.asarray(models.name, str) == structure
        mask[ours] = np.isin(models.vertex[ours], theirs.vertex[here & inside])
    if not mask.any():
        raise UserError(f"no cortical vertex of the runs lies in the regions of {path}")
    return mask


def read_labels(path: Path, models: Any) -> NDArray[np.str_]:
    """Return the region of every cortical vertex.

    Parameters
    ----------
    path
        CIFTI-2 label file (``*.dlabel.nii``); vertices are matched by hemisphere and number.
    models
        Brain models of the cortical vertices of the runs (nibabel BrainModelAxis).

    Returns
    -------
    str (vertices,)
        Label names as the file has them; empty where a vertex has no (named) label.

    Raises
    ------
    UserError
        If the file is no label file, or labels none of these vertices.
    """
    names, values, theirs = _open(path, "give a .dlabel.nii file")
    named = {key: name for key, name in names.items() if name.lower() not in _NAMELESS}
    labels = np.zeros(len(models), dtype=object)
    labels[:] = ""
    for structure in CORTEX:
        here = np.asarray(theirs.name, str) == structure
        ours = np.flatnonzero(np.asarray(models.name, str) == structure)
        by_vertex = dict(zip(theirs.vertex[here], values[here], strict=True))
        for row, vertex in zip(ours, models.vertex[ours], strict=True):
            labels[row] = named.get(int(by_vertex.get(vertex, -1)), "")
    if not any(labels):
        raise UserError(f"{path} labels no cortical vertex of the runs: give another label file")
    return labels.astype(str)


def plain_name(label: str) -> str:
    """Return a region's name without hemisphere and ending: ``L_V1_ROI`` -> ``V1``."""
    return label.removeprefix("L_").removeprefix("R_").removesuffix("_ROI")


def _open(path: Path, advice: str) -> tuple[dict[int, str], NDArray[np.int64], Any]:
    """Return names by key, the key of each grayordinate, and the file's brain models."""
    from nibabel.cifti2 import BrainModelAxis, Cifti2Image, LabelAxis

    image = load(path)
    if not isinstance(image, Cifti2Image):
        raise UserError(f"{path} is no CIFTI label file: {advice}")
    labels, theirs = guarded(path, lambda: [image.header.get_axis(i) for i in range(2)])
    if not isinstance(labels, LabelAxis) or not isinstance(theirs, BrainModelAxis):
        raise UserError(f"{path} is no CIFTI label file: {advice}")
    names = {int(key): str(name) for key, (name, _) in labels.label[0].items()}
    values = guarded(path, lambda: np.asarray(image.dataobj[0])).astype(np.int64)
    if values.shape != (len(theirs),) or np.shape(theirs.vertex) != values.shape:
        raise UserError(f"{path} has no label for each grayordinate: {advice}")
    return names, values, theirs


def _keys(path: Path, names: dict[int, str], regions: Sequence[str]) -> set[int]:
    if not regions:
        return {key for key, name in names.items() if name.lower() not in _NAMELESS}
    keys: set[int] = set()
    for region in regions:
        spellings = {region, f"L_{region}_ROI", f"R_{region}_ROI"}
        found = {key for key, name in names.items() if name in spellings}
        if not found:
            close = difflib.get_close_matches(region, names.values(), n=1, cutoff=0.3)
            hint = f" (nearest name: {close[0]})" if close else ""
            raise UserError(f"{path} has no region {region}{hint}: correct data.regions")
        keys |= found
    return keys
