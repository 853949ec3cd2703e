"""doctor's dry run: every stage connects at true size, and what it needs is computed."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from neuroclips_cli.backbones.catalog import REPOSITORIES
from neuroclips_cli.backbones.meta_models import build
from neuroclips_cli.cli import doctor, doctor_memory
from neuroclips_cli.errors import UserError
from neuroclips_cli.memory_estimate import training
from neuroclips_cli.memory_estimate.live import DevicePrecision, MemoryTracker, nbytes
from neuroclips_cli.memory_estimate.walk import walk
from neuroclips_cli.protocols.evaluation_config import evaluation_config
from neuroclips_cli.settings.load import load_settings


def needs(**flags):
    settings = load_settings({key.replace("__", "."): v for key, v in flags.items()}, environ={})
    return walk(settings, 300, device="cpu", mixed=False)


def test_every_stage_of_the_paper_connects_at_its_published_size():
    settings = load_settings({"run.profile": "paper"}, environ={})
    found = {need.stage: need for need in walk(settings, 13447, device="cuda", mixed=True)}
    assert len(found) == 13
    prior = found["train-sr, prior phase"]
    assert 2.19e9 < prior.parameters < 2.21e9  # 2.2 G (fixtures/models/paper_size.json)
    assert prior.gradients == pytest.approx(4 * prior.parameters, rel=1e-3)
    assert prior.states == pytest.approx(8 * prior.parameters, rel=1e-3)
    assert prior.peak > 16 * prior.parameters
    contrastive = found["train-sr, contrastive phase"]
    assert contrastive.gradients < 0.9 * prior.gradients  # the prior is not trained there
    assert found["fuse"].weights > found["reconstruct: clips (video)"].weights
    # frozen networks keep the weights of their products in 16 bits; CLIP and what was trained not
    for stage in ("captions of the films (BLIP-2)", "reconstruct: captions (BLIP-2)"):
        assert found[stage].weights == pytest.approx(2 * found[stage].parameters, rel=0.01)
    unclip = found["reconstruct: keyframes (unCLIP)"]
    assert 2 * unclip.parameters < unclip.weights < 2.1 * unclip.parameters
    for stage in ("targets of train-sr (CLIP)", "reconstruct: tokens"):
        assert found[stage].weights == pytest.approx(4 * found[stage].parameters, rel=0.01)


@pytest.mark.parametrize("profile", ["paper", "compact"])
def test_a_pool_of_three_takes_at_most_a_fifth_more_memory_than_one_subject(profile):
    subjects = [13447, 14828, 9114]
    settings = load_settings({"run.profile": profile}, environ={})
    how = {"device": "cuda", "mixed": True}
    one, three = (
        training.train_perception(settings, v, (4, 32, 32), **how) for v in (14828, subjects)
    )
    assert three.peak <= 1.2 * one.peak
    # a further subject's first layers: weights and gradients, and next to nothing of moments
    more = training.train_perception(settings, [*subjects, 9114], (4, 32, 32), **how)
    extra = more.parameters - three.parameters
    first = 9114 * (settings.perception.hidden + (1 + 6) * settings.perception.inception_hidden)
    assert extra == pytest.approx(first, rel=0.01)
    assert more.states - three.states < 0.05 * 4 * extra


def test_the_dry_run_of_a_pool_takes_each_subjects_voxels(capsys):
    settings = load_settings({"run.profile": "tiny", "run.subjects": (1, 2)}, environ={})
    assert doctor_memory.voxels_of(settings) == ([13447, 14828], "as in the paper")


def test_doctor_runs_the_dry_run_and_says_that_tiny_connects(settings, capsys):
    assert doctor_memory.run(settings)
    out, err = capsys.readouterr()
    assert "every stage connects" in err
    assert out.count("yes") == 13 and "train-sr, prior phase" in out


def test_doctor_leaves_the_dry_run_out_for_tiny_and_when_told(settings, monkeypatch):
    calls = []
    monkeypatch.setattr(doctor, "_dry_run", lambda s: calls.append(s.run.profile) or False)
    monkeypatch.setattr(doctor, "examine", lambda settings: [])
    paper = load_settings({"run.profile": "paper"}, environ={})
    assert doctor.run(settings) == 0 and doctor.run(paper, dry_run=False) == 0
    assert not calls
    assert doctor.run(paper) == doctor.run(settings, dry_run=True) == 2
    assert calls == ["paper", "tiny"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"backbones__tokens": "17"}, "CLIP's image tokens is 16 x 128 where 17 x 128"),
        ({"backbones__embed_dim": "96"}, "CLIP's text is 128 where 96"),
        ({"perception__start_size": "8"}, "perception.start_size 8"),
    ],
)
def test_the_first_mismatch_is_named_in_one_sentence(change, named):
    with pytest.raises(UserError, match=named) as problem:
        list(needs(**change))
    assert "\n" not in str(problem.value)


def test_a_mismatch_is_shown_after_what_connects_and_ends_with_2(capsys, monkeypatch):
    changed = load_settings({"backbones.sparsectrl": "folder"}, environ={})
    monkeypatch.setattr(
        "neuroclips_cli.memory_estimate.generation.build",
        lambda name, backbones: _other_width() if name == "sparsectrl" else build(name, backbones),
    )
    monkeypatch.setattr(doctor, "examine", lambda settings: [])
    assert doctor.run(changed, dry_run=True) == 2
    out, err = capsys.readouterr()
    assert "reconstruct: keyframes" in out and "reconstruct: clips" not in out
    assert "reconstruct does not connect at the video networks" in err


def _other_width():
    from diffusers import SparseControlNetModel

    own = build("sparsectrl", load_settings(environ={}).backbones).config
    with torch.device("meta"):
        return SparseControlNetModel.from_config({**own, "cross_attention_dim": 24})


@pytest.mark.parametrize(
    "name", ["vae", "clip", "motion_adapter", "sparsectrl", "image_classifier", "video_classifier"]
)
def test_published_sizes_give_the_known_size_of_the_files(name):
    chosen = load_settings({"run.profile": "paper"}, environ={})
    evaluators = evaluation_config(chosen, synthetic=False, scans=True).evaluators
    where = evaluators if name.endswith("_classifier") else chosen.backbones
    known = REPOSITORIES[getattr(where, name)].size
    network = build(name, where)
    made = nbytes([*network.parameters(), *network.buffers()])
    assert made == pytest.approx(known, rel=0.01)


def test_what_lives_on_the_meta_device_is_what_a_real_step_allocates():
    with torch.device("meta"):
        model = torch.nn.Sequential(
            torch.nn.Linear(50, 70), torch.nn.GELU(), torch.nn.Linear(70, 30)
        )
    weights = nbytes(model.parameters())
    with DevicePrecision(mixed=False), MemoryTracker() as live:
        x = torch.empty(10, 50, device="meta")
        assert live.now == 4 * 10 * 50
        y = model(x)
        assert live.now == 4 * 10 * (50 + 70 + 70 + 30)
        y.square().sum().backward()
        del x, y
        assert live.now == weights  # the gradients
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
        live.restart()
        optimizer.step()
        assert live.now == 3 * weights and live.peak == 4 * weights


def test_bfloat16_halves_what_matrix_products_keep():
    with torch.device("meta"):
        layer = torch.nn.Linear(64, 64, bias=False)
    kept = {}
    for mixed in (False, True):
        with DevicePrecision(mixed), MemoryTracker() as live:
            x = torch.empty(1000, 64, device="meta")
            y = layer(x)
            kept[mixed] = y.dtype, live.now
    assert kept[False] == (torch.float32, 2 * 4 * 64000)
    assert kept[True] == (torch.bfloat16, 4 * 64000 + 2 * 64000 * 2)


def test_fused_attention_keeps_no_matrix_of_scores():
    with DevicePrecision(mixed=False), MemoryTracker() as live:
        q = torch.empty(1, 1, 1000, 8, device="meta", requires_grad=True)
        torch.nn.functional.scaled_dot_product_attention(q, q, value=q).sum().backward()
    assert live.peak < 4 * 1000 * 1000


def test_sizes_come_from_the_folder_where_there_is_one(tmp_path):
    backbones = load_settings(environ={}).backbones
    paper = load_settings({"run.profile": "paper"}, environ={}).backbones
    mixed = dataclasses.replace(paper, vae=backbones.vae)
    assert sum(p.numel() for p in build("vae", mixed).parameters()) < 1e6
