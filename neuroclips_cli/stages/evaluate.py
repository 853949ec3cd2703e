"""Stage ``evaluate``: the paper's seven metrics and more, retrieval, and their controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.data import clip_table
from neuroclips_cli.data.clips import FolderClips, array_clips, list_clips, open_clips
from neuroclips_cli.data.loaded_clips import LoadedClips, load_clips
from neuroclips_cli.data.resample import ArrayClips
from neuroclips_cli.data.side_by_side import position
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.metrics import evaluation
from neuroclips_cli.metrics.common_time import Pairs
from neuroclips_cli.protocols.evaluation_config import EvaluationConfig, evaluation_config
from neuroclips_cli.reporting import results
from neuroclips_cli.runs.stage import read_array, read_csv, read_json
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages import _clip_pairs, _requests, judging
from neuroclips_cli.stages._evaluators import JudgesAtHand, find_judges
from neuroclips_cli.stages._metric_table import show, show_run


def run(
    settings: Settings,
    *,
    run: str = "reconstruct",
    overwrite: bool = False,
) -> Path:
    """Measure a run's reconstructions against the films.

    Parameters
    ----------
    settings : Settings
        ``evaluate`` names the protocol, which names the judges.
    run : str
        The reconstruction: ``reconstruct``, ``reconstruct-without-blurry`` and the like, which is
        then measured into ``evaluate-without-blurry``, or ``fuse``, the clips after fusion.
    overwrite : bool
        Measure again even if nothing changed.

    Returns
    -------
    Path
        The stage folder with ``metrics.json`` and ``per_clip.csv``.

    Raises
    ------
    UserError
        If the reconstruction is missing or is no reconstruction.
    """
    request = _requests.evaluate(settings, run=run)
    made = Path(request.inputs[_requests.FUSED if run == _requests.FUSED else "reconstruct"])
    data = Path(request.inputs["preprocess"])
    config = _requests.run_config(settings, data)
    found = find_judges(config)
    with request.open(settings, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            result, header, rows = _measure_run(settings, config, found, _clips_of(made, run), data)
            stage.write_csv("per_clip.csv", header, rows)
            stage.write_json("metrics.json", result)
            stage.fact("clips", result["protocol"]["n"])
        folder = stage.folder
    show_run(folder, run)
    return folder


def run_pair(
    settings: Settings,
    pred: Path,
    gt: Path,
    out: Path,
    *,
    panels: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Measure any set of clips against any other, brought to the protocol's rate and size.

    Parameters
    ----------
    settings : Settings
        ``evaluate`` names the protocol, which names the judges.
    pred, gt : Path
        Folders of clips with matching names (mp4, mkv, avi, webm, gif, or folders of png), or
        ``.npy`` files, uint8 (clips, frames, h, w, 3). Pairs of unequal length are compared over
        the time that both clips have.
    out : Path
        Folder for ``metrics.json`` and ``per_clip.csv``.
    panels : str, optional
        ``gt|pred`` or ``pred|gt``: each clip shows both side by side, and ``pred`` and ``gt`` are
        the same folder.
    overwrite : bool
        Replace earlier results in ``out``.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    UserError
        If the sets do not match, a clip cannot be read, two clips have nothing in common in time,
        or ``out`` holds results already.
    """
    if (out / "metrics.json").exists() and not overwrite:
        raise UserError(
            f"{out} already holds a metrics.json: choose another folder, or --overwrite"
        )
    # where these clips come from is not known, so no embedded network may judge them
    config = evaluation_config(settings, practice_world=False, scans=False)
    found = find_judges(config)
    config, pairs = _open_pairs(config, pred, gt, out, panels)
    result, header, rows = _measure_pairs(settings, config, found, pairs)
    result["protocol"] |= {"pred": str(pred), "gt": str(gt), "panels": panels}
    atomic.write_text(out / "per_clip.csv", results.as_csv(header, rows))
    atomic.write_json(out / "metrics.json", result)
    show(result, f"{pred} against {gt}")
    return out


