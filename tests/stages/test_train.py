"""train-pr and train-sr as whole stages, on a tiny run folder with stand-in backbones."""

from __future__ import annotations

import json
import os

import pytest
import torch
from convnext_weights import convnext_state
from helpers import stand_ins
from safetensors.torch import load_file

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.checkpoint import load_perception, load_semantics
from neuroclips_cli.runs.stage import stage_state
from neuroclips_cli.settings.load import replace_settings
from neuroclips_cli.stages import _training_data, train_pr, train_sr

CLIPS, FRAMES, VOXELS = stand_ins.CLIPS, stand_ins.FRAMES, stand_ins.VOXELS
TOKENS, DIM = stand_ins.TOKENS, stand_ins.DIM


@pytest.fixture
def calls(monkeypatch):
    """Stand-ins for the frozen networks; returns what was asked of them."""
    return stand_ins.install(monkeypatch)


@pytest.fixture
def settings(tmp_path):
    return stand_ins.settings(tmp_path)


_preprocess = stand_ins.write_preprocess


def _facts(folder):
    return json.loads((folder / "manifest.json").read_text())["facts"]


def _metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_train_pr_leaves_a_model_that_loads_and_decodes(settings, calls):
    _preprocess(settings)
    folder = train_pr.run(settings)
    model = load_perception(folder)
    assert model(torch.randn(2, VOXELS)).shape == (2, FRAMES, 4, 2, 2)
    facts = _facts(folder)
    assert facts["model"] == {"voxels": VOXELS, "frames": FRAMES, "latent_shape": [4, 2, 2]}
    assert facts["perception"]["validation_segments"] == [3]
    best = facts["perception"]["best_epoch"]
    lines = _metrics(folder)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert min(lines, key=lambda line: line["val_loss"])["epoch"] == best
    assert list(folder.glob("events.out.tfevents*"))
    assert calls == ["latents"]


def test_a_window_of_volumes_has_a_layer_each_in_both_trainings(settings, calls):
    _preprocess(settings, window=3)
    blurry = load_perception(train_pr.run(settings))(torch.randn(2, 3, VOXELS))
    assert blurry.shape == (2, FRAMES, 4, 2, 2)
    folder = train_sr.run(settings)
    assert load_semantics(folder)(torch.randn(2, 3, VOXELS))[0].shape == (2, TOKENS, DIM)
    layers = [name for name in load_file(folder / "model.safetensors") if ".volumes." in name]
    assert len(layers) == 2 * 3
    assert _facts(folder)["model"]["window"] == 3


def test_second_run_is_up_to_date_and_targets_are_kept(settings, calls):
    _preprocess(settings)
    first = (train_pr.run(settings) / "model.safetensors").read_bytes()
    train_pr.run(settings)
    folder = train_pr.run(settings, overwrite=True)
    assert (folder / "model.safetensors").read_bytes() == first
    assert calls == ["latents"]


def test_killed_train_pr_goes_on_and_ends_with_the_same_weights(settings, calls, monkeypatch):
    _preprocess(settings)
    undisturbed = (train_pr.run(settings) / "model.safetensors").read_bytes()
    from neuroclips_cli.training import metric_logger

    write = metric_logger.MetricLogger.write

    def killed(self, phase, epoch, figures):
        if epoch == 2:
            raise KeyboardInterrupt
        write(self, phase, epoch, figures)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(metric_logger.MetricLogger, "write", killed)
        train_pr.run(settings, overwrite=True)
    assert stage_state(settings, "train-pr")[0] == "interrupted"
    folder = train_pr.run(settings)
    assert (folder / "model.safetensors").read_bytes() == undisturbed
    assert [line["epoch"] for line in _metrics(folder)] == [1, 2, 3]


