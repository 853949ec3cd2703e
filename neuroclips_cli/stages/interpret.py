"""``neuroclips interpret``: which voxels the two reconstructors weigh most (paper 7, C.5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import console
from neuroclips_cli.data.brain_maps import Geometry, read_geometry, write_maps
from neuroclips_cli.data.region_files import CORTEX, read_region_file, region_paths
from neuroclips_cli.data.regions import labels_of, on_grid, on_models, plain_name
from neuroclips_cli.data.structures import without_prefix
from neuroclips_cli.data.surfaces import FlatSurface, in_stated_order, read_flat, template
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics.roi import grouped, ratio, region_means, scaled, voxel_weights
from neuroclips_cli.models.subject_place import recorded_place
from neuroclips_cli.reporting.flatmap import Panel, draw, hemispheres, synthetic_panels
from neuroclips_cli.runs.stage import Stage, open_stage, read_csv, require_upstream
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.parse import nearest

MODELS = {"perception": "train-pr", "semantics": "train-sr"}
LOWER = ("V1", "V2", "V3", "V4")
HIGHER = (
    *("V3A", "V3B", "V6", "V6A", "V7", "IPS1"),
    *("V8", "VVC", "PIT", "FFC", "VMV1", "VMV2", "VMV3"),
    *("V3CD", "LO1", "LO2", "LO3", "V4t", "FST", "MT", "MST", "PH"),
)
"""Visual areas of HCP's parcellation (Glasser et al. 2016, sections 1 to 5): primary and early
against the dorsal stream, the ventral stream, and the MT+ complex with its neighbors."""
PRACTICE: dict[str, tuple[str, ...]] = {"lower": ("early",), "higher": ("higher",)}


@dataclass(frozen=True)
class Choices:
    """What the user gives beside the trained models.

    Attributes
    ----------
    labels : str
        Label file, or two GIFTI files separated by a comma; empty: none.
    surfaces : tuple of Path or None
        Flat surfaces, left and right.
    lower, higher : tuple of str
        Region names to compare; empty for `LOWER` and `HIGHER`.
    """

    labels: str = ""
    surfaces: tuple[Path, Path] | None = None
    lower: tuple[str, ...] = ()
    higher: tuple[str, ...] = ()

    @property
    def areas(self) -> dict[str, tuple[str, ...]]:
        """Return the regions of lower and of higher areas."""
        return {"lower": self.lower or LOWER, "higher": self.higher or HIGHER}


@dataclass(frozen=True)
class _World:
    """What the simulation knows of the selected voxels; of real ones it is not known."""

    areas: NDArray[np.str_]
    centers: NDArray[np.float64]


def run(settings: Settings, choices: Choices | None = None, *, overwrite: bool = False) -> Path:
    """Map the first ridge layer's mean absolute weights of both reconstructors, scaled to 0..1.

    Parameters
    ----------
    settings : Settings
        ``data.mask`` is the label file where ``choices`` names none.
    choices : Choices, optional
        Label file, surfaces, regions.
    overwrite : bool
        Make it again even if nothing changed.

    Returns
    -------
    Path
        The stage folder: ``weights.dscalar.nii`` (``.nii`` for volumes), ``voxels.csv``,
        ``regions.csv`` and ``areas.csv`` where regions are known, ``weights.png`` where
        positions are.

    Raises
    ------
    UserError
        If a training stage is missing, or a file the user gave does not fit.
    """
    chosen = choices or Choices()
    if not chosen.labels and _names_regions(settings.data.mask):
        chosen = replace(chosen, labels=settings.data.mask)
    if not chosen.labels and (chosen.lower or chosen.higher):
        raise UserError("--lower and --higher name regions of a label file: give --labels too")
    inputs = require_upstream(settings, "interpret")
    truth = Path(settings.run.dataset) / f"subject{settings.run.subject}" / "ground_truth.npz"
    with open_stage(
        settings,
        "interpret",
        inputs=inputs | _files(chosen, truth),
        overwrite=overwrite,
        extra={"lower": chosen.lower, "higher": chosen.higher},
    ) as stage:
        if not stage.up_to_date:
            _interpret(stage, inputs, chosen, truth, settings.run.subject)
        folder = stage.folder
    _show(folder)
    return folder


def _names_regions(mask: str) -> bool:
    """Tell whether the mask of preprocess is a label file."""
    return bool(mask) and read_region_file(region_paths(mask)).names is not None


def _files(chosen: Choices, truth: Path) -> dict[str, Path]:
    """Return the files that decide the result, and refuse those that are not there."""
    left, right = chosen.surfaces or (None, None)
    given = {"surface-left": left, "surface-right": right}
    files = {name: path for name, path in given.items() if path is not None}
    for name, path in files.items():
        if not path.is_file():
            raise UserError(f"--{name} {path} does not exist: correct the path")
    if chosen.labels:
        labels = region_paths(chosen.labels)
        numbers = [""] if len(labels) == 1 else [f"_{n + 1}" for n in range(len(labels))]
        files |= {f"labels{n}": path for n, path in zip(numbers, labels, strict=True)}
    return files | ({"ground_truth": truth} if truth.is_file() else {})


def _interpret(
    stage: Stage, inputs: dict[str, Path], chosen: Choices, truth: Path, subject: int
) -> None:
    with np.load(inputs["preprocess"] / "selection.npz", allow_pickle=False) as selection:
        columns, selected = selection["columns"], selection["selected"]
    geometry = read_geometry(next(inputs["preprocess"].glob("selection*.nii")), columns)
    raw = _weights(inputs, int(selected.sum()), subject)
    maps = {name: scaled(values) for name, values in raw.items()}
    # all that the user gave is read before the first file is written
    world = _world(truth, selected)
    regions = _regions(chosen, geometry, selected, world)
    panels = _panels(chosen, geometry, maps, selected, world)
    with stage.atomic("weights.nii" if geometry.models is None else "weights.dscalar.nii") as path:
        whole = {name: _everywhere(values, selected) for name, values in maps.items()}
        write_maps(path, geometry, geometry.mask, whole)
    names = np.full(int(selected.sum()), "") if regions is None else regions
    rows = zip(columns[selected], names, *raw.values(), *maps.values(), strict=True)
    header = ["column", "region", *raw, *(f"{name}_scaled" for name in maps)]
    stage.write_csv("voxels.csv", header, rows)
    stage.fact("voxels", int(selected.sum()))
    if regions is not None:
        groups = chosen.areas if chosen.labels else PRACTICE
        _write_regions(stage, regions, groups, maps, raw)
    if panels:
        with stage.atomic("weights.png") as path:
            draw(panels).save(path, "PNG", optimize=True)


def _weights(inputs: dict[str, Path], voxels: int, subject: int) -> dict[str, NDArray[np.float64]]:
    raw = {
        name: voxel_weights(inputs[key] / "model.safetensors", recorded_place(inputs[key], subject))
        for name, key in MODELS.items()
    }
    for name, values in raw.items():
        if len(values) != voxels:
            raise UserError(
                f"{MODELS[name]} was trained on {len(values)} voxels, but preprocess selected "
                f"{voxels}: train again"
            )
    return raw


def _everywhere(values: NDArray[np.float64], selected: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a value for all voxels, 0 where they were not selected (as viewers expect it)."""
    whole = np.zeros(len(selected))
    whole[selected] = values
    return whole


