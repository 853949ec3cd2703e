"""preprocess --from-release: the authors' tensors into the run folder of raw data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import console
from neuroclips_cli.data import clip_table
from neuroclips_cli.data.pixel_range import PixelRange
from neuroclips_cli.data.released_captions import caption_file, read_caption_list
from neuroclips_cli.data.released_scans import Holes, find_holes, usable_voxels
from neuroclips_cli.data.released_tensors import (
    SEGMENTS,
    VOXELS,
    ReleasedSplit,
    check_split,
    check_together,
    fmri_file,
    frames_file,
)
from neuroclips_cli.data.stretches import ARRAYS as SPLITS
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.placeholders import require_content
from neuroclips_cli.runs.stage import Stage, open_stage, stage_folder
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.signal.reproducibility import (
    fisher_z,
    interrun_correlation,
    mean_over_repetitions,
    select_voxels,
)

Splits = dict[str, ReleasedSplit]
PROJECTOR = "coco_tokens_avg_proj.pth"
"""The authors' projector, published beside the tensors."""


def run(settings: Settings, folder: Path, *, overwrite: bool = False) -> Path:
    """Stream the released tensors into ``preprocess``.

    Parameters
    ----------
    settings : Settings
        ``run.subject`` chooses the scans; ``data.frames_per_clip`` and ``data.frame_size`` the
        frames. Selection, detrending and the hemodynamic shift are the authors' own.
    folder : Path
        Holds ``subj0N_{train,test}_fmri.pt``, ``GT_{train,test}_3fps.pt`` and, where there are
        any, captions: the authors' ``GT_{train,test}_caption.pt``, or the user's own as
        ``*train*caption*.json`` or ``.h5``.
    overwrite : bool
        Start over even if the result exists.

    Raises
    ------
    UserError
        If a file is missing or damaged, of another size, or another subject's.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: correct --from-release")
    inputs = _inputs(folder, settings.run.subject)
    _tell_of_others(folder)
    with open_stage(
        settings,
        "preprocess",
        inputs=inputs,
        overwrite=overwrite,
        extra={"from_release": True},
    ) as stage:
        if not stage.up_to_date:
            _write(stage, settings, _open(settings, folder, inputs), inputs)
    return stage_folder(settings, "preprocess")


def _tell_of_others(folder: Path) -> None:
    """Say what of the authors' other files is used, and by which command."""
    projector = folder / PROJECTOR
    if projector.is_file():
        console.info(f"{projector}: `neuroclips models convert {projector}` makes it the projector")
    if any(folder.glob("GT_*_caption_emb.pt")):
        console.info(
            "GT_*_caption_emb.pt are not needed: train-sr embeds the captions with its own CLIP"
        )


def _inputs(folder: Path, subject: int) -> dict[str, Path]:
    inputs = {}
    for split in SPLITS:
        inputs[f"fmri_{split}"] = folder / fmri_file(subject, split)
        inputs[f"frames_{split}"] = folder / frames_file(split)
    for path in inputs.values():
        require_content(path)
    missing = [path.name for path in inputs.values() if not path.is_file()]
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}: fetch the authors' tensors")
    for split in SPLITS:
        captions = caption_file(folder, split)
        if captions is not None:
            inputs[f"captions_{split}"] = captions
    return inputs


def _open(settings: Settings, folder: Path, inputs: dict[str, Path]) -> Splits:
    """Map all tensors and check every size, before anything is written."""
    from neuroclips_cli.backbones.conversion.files import read_torch

    splits = {
        split: check_split(
            split,
            settings.run.subject,
            read_torch(inputs[f"fmri_{split}"]),
            read_torch(inputs[f"frames_{split}"]),
            settings.data.frames_per_clip,
            folder,
        )
        for split in SPLITS
    }
    check_together(splits["train"], splits["test"], folder)
    voxels = splits["train"].fmri.shape[2]
    if voxels not in VOXELS.values():
        console.warn(f"{voxels} voxels are of none of the three published subjects")
    return splits