def test_train_sr_runs_both_phases_and_its_model_loads(settings, calls):
    _preprocess(settings)
    folder = train_sr.run(settings)
    backbone, contrastive = load_semantics(folder)(torch.randn(2, VOXELS))
    assert backbone.shape == contrastive.shape == (2, TOKENS, DIM)
    assert [(line["phase"], line["epoch"]) for line in _metrics(folder)] == [
        ("contrastive", 1),
        ("contrastive", 2),
        ("prior", 1),
        ("prior", 2),
    ]
    facts = _facts(folder)
    assert {"loss", "prior", "reftm", "fmri_to_image"} <= set(facts["prior"]["validation"])
    assert "captions" not in calls


def test_phases_one_after_the_other_equal_both_at_once(settings, calls):
    _preprocess(settings)
    at_once = (train_sr.run(settings) / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="phase 1"):
        train_sr.run(settings, phase="prior", overwrite=True)
    train_sr.run(settings, phase="contrastive", overwrite=True)
    assert stage_state(settings, "train-sr")[0] == "interrupted"
    folder = train_sr.run(settings, phase="prior")
    assert (folder / "model.safetensors").read_bytes() == at_once


def test_captions_come_from_the_captioner_where_the_data_has_none(settings, calls):
    from pathlib import Path

    _preprocess(settings, captions=False)
    train_sr.run(settings, phase="contrastive")
    assert "captions" in calls
    clips = _training_data.training_clips(
        Path(settings.run.workdir) / "sub-01" / "preprocess", settings.train_sr.validation_segments
    )
    captions = _training_data.captions_of(settings, clips, "cpu")
    text = _training_data.text_embeddings(settings, captions, "cpu")
    assert text.shape == (CLIPS, FRAMES, 6)  # of every frame, for the one that is the keyframe


def test_an_unknown_phase_or_a_missing_stage_is_one_sentence(settings, calls):
    with pytest.raises(UserError, match="--phase"):
        train_sr.run(settings, phase="third")
    with pytest.raises(UserError, match="neuroclips preprocess"):
        train_pr.run(settings)


def test_a_single_training_segment_is_refused(settings, calls):
    _preprocess(settings, segments=1)
    with pytest.raises(UserError, match="at least 2"):
        train_pr.run(settings)


def _convnext_checkpoint(path, width=4):
    """Write a random checkpoint in VICRegL's layout whose maps have the published width."""
    torch.save({"model": convnext_state(width)}, path)


def test_train_pr_as_released_contrasts_its_auxiliary_map(settings, calls, tmp_path):
    _convnext_checkpoint(tmp_path / "convnext.pth")
    _preprocess(settings)
    settings = replace_settings(
        settings,
        {
            "backbones.convnext": str(tmp_path / "convnext.pth"),
            "perception.network": "published",
            "perception.backbone": "released",
            "perception.attention": "batch",
            "perception.decoder_channels": (32,),
            "train_pr.contrast": "convnext",
            "train_pr.epochs": 1,
        },
    )
    folder = train_pr.run(settings)
    assert load_perception(folder)(torch.randn(2, VOXELS)).shape == (2, FRAMES, 4, 2, 2)
    line = _metrics(folder)[0]
    weighted = settings.train_pr.contrast_weight * line["contrast"]
    assert line["loss"] == pytest.approx(line["error"] + weighted, rel=1e-4)
    paper = replace_settings(settings, {"perception.network": "paper"})
    with pytest.raises(UserError, match='perception.network = "published"'):
        train_pr.run(paper, overwrite=True)


def test_phase_2_as_released_moves_the_prior_alone(settings, calls):
    _preprocess(settings)
    settings = replace_settings(
        settings,
        {
            "semantics.backbone": "released",
            "semantics.prior_condition": "contrastive",
            "train_sr.contrastive_reftm_weight": 0.25,
            "train_sr.reftm_temperature": 0.1,
            "train_sr.prior_contrast": "softclip",
            "train_sr.prior_trains": "prior",
        },
    )
    folder = train_sr.run(settings)
    first = load_file(folder / "checkpoints/contrastive-best.safetensors")
    last = load_file(folder / "model.safetensors")
    moved = {name.split(".")[0] for name in last if not torch.equal(first[name], last[name])}
    assert moved == {"diffusion_prior"}
    assert {"contrast", "reftm"} <= _metrics(folder)[0].keys()
    condition, contrastive = load_semantics(folder)(torch.randn(2, VOXELS))
    assert torch.equal(condition, contrastive)


