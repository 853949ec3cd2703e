"""Every stage on the device, its results beside those of the CPU."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from device_runs import (
    apart,
    begin_anew,
    copied,
    grey_levels,
    settings_for,
    training_losses,
    validation,
)

from neuroclips_cli.runs.stage import read_array, read_csv, run_folder, stage_state

pytestmark = pytest.mark.gpu

PIXELS = 0.25
"""Grey levels: rounding to uint8 moves a pixel by 1 where the float32 sums differ by 1e-5."""
LOSSES = 2e-3
"""AdamW's steps do not depend on a gradient's size, so that its smallest numbers differ most."""


def test_preprocessing_gives_the_same_scans_and_frames(world, trained_here, figures):
    for name in ("fmri_train.npy", "fmri_test.npy", "frames_train.npy", "frames_test.npy"):
        ours, theirs = (
            read_array(run_folder(s) / "preprocess" / name) for s in (trained_here, world.cpu)
        )
        figures.within(name, float(not np.array_equal(ours, theirs)), 0)


@pytest.mark.parametrize("stage", ["train-pr", "train-sr"])
def test_training_in_float32_follows_the_cpu(world, trained_here, figures, stage):
    for what, losses in (("training", training_losses), ("validation", validation)):
        difference = apart(losses(trained_here, stage), losses(world.cpu, stage))
        figures.within(f"{stage} {what} loss", difference, LOSSES)


def test_targets_of_both_devices_agree(world, trained_here, figures):
    # float16 keeps 11 bits: the last one may round the other way
    cpu = {p.name: p for p in (world.root / "cpu" / "targets").glob("*.npy")}
    assert {name.split("-")[0] for name in cpu} == {"latents", "tokens", "text"}
    for name, path in cpu.items():
        ours = read_array(world.root / "trained" / "targets" / name)
        figures.within(name.split("-")[0], apart(ours, read_array(path)), 1e-3)


@pytest.mark.parametrize("stage", ["train-pr", "train-sr"])
def test_a_checkpoint_of_one_device_decodes_alike_on_the_other(
    world, trained_here, figures, stage, device
):
    import torch

    from neuroclips_cli.models.checkpoint import load_perception, load_semantics

    load = {"train-pr": load_perception, "train-sr": load_semantics}[stage]
    scans = torch.from_numpy(
        np.array(read_array(run_folder(world.cpu) / "preprocess/fmri_test.npy"))
    )
    for name, settings in (("CPU's", world.cpu), ("device's", trained_here)):
        model = load(run_folder(settings) / stage)
        with torch.inference_mode():
            here = model(scans.float())
            there = model.to(device)(scans.float().to(device))
        here, there = (x if isinstance(x, torch.Tensor) else torch.cat(x) for x in (here, there))
        figures.within(f"{name} weights", apart(there, here), 1e-4)


@pytest.mark.parametrize("name", ["blurry.npy", "keyframes.npy", "clips.npy"])
def test_reconstruct_makes_the_cpus_pictures(world, decoded_here, figures, name):
    ours, theirs = _both(world.cpu, decoded_here, f"reconstruct/{name}")
    figures.within(f"{name}, grey levels", grey_levels(ours, theirs), PIXELS)
    assert np.asarray(ours).std() > 1


@pytest.mark.parametrize("name", ["tokens_brain.npy", "tokens_prior.npy"])
def test_reconstruct_decodes_the_cpus_tokens(world, decoded_here, figures, name):
    ours, theirs = _both(world.cpu, decoded_here, f"reconstruct/{name}")
    figures.within(name, apart(ours, theirs), 1e-3)


def test_captions_are_the_cpus(world, decoded_here, figures):
    ours, theirs = (
        [row["caption"] for row in read_csv(run_folder(s) / "reconstruct" / "captions.csv")]
        for s in (decoded_here, world.cpu)
    )
    # one pixel that rounds the other way may tip one word of one caption
    figures.within(
        "captions that differ", np.mean([a != b for a, b in zip(ours, theirs, strict=True)]), 0.1
    )


def test_fuse_builds_the_cpus_chains(world, decoded_here, figures):
    ours, theirs = (
        read_csv(run_folder(s) / "fuse" / "chains.csv") for s in (decoded_here, world.cpu)
    )
    assert [(r["chain"], r["clip"]) for r in ours] == [(r["chain"], r["clip"]) for r in theirs]
    assert len({row["chain"] for row in ours}) < len(ours)
    figures.within(
        "chains, grey levels",
        grey_levels(*_both(world.cpu, decoded_here, "fuse/clips.npy")),
        PIXELS,
    )


def test_evaluate_and_controls_measure_alike(world, decoded_here, figures):
    for folder in ("evaluate", "evaluate-control-vae", "evaluate-control-prior-only"):
        ours, theirs = (
            json.loads((run_folder(s) / folder / "metrics.json").read_text())["metrics"]
            for s in (decoded_here, world.cpu)
        )
        assert ours.keys() == theirs.keys()
        # a rank that changes moves the N-way accuracy of one of ten clips
        largest = max(
            abs(ours[k]["mean"] - theirs[k]["mean"]) / max(1, abs(theirs[k]["mean"])) for k in ours
        )
        figures.within(folder, largest, 0.05)


def test_interpret_maps_the_same_weights(world, decoded_here, figures):
    name = "interpret/voxels.csv"
    ours, theirs = (read_csv(run_folder(s) / name) for s in (decoded_here, world.cpu))
    figures.within(
        "voxels whose row differs", sum(a != b for a, b in zip(ours, theirs, strict=True)), 0
    )


def test_captions_of_films_without_any_are_described_alike(world, device, figures, tmp_path):
    from neuroclips_cli.settings.load import replace_settings
    from neuroclips_cli.stages._training_data import captions_of, text_embeddings, training_clips

    clips = training_clips(run_folder(world.cpu) / "preprocess", (4,))
    silent = replace(clips, captions=[""] * len(clips.captions))
    made = []
    for name in ("cpu", device):
        settings = replace_settings(world.cpu, {"run.workdir": str(tmp_path / f"{len(made)}")})
        captions = captions_of(settings, silent, name)
        made.append(np.array(text_embeddings(settings, captions, name)))
    rows = np.linalg.norm(made[1].astype(float) - made[0].astype(float), axis=1)
    figures.within("captions whose embedding differs", np.mean(rows > 1e-2), 0.05)
    figures.within("embeddings of equal captions", rows[rows <= 1e-2].max(), 2e-3)


def test_train_projector_learns_the_cpus_matrix(world, device, figures, tmp_path):
    from helpers.captioned_images import draw_captioned_images

    from neuroclips_cli.backbones.clip import load_projector
    from neuroclips_cli.stages import train_projector

    images = draw_captioned_images(tmp_path / "coco", 40)
    weights = []
    for name in ("cpu", device):
        begin_anew()
        sizes = {"train_projector__epochs": 3, "train_projector__batch_size": 10}
        workdir = tmp_path / f"runs-{len(weights)}"
        settings = settings_for(world.root / "dataset", workdir, name, **sizes)
        weights.append(load_projector(str(train_projector.run(settings, images))))
    figures.within("projector", apart(weights[1], weights[0]), 1e-3)


@pytest.mark.parametrize("where", ["device", "cpu"])
def test_a_killed_training_goes_on_with_the_devices_checkpoint(
    world, trained_here, device, figures, tmp_path, monkeypatch, where
):
    from neuroclips_cli.settings.load import replace_settings
    from neuroclips_cli.stages import train_pr
    from neuroclips_cli.training import metric_logger

    settings = copied(trained_here, tmp_path / "runs", device)
    write = metric_logger.MetricLogger.write

    def killed(self, phase, epoch, values):
        if epoch == 2:
            raise KeyboardInterrupt
        write(self, phase, epoch, values)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(metric_logger.MetricLogger, "write", killed)
        train_pr.run(settings)
    assert stage_state(settings, "train-pr")[0] == "interrupted"
    begun = training_losses(settings, "train-pr")
    assert len(begun) == 1
    goes_on = replace_settings(settings, {"run.device": device if where == "device" else "cpu"})
    begin_anew()
    train_pr.run(goes_on)
    ended = training_losses(settings, "train-pr")
    assert ended[0] == begun[0]
    # sums on a GPU come in no fixed order, so that the weights are not bit-identical
    difference = apart(ended, training_losses(trained_here, "train-pr"))
    figures.within(f"losses, continued on the {where}", difference, LOSSES)


def test_a_killed_reconstruction_goes_on_with_what_it_had(
    world, decoded_here, device, figures, tmp_path, monkeypatch
):
    from neuroclips_cli.generation.video_generator import VideoGenerator
    from neuroclips_cli.stages import reconstruct

    settings = copied(
        world.cpu, tmp_path / "runs", device, "train-pr", "train-sr", reconstruct__batch_size=2
    )
    make = VideoGenerator.clips

    def killed(self, numbers, **given):
        if 2 in numbers:
            raise KeyboardInterrupt
        return make(self, numbers, **given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(VideoGenerator, "clips", killed)
        reconstruct.run(settings, clips="0:4")
    assert stage_state(settings, "reconstruct")[0] == "interrupted"
    made = reconstruct.run(settings, clips="0:4")
    whole = read_array(run_folder(decoded_here) / "reconstruct" / "clips.npy")[:4]
    found = read_array(made / "clips.npy")
    figures.within(
        "batches of 2, killed, against all at once, grey levels", grey_levels(found, whole), PIXELS
    )


def _both(cpu, here, name):
    return tuple(read_array(run_folder(s) / name) for s in (here, cpu))