def judge_arrays(settings: Settings, pred: np.ndarray, gt: np.ndarray) -> dict[str, Any]:
    """Measure two arrays of clips as :func:`run_pair` does, without files.

    Parameters
    ----------
    settings : Settings
        ``evaluate`` names the protocol, which names the judges.
    pred, gt : numpy.ndarray
        Numbers (clips, frames, h, w, 3); clips are paired in order, and frame rate and size may
        differ.

    Returns
    -------
    dict
        The content of ``metrics.json``.

    Raises
    ------
    UserError
        If an array holds no clips, or the two hold different numbers of them.
    """
    if len(pred) != len(gt):
        raise UserError(
            f"pred holds {len(pred)} clips and gt holds {len(gt)}: arrays are paired in order, so "
            "both must hold the same number"
        )
    config = evaluation_config(settings, practice_world=False, scans=False)
    found = find_judges(config)
    sets = [
        array_clips(array, name, clip_s=config.clip_s, target_fps=config.fps, size=config.size)
        for name, array in (("pred", pred), ("gt", gt))
    ]
    config = config.at_rate_of(*(clips.fps for clips in sets))
    first, second = (replace(clips, target_fps=config.fps) for clips in sets)
    names = [f"{row:04d}" for row in range(len(pred))]
    pairs = _clip_pairs.pair_up(first, second, names, config.fps)
    return _measure_pairs(settings, config, found, pairs)[0]


def _measure_pairs(
    settings: Settings, config: EvaluationConfig, found: JudgesAtHand, pairs: Pairs
) -> tuple[dict[str, Any], list[str], list[list[Any]]]:
    """Return the metrics of clips of which only the order is known, and the lines per clip."""
    scenes = clip_table.block_labels(len(pairs.names), config.clip_s)
    loaded = _judges(settings, config, found)
    scores = _compute_scores(settings, config, loaded, pairs, scenes)
    result = results.build_result(config, scores, None, scenes, found.left_out, pairs.unequal)
    labels = [{"scene": label} for label in scenes[0]] if scenes else [{}] * len(pairs.names)
    about = [{"clip": name, **label} for name, label in zip(pairs.names, labels, strict=True)]
    return result, *results.per_clip(config, scores, None, about, pairs.unequal)


@dataclass(frozen=True)
class _RunClips:
    """Reconstructed clips: ``rows`` of ``array`` show the test clips ``index``."""

    folder: Path
    array: np.ndarray
    rows: np.ndarray
    index: np.ndarray


def _clips_of(made: Path, run: str) -> _RunClips:
    """Open the clips of a run; those of fused chains are cut out of them again."""
    array = read_array(made / "clips.npy")
    if run != _requests.FUSED:
        index = np.asarray(read_array(made / "index.npy"))
        return _RunClips(made, array, np.arange(len(array)), index)
    chains = read_csv(made / "chains.csv")
    frames = int(chains[0]["frames"])
    links = array.shape[1] // frames
    rows = np.array([int(row["chain"]) * links + int(row["position"]) for row in chains])
    index = np.array([int(row["clip"]) for row in chains])
    order = np.argsort(index)
    parts = array.reshape(-1, frames, *array.shape[2:])
    return _RunClips(made, parts, rows[order], index[order])


