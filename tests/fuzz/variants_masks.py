"""Masks and regions (kind 1): every orientation, format, value and hemisphere, by preprocess.

All voxels of the subject answer reproducibly, so those selected are those inside the mask. What is
right is computed with numpy from the places of voxels in mm, or the numbers of vertices.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, LabelAxis, ScalarAxis
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray
from tiny_subject import AFFINES, MESH, PRESENT, SHAPE, Subject, film, models, preprocess, selected
from variants import Refusal, Variant

ALL_FLIPS = list(itertools.product((1, -1), repeat=3))
ORDERS = list(itertools.permutations(range(3)))
CORTEX = 2 * PRESENT
Array = NDArray[Any]


def _half() -> Array:
    """Return a mask that no exchange or reversal of axes leaves as it is."""
    inside = np.zeros(SHAPE, bool)
    inside[:2, 1:] = True
    inside[2, 3, :2] = True
    return inside


def _places(shape: Sequence[int], affine: Array) -> Array:
    """Return where voxels lie, (voxels, 3) in mm."""
    numbers = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    return numbers @ affine[:3, :3].T + affine[:3, 3]


def _by_place(image: Any, affine: Array, inside: Callable[[Array], Array]) -> Array:
    """Return the runs' voxels whose place, looked up in the mask, is inside."""
    values = np.asarray(image.dataobj, np.float64).reshape(image.shape[:3])
    back = np.linalg.inv(image.affine)
    where = np.rint(_places(SHAPE, affine) @ back[:3, :3].T + back[:3, 3]).astype(int)
    assert (where >= 0).all() and (where < values.shape).all()
    return np.flatnonzero(inside(values[tuple(where.T)]))