@pytest.mark.parametrize("keeps", ["ridge", "tokens"])
def test_what_the_closed_form_keeps_does_not_learn(settings, calls, keeps):
    _preprocess(settings)
    changes = {"train_sr.ridge_closed_form": True, "train_sr.closed_form_keeps": keeps}
    folder = train_sr.run(replace_settings(settings, changes))
    first = load_file(folder / "checkpoints/contrastive-best.safetensors")
    last = load_file(folder / "model.safetensors")
    moved = {name for name in last if not torch.equal(first[name], last[name])}
    assert not any(name.startswith("ridge.") for name in moved)
    backbone = {name.split(".")[1] for name in moved if name.startswith("backbone.")}
    assert backbone == {"clip_proj"} if keeps == "tokens" else backbone > {"clip_proj"}
    assert any(name.startswith("diffusion_prior.") for name in moved)


def test_frames_of_another_size_than_the_metrics_can_be_learned(settings, calls):
    _preprocess(settings)
    train_pr.run(replace_settings(settings, {"perception.frame_size": 16}))
    train_pr.run(settings, overwrite=True)
    assert calls == ["latents", "latents"]


@pytest.mark.parametrize("stage", ["train-sr", "train-pr"])
def test_a_trained_run_exported_and_imported_is_bit_identical(settings, calls, tmp_path, stage):
    from neuroclips_cli.stages._released_weights import export_run, import_run

    _preprocess(settings)
    changes = {
        "backbones.tokens": TOKENS,
        "backbones.token_dim": DIM,
        "semantics.token_pca_rank": 0,
    }
    settings = replace_settings(settings, {**changes, "data.frames_per_clip": FRAMES})
    settings = replace_settings(settings, {"perception.frame_size": 16})
    folder = {"train-sr": train_sr, "train-pr": train_pr}[stage].run(settings)
    trained = (folder / "model.safetensors").read_bytes()
    path = export_run(settings, stage, tmp_path / "last.pth")
    with pytest.raises(UserError, match="exists"):
        export_run(settings, stage, path)
    assert torch.load(path).get("token_space") == {"train-sr": "standard"}.get(stage)
    again = import_run(settings, stage, path, overwrite=True)
    assert (again / "model.safetensors").read_bytes() == trained
    assert _facts(again)["imported"] == "last.pth"
    load = {"train-sr": load_semantics, "train-pr": load_perception}[stage]
    assert load(again)(torch.randn(2, VOXELS)) is not None


def test_a_checkpoint_that_runs_code_is_refused_and_nothing_runs(tmp_path):
    from neuroclips_cli.backbones.conversion.files import read_weights

    class Sly:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"model_state_dict": {"ridge.linears.0.weight": Sly()}}, tmp_path / "last.pth")
    with pytest.raises(UserError, match="refused, nothing in it was run"):
        read_weights(tmp_path / "last.pth")
    assert not (tmp_path / "ran").exists()