def _measure_run(
    settings: Settings,
    config: EvaluationConfig,
    found: JudgesAtHand,
    made: _RunClips,
    data: Path,
) -> tuple[dict[str, Any], list[str], list[list[Any]]]:
    frames = read_array(data / "frames_test.npy")
    record = read_json(made.folder / "manifest.json")["settings"]["reconstruct"]
    truth_fps = frames.shape[1] / config.clip_s
    config = config.at_rate_of(record["fps"], truth_fps)
    table = [row for row in read_csv(data / "clips.csv") if row["split"] == "test"]
    chosen = [table[int(i)] for i in made.index]
    pairs = _clip_pairs.pair_up(
        ArrayClips(made.array, made.rows, record["fps"], config.fps, config.size),
        ArrayClips(frames, made.index, truth_fps, config.fps, config.size),
        [row["clip"] for row in chosen],
        config.fps,
    )
    scenes = clip_table.scene_labels(chosen)
    loaded = _judges(settings, config, found)
    scores = _compute_scores(settings, config, loaded, pairs, scenes)
    scores = judging.with_captions(config, scores, made.folder, chosen, loaded)
    device = _device(settings)
    retrieved = judging.retrieval(settings, config, made.folder, frames, made.index, loaded, device)
    result = results.build_result(config, scores, retrieved, scenes, found.left_out, pairs.unequal)
    result["subject"] = settings.run.subject
    result["controls"]["noise_ceiling"] = judging.noise_ceiling(data)
    result["cuts"] = results.by_cuts(scores, [row["crosses_scene"] for row in chosen])
    result["protocol"]["blur_init"] = record["blur_init"]
    if scenes:
        chosen = [row | {"scene": label} for row, label in zip(chosen, scenes[0], strict=True)]
    header, rows = results.per_clip(config, scores, retrieved, chosen, pairs.unequal)
    return result, header, rows


def _judges(
    settings: Settings,
    config: EvaluationConfig,
    found: JudgesAtHand,
) -> evaluation.Evaluators:
    """Load the judges that are at hand."""
    device = _device(settings)
    precision = choose_precision(settings.run.precision, device)
    return judging.load_judges(config, found.present, device, precision)


def _device(settings: Settings) -> str:
    return choose_device(settings.run.device)


def _compute_scores(
    settings: Settings,
    config: EvaluationConfig,
    judges: evaluation.Evaluators,
    pairs: Pairs,
    scenes: tuple[list[str], str] | None,
) -> evaluation.Scores:
    """Measure all pairs of clips; ``scenes`` are labels of the clips and what they stand for."""
    plan = evaluation.Plan(
        ways=config.ways,
        batch_size=config.batch_size,
        shuffles=config.shuffles,
        seed=config.seed,
        monte_carlo=config.monte_carlo,
        rules=config.protocol.rules,
        also=judging.further_metrics(config, _device(settings)),
        scenes=tuple(scenes[0]) if scenes else None,
    )
    with console.progress("measuring clips", evaluation.steps(len(pairs.names), plan)) as advance:
        return evaluation.measure(pairs.pred, pairs.gt, judges, plan, advance)


def _open_pairs(
    config: EvaluationConfig, pred: Path, gt: Path, out: Path, panels: str | None
) -> tuple[EvaluationConfig, Pairs]:
    """Match, decode and pair two sets of clips; return the configuration at their rate, too."""
    left, right = _clip_pairs.match(list_clips(pred, "--pred"), list_clips(gt, "--gt"), pred, gt)
    opened = [
        open_clips(
            path,
            names,
            option,
            clip_s=config.clip_s,
            target_fps=config.fps,
            size=config.size,
            panel=position(panels, option.removeprefix("--")) if panels else None,
        )
        for path, names, option in ((pred, left, "--pred"), (gt, right, "--gt"))
    ]
    sets = _decoded(config, opened, out)
    slowest = config.at_rate_of(*(shape.fps for side in sets for shape in side.shapes))
    if slowest.fps != config.fps:
        config, sets = slowest, _decoded(slowest, opened, out)
    options = {"--pred": sets[0].shapes, "--gt": sets[1].shapes}
    _clip_pairs.say_resampling(options, config.fps, config.size)
    return config, _clip_pairs.pair_up(sets[0], sets[1], list(left), config.fps)


def _decoded(
    config: EvaluationConfig, opened: Sequence[ArrayClips | FolderClips], out: Path
) -> list[ArrayClips | LoadedClips]:
    """Decode the clips of folders into a scratch file near the results; arrays stay as they are."""
    folders = [clips for clips in opened if isinstance(clips, FolderClips)]
    place = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    with console.progress("reading clips", sum(map(len, folders))) as advance:
        loaded = iter(load_clips(folders, config.fps, config.size, place, advance))
    return [
        next(loaded) if isinstance(clips, FolderClips) else replace(clips, target_fps=config.fps)
        for clips in opened
    ]
