"""adapt --mode closed-form on a pool of two subjects whose first layers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.trained_run import SMALL
from safetensors.torch import load_file

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.checkpoint import load_perception, load_semantics
from neuroclips_cli.models.perception import Perception
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.runs import manifest, model_card
from neuroclips_cli.runs.model_card import ModelCard, TrainedOn
from neuroclips_cli.runs.stage import open_stage, read_json
from neuroclips_cli.settings.load import load_settings, replace_settings
from neuroclips_cli.stages import adapt
from neuroclips_cli.training.closed_form_adaptation import fit_first_layer

CLIPS, SEGMENTS, SIZE, FRAMES, TOKENS, DIM = 90, 6, 16, 3, 4, 8
WIDTH = 16
VOXELS = {1: 40, 2: 30, 3: 25}
"""Subjects 1 and 2 are the pool's."""


def _write_preprocess(chosen, subject, scans, frames, segments):
    own = replace_settings(chosen, {"run.subject": subject})
    with open_stage(own, "preprocess", sections=("data",), inputs={}) as stage:
        stage.write_array("fmri_train.npy", scans)
        stage.write_array("frames_train.npy", frames)
        stage.write_array("frames_test.npy", frames[:2, ..., ::-1].copy())
        header = ("clip", "split", "segment", "onset_s", "volume", "crosses_scene", "scene")
        rows = [(i, "train", s, 2.0 * i, i, 0, "", "") for i, s in enumerate(segments)]
        stage.write_csv("clips.csv", (*header, "caption"), rows)
    return stage.folder