def _world(truth: Path, selected: NDArray[np.bool_]) -> _World | None:
    if not truth.is_file():
        return None
    with np.load(truth, allow_pickle=False) as facts:
        areas, centers = facts["area"], facts["receptive_field_center"]
    return _World(areas[selected], centers[selected]) if len(areas) == len(selected) else None


def _regions(
    chosen: Choices, geometry: Geometry, selected: NDArray[np.bool_], world: _World | None
) -> NDArray[np.str_] | None:
    """Return the region of each selected voxel, None where no regions are known."""
    if chosen.labels:
        labels = _labels(chosen.labels, geometry)
        known = set(labels) | {plain_name(label) for label in np.unique(labels)}
        for region in (*chosen.lower, *chosen.higher):
            if region not in known:
                raise UserError(
                    f"{chosen.labels} has no region {region}{nearest(region, known)}: correct "
                    "--lower or --higher"
                )
        return labels[selected]
    if world is None:
        console.info("no regions: give a label file with --labels (*.dlabel.nii)")
        return None
    console.info("synthetic dataset: its own areas, early and higher, stand for regions")
    return np.where(world.areas == "none", "", world.areas)


def _labels(given: str, geometry: Geometry) -> NDArray[np.str_]:
    """Return every voxel's region; the structure of subcortical ones that have no label."""
    file = read_region_file(region_paths(given))
    if len(file.maps) > 1:
        console.warn(
            f"{file.called} holds {len(file.maps)} maps: the first, {file.maps[0]}, counts"
        )
    if geometry.models is not None:
        labels = labels_of(file, on_models(file, 0, geometry.models))
        models = geometry.models
        structures = np.array([without_prefix(name) for name in models.name.tolist()])
        return np.where((labels == "") & ~models.surface_mask, structures, labels)
    if geometry.mask is None or geometry.affine is None:
        raise ValueError("a geometry without brain models has a mask and an affine")
    values = on_grid(file, 0, geometry.mask.shape, geometry.affine)
    return labels_of(file, values[geometry.mask])