def _write(stage: Stage, settings: Settings, splits: Splits, inputs: dict[str, Path]) -> None:
    captions = {
        split: read_caption_list(inputs[f"captions_{split}"], splits[split].clips)
        for split in SPLITS
        if f"captions_{split}" in inputs
    }
    # All that may be refused is looked through before the first file is written.
    holes = {split: find_holes(s, inputs[f"fmri_{split}"]) for split, s in splits.items()}
    usable = usable_voxels(holes["train"], inputs["fmri_train"])
    ranges = {split: s.pixel_range(inputs[f"frames_{split}"]) for split, s in splits.items()}
    _report_holes(stage, holes)
    _write_responses(stage, splits, usable, holes["test"])
    _write_selection(stage, splits["train"], settings.data.selection_p, usable)
    _write_frames(stage, splits, ranges, settings.data.frame_size)
    _write_clip_table(stage, splits, captions, settings.data.clip_s)
    stage.fact("from_release", True)


def _report_holes(stage: Stage, holes: dict[str, Holes]) -> None:
    """Tell where scans are not finite, and what becomes of them."""
    warnings = [f"{words}: left out" for words in holes["train"].warnings]
    warnings += [f"{words}: averaged around" for words in holes["test"].warnings]
    for sentence in warnings:
        console.warn(sentence)
    stage.fact("warnings", warnings)


def _write_responses(stage: Stage, splits: Splits, usable: NDArray[np.bool_], holes: Holes) -> None:
    names = {"train": "fmri_train.npy", "test": "fmri_test_repetitions.npy"}
    total = sum(SEGMENTS.values())
    with console.progress("responses", total, unit="film") as advance:
        for split, released in splits.items():
            shape = (*released.fmri.shape[:2], int(usable.sum()))
            with stage.open_array(names[split], shape, np.float32) as array:
                for film, rows in enumerate(released.films()):
                    scans = released.scans(rows)[..., usable]
                    if split == "test":
                        lost = holes.by_film[film][:, usable]
                        scans = np.where(lost, np.float32(np.nan), scans)
                    array[rows] = scans
                    advance(1)
                if split == "test":
                    stage.write_array("fmri_test.npy", mean_over_repetitions(array))


def _write_selection(
    stage: Stage, train: ReleasedSplit, level: float, usable: NDArray[np.bool_]
) -> None:
    """Measure how well the given voxels repeat; which grayordinates they are is not published."""
    scores = []
    for rows in train.films():
        scans = np.where(usable, train.scans(rows), 0)
        scores.append(fisher_z(interrun_correlation(scans[:, 0], scans[:, 1])))
    found = select_voxels(np.array(scores), level, usable=usable)
    count = int(found.selected.sum())
    voxels = len(found.selected)
    numbers = np.arange(voxels)
    with stage.atomic("selection.npz") as path:
        np.savez_compressed(
            path,
            index=numbers[usable],
            columns=numbers,
            mean_z=found.mean_z,
            t=found.t,
            p=found.p,
            selected=usable,
            excluded=~usable,
        )
    kept = int(usable.sum())
    stage.fact("voxels_selected", kept)
    stage.fact("voxels_reproducible", count)
    console.info(f"{kept} voxels as released, {count} of them reproducible by our own test")


def _write_frames(stage: Stage, splits: Splits, ranges: dict[str, PixelRange], size: int) -> None:
    from neuroclips_cli.backbones.pixels import resize_frames

    with console.progress("frames", sum(s.clips for s in splits.values()), unit="clip") as advance:
        for split, released in splits.items():
            shape = (released.clips, released.frames.shape[1], size, size, 3)
            with stage.open_array(f"frames_{split}.npy", shape, np.uint8) as frames:
                for row, clip in enumerate(released.pictures(ranges[split])):
                    frames[row] = resize_frames(clip, size)
                    advance(1)


def _write_clip_table(
    stage: Stage, splits: Splits, captions: dict[str, list[str]], clip_s: float
) -> None:
    """Write ``clips.csv``; the volume of a clip is left empty, as the release does not tell it."""
    rows: list[Sequence[str]] = []
    for split, released in splits.items():
        films = [
            clip_table.ClipSegment(number, str(number), released.per_segment)
            for number in range(1, SEGMENTS[split] + 1)
        ]
        texts = {(split, n): text for n, text in enumerate(captions.get(split, ()))}
        rows += clip_table.clip_rows(split, films, clip_s, 0.0, clip_table.Scenes({}), texts)
    stage.write_csv("clips.csv", clip_table.COLUMNS, rows)