@pytest.fixture
def world(tmp_path):
    """Scans of all three, linear in the same latents, and the pool's random networks.

    Subject 2 did not see the last segment of films, which only subject 1 and the new one saw.
    """
    sizes = {
        **{key: value for key, value in SMALL.items() if not key.startswith("train_sr")},
        "run.workdir": str(tmp_path / "runs"),
        "data.frame_size": SIZE,
        "perception.decoder_channels": (8,),
    }
    chosen = load_settings(sizes, folder=tmp_path, environ={})
    rng, counts = np.random.default_rng(0), CLIPS // SEGMENTS
    torch.manual_seed(0)
    segments = np.repeat(np.arange(1, SEGMENTS + 1), counts)
    frames = rng.integers(0, 256, (CLIPS, FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
    pool = replace_settings(chosen, {"run.subjects": (1, 2)})
    voxels = [VOXELS[1], VOXELS[2]]
    networks = {
        "train-sr": Semantics(voxels, chosen.semantics, TOKENS, DIM),
        "train-pr": Perception(voxels, FRAMES, chosen.perception, (4, 2, 2)),
    }
    latents = rng.standard_normal((CLIPS, 5)).astype(np.float32)
    folders, scans = {}, {}
    for subject, width in VOXELS.items():
        mixing = rng.standard_normal((5, width)).astype(np.float32)
        noise = rng.standard_normal((CLIPS, 2, width)).astype(np.float32)
        scans[subject] = (latents @ mixing)[:, None] + 0.1 * noise
        rows = slice(0, CLIPS - counts) if subject == 2 else slice(0, CLIPS)
        scans[subject] = scans[subject][rows]
        folders[subject] = _write_preprocess(
            chosen, subject, scans[subject], frames[rows], segments[rows]
        )
    trained = tuple(
        TrainedOn(
            s, VOXELS[s], 1, 2, 60, 15, 3.0, 6.0, {}, _frames(folders[s]), _digest(folders[s])
        )
        for s in (1, 2)
    )
    for name, model in networks.items():
        facts = {"voxels": voxels, "subjects": [1, 2], "average": False}
        facts |= {"tokens": TOKENS, "token_dim": DIM, "frames": FRAMES, "latent_shape": [4, 2, 2]}
        with open_stage(pool, name, sections=("semantics", "perception"), inputs={}) as stage:
            stage.fact("model", facts)
            stage.write_safetensors("model.safetensors", model.state_dict())
            stage.write_json(model_card.NAME, ModelCard(name, "pooled", trained).as_json())
    return replace_settings(chosen, {"run.subject": 3}), scans, segments


def _digest(folder):
    return manifest.input_digest(folder)


def _frames(folder):
    return read_json(folder / "manifest.json")["outputs"]["frames_train.npy"]


def _latents(chosen, scans, outputs):
    """Return mean latents clip by clip; of the last segment subject 1's alone."""
    made = {s: outputs(s, torch.from_numpy(scans[s].mean(axis=1))) for s in (1, 2)}
    shared = (made[1][: len(made[2])] + made[2]) / 2
    return np.concatenate([shared, made[1][len(made[2]) :]])


def test_the_first_layer_is_the_regression_to_the_pools_latents(world, capsys):
    chosen, scans, segments = world
    made = adapt.run(chosen, parent="pool-01-02", mode="closed-form")
    assert made.name == "adapted-03-all-closed-form"
    pool = made.parent / "pool-01-02"

    def semantics(subject, rows):
        with torch.no_grad():
            return load_semantics(pool / "train-sr", subject).ridge(rows).numpy()

    def perception(subject, rows):
        model = load_perception(pool / "train-pr", subject)
        with torch.no_grad():
            return model.ridge(model.fmri(rows)).mean(dim=1).numpy()

    new = torch.from_numpy(scans[3].mean(axis=1))
    for stage, outputs in (("train-sr", semantics), ("train-pr", perception)):
        wanted = fit_first_layer(scans[3], segments, _latents(chosen, scans, outputs))
        weights = load_file(made / stage / "model.safetensors")
        np.testing.assert_allclose(weights["ridge.linears.0.weight"], wanted.weight, atol=1e-5)
        parent = load_file(pool / stage / "model.safetensors")
        shared = [n for n in parent if not n.startswith(("ridge.", "fmri."))]
        assert all(torch.equal(weights[name], parent[name]) for name in shared)
        facts = read_json(made / stage / "manifest.json")["facts"]
        assert facts["closed_form"]["clips"] == CLIPS and facts["closed_form"]["r2"] > 0.8
        card = model_card.read(made / stage)
        assert (card.protocol, card.mode, card.numbers) == ("adapted:3", "closed-form", (3,))
        assert card.parent.subjects == (1, 2) and "ridge" in card.trained
    model = load_perception(made / "train-pr", 3)
    with torch.no_grad():
        blurry = model(new)
    assert blurry.shape == (CLIPS, FRAMES, 4, 2, 2)
    assert "solved from 90 clips" in capsys.readouterr().err
    assert adapt.run(chosen, parent="pool-01-02", mode="closed-form") == made


def test_minutes_limit_the_clips(world):
    chosen, _, _ = world
    made = adapt.run(chosen, parent="pool-01-02", mode="closed-form", minutes=1, only="train-sr")
    facts = read_json(made / "train-sr" / "manifest.json")["facts"]
    assert facts["closed_form"]["clips"] == 30
    assert model_card.read(made / "train-sr").protocol == "adapted:1"


def test_a_pool_whose_scans_are_others_is_refused(world, tmp_path):
    chosen, scans, segments = world
    own = replace_settings(chosen, {"run.subject": 2})
    frames = np.zeros((30, FRAMES, SIZE, SIZE, 3), np.uint8)
    with open_stage(own, "preprocess", sections=("data",), inputs={}, overwrite=True) as stage:
        stage.write_array("fmri_train.npy", scans[2][:30])
        stage.write_array("frames_train.npy", frames)
        stage.write_array("frames_test.npy", frames[:2])
    with pytest.raises(UserError, match=r"sub-02/preprocess is not what .*pool-01-02"):
        adapt.run(chosen, parent="pool-01-02", mode="closed-form", only="train-sr")
    (tmp_path / "last.pth").write_bytes(b"x")
    with pytest.raises(UserError, match="needs the scans of the subjects"):
        adapt.run(chosen, parent=str(tmp_path / "last.pth"), mode="closed-form")


def test_other_films_than_the_pools_are_refused(world):
    chosen, scans, segments = world
    frames = np.random.default_rng(9).integers(0, 256, (CLIPS, FRAMES, SIZE, SIZE, 3))
    other = replace_settings(chosen, {"run.subject": 4})
    _write_preprocess(chosen, 4, scans[3], frames.astype(np.uint8), segments)
    with pytest.raises(UserError, match="saw no training film that the pooled"):
        adapt.run(other, parent="pool-01-02", mode="closed-form", only="train-sr")
