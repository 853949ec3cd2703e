"""A finished run folder with made-up results, for the stages that come after reconstruct."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers import fake_evaluators
from neuroclips_cli.runs.stage import open_stage
from neuroclips_cli.settings.load import Settings, load_settings

CLIPS, SIZE = 24, 16
LAG_SCAN = {
    "delays_s": [0, 2, 4, 6],
    "correlation": [0.0, 0.1, 0.4, 0.2],
    "best_s": 4.2,
    "error": 0.02,
}
"""Delays at which scans were decoded, as ``preprocess`` notes them."""


def settings(workdir: Path, **changes: object) -> Settings:
    """Settings of profile tiny with a quick protocol."""
    flags = {
        "run.workdir": str(workdir),
        "evaluate.size": SIZE,
        "evaluate.shuffles": 2,
        "evaluate.bootstrap_samples": 200,
        "evaluate.batch_size": 10,
        "evaluate.retrieval_part": 10,
        **changes,
    }
    return load_settings(flags, folder=workdir, environ={})


def write(
    chosen: Settings,
    *,
    noise: float = 8.0,
    run: str = "reconstruct",
    clips: int = CLIPS,
    without: str = "",
    protocol: str = "within",
) -> np.ndarray:
    """Write preprocess and reconstruct folders; return the ground-truth clips at 8 fps."""
    truth = fake_evaluators.draw_clips(CLIPS + 2, 16, size=SIZE)
    frames = truth[:, [0, 3, 5, 8, 11, 13]]
    rng = np.random.default_rng(1)
    with open_stage(chosen, "preprocess", sections=["data"], inputs={}) as stage:
        if not stage.up_to_date:
            stage.fact("lag_scan", LAG_SCAN)
            stage.write_array("frames_test.npy", frames)
            scans = rng.normal(size=(len(truth), 1, 5)) + rng.normal(size=(len(truth), 4, 5))
            stage.write_array("fmri_test_repetitions.npy", scans.astype(np.float32))
            header = ["clip", "split", "segment", "onset_s", "volume", "crosses_scene"]
            header += ["scene", "caption"]
            train = [[0, "train", 1, 0, 2, 0, "t0", "a green box"]]
            test = [
                [i, "test", 1, 2 * i, i + 2, i % 2, f"s{i // 3}", f"a <red> ball & {i}"]
                for i in range(len(truth))
            ]
            stage.write_csv("clips.csv", header, train + test)
    index = np.arange(1, clips + 1)
    made = np.clip(truth[index] + rng.normal(0, noise, truth[index].shape), 0, 255)
    made = made.astype(np.uint8)
    with open_stage(chosen, run, sections=["reconstruct"], inputs={}) as stage:
        stage.fact("protocol", protocol)
        stage.write_array("clips.npy", made)
        stage.write_array("index.npy", index)
        if not run.endswith("keyframe") and without != "keyframe":
            stage.write_array("keyframes.npy", made[:, 0])
            rows = [[int(i), f"a <b>red</b> ball & sea {i}"] for i in index]
            stage.write_csv("captions.csv", ["clip", "caption"], rows)
        if not run.endswith("blurry") and without != "blurry":
            stage.write_array("blurry.npy", made[:, ::3])
        tokens = fake_evaluators.PatchEmbedder().tokens(frames[index, 3])
        stage.write_array("tokens_brain.npy", tokens.astype(np.float16))
    return truth[index]


def write_chains(chosen: Settings) -> None:
    """Write a fuse folder with a chain of three clips and one of two."""
    clips = fake_evaluators.draw_clips(5, 16, size=SIZE)
    films = np.zeros((2, 48, SIZE, SIZE, 3), np.uint8)
    films[0], films[1, :32] = np.concatenate(clips[:3]), np.concatenate(clips[3:])
    header = ["chain", "position", "clip", "replaced_keyframe", "match_probability", "frames"]
    members = [(0, 0, 1), (0, 1, 2), (0, 2, 3), (1, 0, 4), (1, 1, 5)]
    rows = [[c, p, clip, int(p > 0), "0.9" if p else "", 16] for c, p, clip in members]
    with open_stage(chosen, "fuse", sections=["fuse"], inputs={}) as stage:
        stage.write_array("clips.npy", films)
        stage.write_csv("chains.csv", header, rows)