def test_training_begins_from_published_weights_without_another_subjects_ridge(
    settings, calls, tmp_path
):
    from neuroclips_cli.models.released.checkpoints import export_published, write_last_pth
    from neuroclips_cli.models.semantics import Semantics

    _preprocess(settings)
    changes = {"semantics.token_pca_rank": 0, "train_sr.prior_trains": "prior"}
    settings = replace_settings(settings, {**changes, "train_sr.ridge_closed_form": False})
    settings = replace_settings(settings, {"train_sr.learning_rate": 1e-9})
    theirs = Semantics(VOXELS + 3, settings.semantics, TOKENS, DIM)
    path = tmp_path / "last.pth"
    write_last_pth(path, export_published(theirs))
    with pytest.raises(UserError, match=r"--set semantics.token_space=published .* or standard"):
        train_sr.run(settings, checkpoint=path)
    write_last_pth(path, export_published(theirs), "published")
    with pytest.raises(UserError, match=r"trained on published tokens, .*token_space=published"):
        train_sr.run(settings, checkpoint=path)
    write_last_pth(path, export_published(theirs), "standard")
    folder = train_sr.run(settings, checkpoint=path)
    ours = load_file(folder / "model.safetensors")
    assert ours["ridge.linears.0.weight"].shape == (16, VOXELS)
    begun = theirs.state_dict()["backbone.backbone_linear.weight"]
    torch.testing.assert_close(ours["backbone.backbone_linear.weight"], begun, atol=1e-6, rtol=0)
    closed = replace_settings(settings, {"train_sr.ridge_closed_form": True})
    with pytest.raises(UserError, match="ridge_closed_form=false"):
        train_sr.run(closed, checkpoint=path, overwrite=True)


def test_a_network_of_windows_begins_from_published_weights_without_their_ridge(settings, tmp_path):
    from neuroclips_cli.models.released.checkpoints import export_published, write_last_pth
    from neuroclips_cli.models.semantics import Semantics
    from neuroclips_cli.stages._released_weights import load_pretrained_weights

    theirs = Semantics(VOXELS, settings.semantics, TOKENS, DIM)
    write_last_pth(tmp_path / "last.pth", export_published(theirs), "standard")
    model = Semantics(VOXELS, settings.semantics, TOKENS, DIM, window=2)
    before = {name: value.clone() for name, value in model.ridge.state_dict().items()}
    load_pretrained_weights(model, tmp_path / "last.pth", settings)
    assert all(torch.equal(model.ridge.state_dict()[name], before[name]) for name in before)
    begun = theirs.state_dict()["backbone.backbone_linear.weight"]
    assert torch.equal(model.state_dict()["backbone.backbone_linear.weight"], begun)


def test_a_mixing_trunk_begins_from_mindeye2s_checkpoint_without_its_trunk(
    settings, calls, tmp_path, capsys
):
    from neuroclips_cli.models.semantics import Semantics

    _preprocess(settings)
    changes = {"semantics.token_pca_rank": 0, "train_sr.ridge_closed_form": False}
    settings = replace_settings(settings, {**changes, "train_sr.learning_rate": 1e-9})
    released = replace_settings(settings, {"semantics.backbone": "released"})
    theirs = Semantics(VOXELS, released.semantics, TOKENS, DIM).state_dict()
    torch.nn.init.normal_(theirs["backbone.mixer_blocks2.0.1.0.weight"])
    # Half precision, a trainer's prefix, and MindEye2's low-level branch beside the networks.
    file = {f"module.{name}": value.half() for name, value in theirs.items()}
    file["module.backbone.blin1.weight"] = torch.ones(2, 2)
    torch.save({"model_state_dict": file, "epoch": 9}, tmp_path / "last.pth")
    with pytest.raises(UserError, match="trained on published tokens"):
        train_sr.run(settings, checkpoint=tmp_path / "last.pth")
    published = replace_settings(settings, {"semantics.token_space": "published"})
    folder = train_sr.run(published, checkpoint=tmp_path / "last.pth")
    assert 'without its trunk (semantics.backbone = "mixing"' in capsys.readouterr().err
    ours = load_file(folder / "model.safetensors")
    taken = [name for name in ours if name in theirs]
    assert {name.split(".")[0] for name in taken} == {"ridge", "backbone", "diffusion_prior"}
    assert not any(".mixer_blocks" in name for name in ours)
    for name in taken:
        schedule = "noise_scheduler" in name  # computed, not learned: its rounding is not taken
        value = theirs[name] if schedule else theirs[name].half().float()
        torch.testing.assert_close(ours[name], value, atol=1e-6, rtol=0)