def _at_least_half(values: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.isfinite(values) & (values >= 0.5)


def _select(given: dict) -> Array:
    return selected(preprocess(given["root"], data__mask=given["mask"], **given.get("more", {})))


def _volume(shared: Path, name: str, affine: str, mask: Callable[[Path], Path], answer: Any,
            **more: Any) -> Variant:  # fmt: skip
    """Return a variant of a volumetric subject."""

    def make(folder: Path) -> dict:
        root = Subject(AFFINES[affine]).write(folder / "d", shared)
        return {"root": root, "mask": str(mask(folder)), "more": more}

    if not isinstance(answer, Refusal):
        inside = answer

        def answer(given: dict) -> Array:
            return _by_place(nib.load(given["mask"]), AFFINES[affine], inside)

    return Variant(name, make, _select, answer)


def _save(values: Array, affine: Array, name: str, folder: Path) -> Path:
    image = nib.MGHImage if ".mg" in name else nib.Nifti1Image
    image(values, affine).to_filename(folder / name)
    return folder / name


def _orientations(shared: Path) -> Iterator[Variant]:
    """All 48 orientations of a mask against LAS runs, some against others."""
    turns = list(itertools.product(ORDERS, ALL_FLIPS))
    pairs = {"LAS": turns, "RAS": turns[1::7], "oblique": turns[2::5]}
    for runs, (order, flips) in ((runs, turn) for runs, some in pairs.items() for turn in some):
        turn = np.array([*zip(order, flips, strict=True)], float)

        def mask(folder: Path, runs=runs, turn=turn) -> Path:
            values = apply_orientation(_half().astype(np.uint8), turn)
            affine = AFFINES[runs] @ inv_ornt_aff(turn, SHAPE)
            return _save(values, affine, "mask.nii", folder)

        yield _volume(shared, f"{runs} runs, mask {order} {flips}", runs, mask, _at_least_half)


def _grids(shared: Path) -> Iterator[Variant]:
    """Grids that are not the runs', and those that are but for rounding."""
    base, half = AFFINES["PSR"], _half().astype(np.float32)
    elsewhere = Refusal(("affine", "grid"))
    for axis, by in itertools.product(range(3), (40.0, 1.0, 0.5, -2.0)):
        moved = base.copy()
        moved[axis, 3] += by
        name = f"mask moved by {by} mm along {axis}"
        yield _volume(shared, name, "PSR", partial(_save, half, moved, "m.nii"), elsewhere)
    for scale in (1.1, 0.5):
        other = base @ np.diag([scale, scale, scale, 1])
        name = f"voxels of {scale} the size"
        yield _volume(shared, name, "PSR", partial(_save, half, other, "m.nii"), elsewhere)
    for size, row in itertools.product((1e-9, 1e-7, 1e-6, 1e-5), range(3)):
        near = base.copy()
        near[row] += size * np.array([1, -1, 1, -1])
        name = f"affine's row {row} rounded by {size}"
        yield _volume(shared, name, "PSR", partial(_save, half, near, "m.nii"), _at_least_half)
    cut = partial(_save, half[:, 1:], base, "m.nii")
    yield _volume(shared, "a mask with one row less", "PSR", cut, elsewhere)

    def only(code: str, folder: Path) -> Path:
        image = nib.Nifti1Image(half, base)
        image.set_sform(base, int(code == "s"))
        image.set_qform(base, int(code == "q"))
        image.to_filename(folder / "m.nii")
        return folder / "m.nii"

    for code in "sq":
        name = f"mask with {code}form only"
        yield _volume(shared, name, "PSR", partial(only, code), _at_least_half)
    yield _volume(shared, "mask that states no place", "PSR", partial(only, "-"), elsewhere)


VALUES: dict[str, tuple[Callable[[Array], Array], Any]] = {
    "bool": (lambda m: m.astype(np.uint8), _at_least_half),
    "255": (lambda m: m.astype(np.uint8) * 255, _at_least_half),
    "int16": (lambda m: m.astype(np.int16), _at_least_half),
    "float64": (lambda m: m.astype(np.float64), _at_least_half),
    "big-endian": (lambda m: m.astype(">f4"), _at_least_half),
    "nan outside": (lambda m: np.where(m, 1, np.nan).astype(np.float32), _at_least_half),
    "inf outside": (lambda m: np.where(m, 1, np.inf).astype(np.float32), _at_least_half),
    "tiny outside": (lambda m: np.where(m, 1, 1e-7).astype(np.float32), _at_least_half),
    "tiny negative": (lambda m: np.where(m, 1, -1e-7).astype(np.float32), _at_least_half),
    "small outside": (lambda m: np.where(m, 1, 0.01).astype(np.float32), _at_least_half),
    "probability": (lambda m: np.where(m, 0.8, 0.3).astype(np.float32), _at_least_half),
    "0.9999": (lambda m: np.where(m, 0.9999, 0).astype(np.float32), _at_least_half),
    "negative": (lambda m: np.where(m, 1, -1).astype(np.float32), Refusal(("negative",))),
    "z values": (lambda m: np.where(m, 4, -3.5).astype(np.float32), Refusal(("negative",))),
    "all zero": (lambda m: np.zeros(m.shape, np.uint8), Refusal(("no voxel",))),
    "all nan": (lambda m: np.full(m.shape, np.nan, np.float32), Refusal(("no voxel",))),
    "all tiny": (lambda m: np.full(m.shape, 1e-6, np.float32), Refusal(("no voxel",))),
    "trailing axis": (lambda m: m.astype(np.uint8)[..., None], _at_least_half),
    "two volumes": (lambda m: np.stack([m, m], -1).astype(np.uint8), Refusal(("shape",))),
    "complex": (lambda m: m.astype(np.complex64), Refusal(("complex",))),
}
"""How a mask may be stored: values, and what is inside."""


def _values(shared: Path) -> Iterator[Variant]:
    for (name, (values, inside)), suffix in itertools.product(VALUES.items(), (".nii", ".nii.gz")):
        mask = partial(_save, values(_half()), AFFINES["LAS"], f"m{suffix}")
        yield _volume(shared, f"values {name} in {suffix}", "LAS", mask, inside)
    mask = partial(_save, _half().astype(np.uint8), AFFINES["LAS"], "m.mgz")
    yield _volume(shared, "MGZ", "LAS", mask, _at_least_half)

    def slope(folder: Path) -> Path:
        image = nib.Nifti1Image(_half().astype(np.uint8) * 200, AFFINES["LAS"])
        image.header.set_slope_inter(1 / 200, 0)
        image.to_filename(folder / "m.nii")
        return folder / "m.nii"

    yield _volume(shared, "a slope", "LAS", slope, _at_least_half)
    atlas = np.arange(120).reshape(SHAPE) % 4
    save = partial(_save, atlas.astype(np.int16), AFFINES["LAS"], "atlas.nii.gz")
    for regions in ((1,), (2, 3), (0,)):

        def numbered(values: Array, regions=regions) -> Array:
            return np.isin(values, regions)

        words = [str(region) for region in regions]
        name = f"numbers {words} of an atlas"
        yield _volume(shared, name, "LAS", save, numbered, data__regions=words)

    def named(folder: Path) -> Path:
        (folder / "atlas.tsv").write_text("index\tname\n1\tV1\n2\tV2\n3\tMT\n")
        return save(folder)

    def second(values: Array) -> Array:
        return np.isin(values, (2, 3))

    more = {"data__regions": ["V2", "MT"]}
    yield _volume(shared, "names of an atlas in a table", "LAS", named, second, **more)
    refusal = Refusal(("V2", "names none"))
    yield _volume(shared, "names where there are none", "LAS", save, refusal, **more)


NAMES = {0: ("???", (0, 0, 0, 0)), 1: ("L_V1_ROI", (1, 0, 0, 1)), 2: ("R_V1_ROI", (0, 1, 0, 1)),
         3: ("L_MT_ROI", (0, 0, 1, 1)), 4: ("L_Medial_wall", (0, 0, 0, 1))}  # fmt: skip


def _keys(axis: Any) -> Array:
    """Return label keys by vertex number and side: first and second fifths of each hemisphere."""
    left = np.char.endswith(np.asarray(axis.name, str), "LEFT")
    part = np.where(np.asarray(axis.vertex) >= 0, np.asarray(axis.vertex) * 5 // MESH, 4)
    keys = np.where(part == 0, np.where(left, 1, 2), np.where((part == 1) & left, 3, 0))
    return np.where((part == 2) & left, 4, keys).astype(np.float32)


def _write_cifti(axis: Any, maps: Any, values: Array, path: Path) -> Path:
    Cifti2Image(values.astype(np.float32), header=(maps, axis)).to_filename(path)
    return path


def _surface(shared: Path, name: str, mask: Callable[[Path], Path | str], answer: Any,
             regions: Sequence[str] = ()) -> Variant:  # fmt: skip
    """Return a variant of a subject of CIFTI runs."""

    def make(folder: Path) -> dict:
        root = Subject().write(folder / "d", shared)
        more = {"data__regions": list(regions)}
        return {"root": root, "mask": str(mask(folder)), "more": more}

    return Variant(name, make, _select, answer)


def _cifti(shared: Path) -> Iterator[Variant]:
    """CIFTI label and scalar files on the runs' vertices, in other orders, with voxels; CIFTI-1."""
    own = models()
    cortex = own[:CORTEX]
    other_order = cortex[np.r_[PRESENT:CORTEX, 0:PRESENT]]
    whole = sum(
        (BrainModelAxis.from_mask(np.ones(MESH, bool), f"Cortex{s}") for s in ("Right",)),
        BrainModelAxis.from_mask(np.ones(MESH, bool), "CortexLeft"),
    )
    axes = {"the runs' own": own, "cortex": cortex, "right first": other_order, "full mesh": whole}
    wanted: dict[str, tuple[list[str], tuple[int, ...]]] = {
        "V1": (["V1"], (1, 2)),
        "L_V1_ROI": (["L_V1_ROI"], (1,)),
        "V1 and MT": (["V1", "MT"], (1, 2, 3)),
        "every named label": ([], (1, 2, 3)),
    }
    for (place, axis), (name, (regions, keys)) in itertools.product(axes.items(), wanted.items()):

        def labels(folder: Path, axis=axis) -> Path:
            table = LabelAxis(["areas"], [NAMES])
            return _write_cifti(axis, table, _keys(axis)[None], folder / "a.dlabel.nii")

        answer = np.flatnonzero(np.isin(_keys(cortex), keys))
        yield _surface(shared, f"dlabel on {place}: {name}", labels, answer, regions)
    inside = np.isin(_keys(cortex), (1, 3))
    stored = {
        "0 and 1": (0.0, 1.0),
        "nan outside": (np.nan, 1.0),
        "tiny outside": (1e-7, 1.0),
        "5 inside": (0.0, 5.0),
        "small negative outside": (-1e-6, 1.0),
    }
    for (name, (out, there)), place in itertools.product(stored.items(), ("cortex", "full mesh")):

        def scalars(folder: Path, out=out, there=there, axis=axes[place]) -> Path:
            values = np.where(np.isin(_keys(axis), (1, 3)), there, out)[None]
            return _write_cifti(axis, ScalarAxis(["area"]), values, folder / "a.dscalar.nii")

        yield _surface(shared, f"dscalar on {place}: {name}", scalars, np.flatnonzero(inside))
    for name, (values, words) in {
        "negative": (np.where(inside, 3, -3), ("negative",)),
        "all zero": (np.zeros(CORTEX), ("no voxel",)),
        "all nan": (np.full(CORTEX, np.nan), ("no voxel",)),
    }.items():

        def bad(folder: Path, values=values) -> Path:
            axis = ScalarAxis(["area"])
            return _write_cifti(cortex, axis, values[None], folder / "a.dscalar.nii")

        yield _surface(shared, f"dscalar {name}", bad, Refusal(words))

    def two(folder: Path, kind: str) -> Path:
        if kind == "labels":
            second = {0: ("???", (0, 0, 0, 0)), 1: ("V8", (1, 0, 0, 1))}
            axis = LabelAxis(["old", "new"], [NAMES, second])
            values = np.stack([_keys(cortex), _keys(cortex) == 3])
        else:
            axis, values = ScalarAxis(["t", "area"]), np.stack([np.ones(CORTEX), inside])
        suffix = "dlabel" if kind == "labels" else "dscalar"
        return _write_cifti(cortex, axis, values, folder / f"a.{suffix}.nii")

    for kind, region, answer in (
        ("labels", "V8", np.flatnonzero(_keys(cortex) == 3)),
        ("labels", "V1", np.flatnonzero(np.isin(_keys(cortex), (1, 2)))),
        ("numbers", "area", np.flatnonzero(inside)),
        ("labels", "", Refusal(("old, new",))),
        ("numbers", "", Refusal(("t, area",))),
    ):
        regions = [region] if region else []
        name = f"two maps of {kind}, {region or 'none'} chosen"
        yield _surface(shared, name, partial(two, kind=kind), answer, regions)

    def old(folder: Path) -> Path:
        table = LabelAxis(["areas"], [NAMES])
        path = _write_cifti(cortex, table, _keys(cortex)[None], folder / "a.dlabel.nii")
        content = path.read_bytes()
        path.write_bytes(content.replace(b'<CIFTI Version="2', b'<CIFTI Version="1'))
        return path

    yield _surface(shared, "CIFTI-1", old, Refusal(("CIFTI-1", "wb_command -file-convert")))

    def series(folder: Path) -> Path:
        return next((folder / "d" / "subject1").glob("seg1_1*"))

    yield _surface(shared, "a dense time series", series, Refusal(("seg1_1", "dense label")))

    def finer(folder: Path) -> Path:
        axis = BrainModelAxis.from_mask(np.ones(2 * MESH, bool), "CortexLeft")
        values = np.ones((1, 2 * MESH))
        return _write_cifti(axis, ScalarAxis(["area"]), values, folder / "a.dscalar.nii")

    yield _surface(shared, "another mesh", finer, Refusal(("160", "80", "mesh")))
    volume = partial(_save, _half().astype(np.uint8), AFFINES["RAS"], "m.nii")
    yield _surface(shared, "a volume for surface runs", volume, Refusal(("dtseries", "NIfTI")))

    def for_volumes(folder: Path, axis: Any) -> Path:
        values = np.ones((1, len(axis)))
        return _write_cifti(axis, ScalarAxis(["area"]), values, folder / "a.dscalar.nii")

    refusal = Refusal(("NIfTI volumes", "dtseries"))
    cortical = partial(for_volumes, axis=cortex)
    yield _volume(shared, "a surface map for volumes", "RAS", cortical, refusal)
    below = np.zeros(SHAPE, bool)
    below[2:4, 1:3, 1] = True

    def make(folder: Path) -> dict:
        root = Subject(AFFINES["LAS"]).write(folder / "d", shared)
        return {"root": root, "mask": str(for_volumes(folder, own))}

    answer = np.flatnonzero(below[::-1])
    yield Variant("the voxels of a CIFTI map for volumes", make, _select, answer)


def _write_gifti(path: Path, values: Array, structure: str | None, labels: Mapping[int, str] | None
                 ) -> Path:  # fmt: skip
    kind = ("LABEL", np.int32, "INT32") if labels is not None else ("SHAPE", np.float32, "FLOAT32")
    array = GiftiDataArray(
        values.astype(kind[1]), f"NIFTI_INTENT_{kind[0]}", f"NIFTI_TYPE_{kind[2]}"
    )
    image = GiftiImage(darrays=[array])
    if structure:
        image.meta["AnatomicalStructurePrimary"] = structure
    table = GiftiLabelTable()
    for key, name in (labels or {}).items():
        entry = GiftiLabel(key, 1, 0, 0, 1)
        entry.label = name
        table.labels.append(entry)
    image.labeltable = table
    nib.save(image, path)
    return path


def _gifti(shared: Path) -> Iterator[Variant]:
    """GIFTI files of one hemisphere or both, in either order; the file says which is which."""
    keys = np.arange(MESH) * 4 // MESH
    names = {0: "???", 1: "V1", 2: "V2", 3: "MT"}
    vertices = np.asarray(models().vertex)[:PRESENT]
    left = np.flatnonzero(keys[vertices] == 1)
    right = PRESENT + np.flatnonzero(keys[vertices] == 2)

    def file(folder: Path, side: str | None, key: int, name: str, table: bool) -> Path:
        values = keys * (keys == key) if table else (keys == key)
        kind = "label" if table else "shape"
        return _write_gifti(folder / f"{name}.{kind}.gii", values, side, names if table else None)

    sides = {"CortexLeft": (1, left), "CortexRight": (2, right)}
    for (side, (key, answer)), name, table in itertools.product(
        sides.items(), ("areas.L", "areas.R", "lh.areas", "areas"), (True, False)
    ):

        def one(folder: Path, side=side, key=key, name=name, table=table) -> Path:
            return file(folder, side, key, name, table)

        label = f"GIFTI {'labels' if table else 'map'} {name} of {side}"
        yield _surface(shared, label, one, answer)
    for names_of, reverse, table in itertools.product(
        (("L", "R"), ("R", "L"), ("a", "b")), (False, True), (True, False)
    ):

        def pair(folder: Path, names_of=names_of, reverse=reverse, table=table) -> str:
            paths = [
                file(folder, side, key, name, table)
                for (side, (key, _)), name in zip(sides.items(), names_of, strict=True)
            ]
            return ",".join(map(str, paths[::-1] if reverse else paths))

        label = f"two GIFTI files {names_of}, {'labels' if table else 'maps'}, {reverse=}"
        yield _surface(shared, label, pair, np.r_[left, right])

    def silent(folder: Path) -> Path:
        return file(folder, None, 1, "areas.L", True)

    yield _surface(shared, "GIFTI of no side", silent, Refusal(("hemisphere", ".dlabel.nii")))

    def twice(folder: Path) -> str:
        return ",".join(str(file(folder, "CortexLeft", 1, n, True)) for n in "ab")

    yield _surface(shared, "two GIFTI files of one side", twice, Refusal(("left", "both")))

    def fine(folder: Path) -> Path:
        return _write_gifti(folder / "a.shape.gii", np.ones(3 * MESH), "CortexLeft", None)

    yield _surface(shared, "GIFTI of another mesh", fine, Refusal(("240", "mesh")))


def _constant(shared: Path) -> Iterator[Variant]:
    """Vertices without a signal in any run: no comparisons, and one warning."""
    for count, value, cifti in itertools.product((1, 5, 30), (0.0, 9.0, np.nan), (True, False)):

        def change(name: str, repetition: int, data: Array, count=count, value=value) -> Array:
            data[:, 3 : 3 + count] = value
            return data

        def make(folder: Path, change=change, cifti=cifti) -> dict:
            subject = Subject(None if cifti else AFFINES["RAS"], change=change)
            root = subject.write(folder / "d", shared)
            everything = np.ones(SHAPE, np.uint8)
            mask = "" if cifti else str(_save(everything, AFFINES["RAS"], "m.nii", folder))
            return {"root": root, "mask": mask}

        def read(given: dict) -> dict[str, int]:
            folder = preprocess(given["root"], data__mask=given["mask"])
            facts = json.loads((folder / "manifest.json").read_text())["facts"]
            return {"tested": facts["voxels_tested"], "warnings": len(facts["warnings"])}

        voxels = CORTEX if cifti else int(np.prod(SHAPE))
        kind = "CIFTI" if cifti else "volumes"
        answer = {"tested": voxels - count, "warnings": 1}
        yield Variant(f"{count} voxels {value} in every run of {kind}", make, read, answer)


def variants(root: Path) -> list[Variant]:
    """Return all variants; their films are links to one."""
    film(root / "film.mp4")
    parts = (_orientations, _grids, _values, _cifti, _gifti, _constant)
    return [variant for part in parts for variant in part(root)]