def _write_regions(
    stage: Stage,
    regions: NDArray[np.str_],
    groups: dict[str, tuple[str, ...]],
    maps: dict[str, NDArray[np.float64]],
    raw: dict[str, NDArray[np.float64]],
) -> None:
    columns = {f"{name}_scaled": values for name, values in maps.items()} | raw
    areas = grouped(regions, groups, [plain_name(name) for name in regions])
    known = dict(zip(regions, areas, strict=True))
    means = region_means(regions, columns)
    header = ["region", "area", "voxels", *columns]
    rows = [[m.region, known[m.region], m.voxels, *_cells(m.means)] for m in means]
    stage.write_csv("regions.csv", header, rows)
    by_area = {m.region: m for m in region_means(areas, columns)}
    found = {group: by_area[group] for group in groups if group in by_area}
    if set(found) < set(groups):
        console.warn(
            f"no voxel lies in {' or '.join(g for g in groups if g not in found)} visual areas: "
            "name the label file's own regions with --lower and --higher"
        )
    area_rows = [[m.region, m.voxels, *_cells(m.means)] for m in found.values()]
    if set(found) == set(groups):
        compared = ratio(found["lower"], found["higher"])
        area_rows.append(["lower / higher", "", *_cells(compared)])
    stage.write_csv("areas.csv", ["area", "voxels", *columns], area_rows)


def _cells(values: dict[str, float]) -> list[str]:
    return [f"{value:.6g}" for value in values.values()]


def _panels(
    chosen: Choices,
    geometry: Geometry,
    maps: dict[str, NDArray[np.float64]],
    selected: NDArray[np.bool_],
    world: _World | None,
) -> list[list[Panel]]:
    surfaces = _surfaces(chosen, geometry, quiet=world is not None)
    if surfaces is not None:
        models = geometry.models[np.flatnonzero(selected)]
        sides = [np.asarray(models.name, str) == structure for structure in CORTEX]
        return hemispheres(maps, sides, models.vertex, surfaces)
    return [] if world is None else synthetic_panels(maps, world.areas, world.centers)


def _surfaces(
    chosen: Choices, geometry: Geometry, *, quiet: bool
) -> tuple[FlatSurface, FlatSurface] | None:
    if geometry.models is None:
        console.info("no flat map: the runs are volumes; weights.nii shows them in any viewer")
        return None
    if not geometry.models.surface_mask.any():
        console.info("no flat map: no cortex is read; weights.dscalar.nii shows the structures")
        return None
    counts = [geometry.models.nvertices.get(structure, 0) for structure in CORTEX]
    if chosen.surfaces is not None:
        files = in_stated_order(*chosen.surfaces)
        if files != chosen.surfaces:
            console.warn("the surfaces are exchanged, since the files state their hemispheres so")
        options = ("--surface-left", "--surface-right")
        left, right = map(read_flat, files, counts, options)
        return left, right
    found = template(counts[0])
    if isinstance(found, str):
        if not quiet:
            console.info(found)
        return None
    return found


def _show(folder: Path) -> None:
    """Print lower against higher areas, and say where the maps are."""
    if (folder / "areas.csv").is_file():
        rows = read_csv(folder / "areas.csv")
        columns = ("area", "voxels", "perception_scaled", "semantics_scaled", *MODELS)
        cells = [[row[name] for name in columns] for row in rows]
        console.table("Mean absolute ridge weights", columns, cells)
    names = sorted(p.name for p in folder.iterdir() if p.name != "manifest.json")
    console.info(f"{folder}: {', '.join(names)}")
