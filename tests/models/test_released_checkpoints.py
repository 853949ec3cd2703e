"""Published checkpoints: full-size layouts, round trips, refusals."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers import model_sizes
from parity.records import FIXTURES, record

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.perception import make_perception
from neuroclips_cli.models.released.checkpoints import (
    export_published,
    import_published,
    published_names,
    write_last_pth,
)
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.settings.load import load_settings

SR = dataclasses.replace(model_sizes.SR, blocks=2, prior_samples=1, token_pca_rank=0)
PR = dataclasses.replace(model_sizes.PR, blocks=2, decoder_channels=(32, 32))
VOXELS = 20
FULL_SIZE = pytest.mark.skipif(
    not (FIXTURES / "models/paper_size.json").is_file(),
    reason=f"no recorded layout in {FIXTURES} (NEUROCLIPS_FIXTURES)",
)


def semantics(**changes):
    return Semantics(VOXELS, dataclasses.replace(SR, **changes), 4, 8)


def perception(**changes):
    return make_perception(VOXELS, 3, dataclasses.replace(PR, **changes), (4, 4, 4))


WAYS = {
    "sr as in the paper": lambda: semantics(),
    "sr as released": lambda: semantics(backbone="released"),
    "pr as in the paper": lambda: perception(),
    "pr published, mixing": lambda: perception(network="published"),
    "pr as released": lambda: perception(
        network="published", backbone="released", attention="batch"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_round_trip_through_a_published_checkpoint_is_bit_identical(way, tmp_path):
    torch.manual_seed(0)
    model = WAYS[way]()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter))
    write_last_pth(tmp_path / "last.pth", export_published(model))
    content = torch.load(tmp_path / "last.pth", weights_only=True)
    with torch.device("meta"):
        built = WAYS[way]()
    state = import_published(content["model_state_dict"], built, "last.pth")
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    other = WAYS[way]()
    other.load_state_dict(state)
    scans = torch.randn(2, VOXELS)
    ours, theirs = (m.eval()(scans) for m in (model, other))
    pairs = zip(ours, theirs, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_in_half_precision_keeps_the_schedule_of_the_prior_exact(dtype):
    state = export_published(semantics())
    half = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    taken = import_published(half, semantics(), "last.pth")
    schedule = [name for name in state if ".noise_scheduler." in name]
    assert len(schedule) > 10 and all(torch.equal(taken[n], state[n]) for n in schedule)
    assert any(not torch.equal(half[name].float(), state[name]) for name in schedule)
    learned = "diffusion_prior.net.learned_query"
    assert torch.equal(taken[learned], half[learned].float())

    other = {**half, schedule[0]: half[schedule[0]] * 0.5}  # another schedule is the file's own
    taken = import_published(other, semantics(), "last.pth")
    assert all(torch.equal(taken[name], other[name].float()) for name in schedule)


def full_size(**changes):
    settings = load_settings({"run.profile": "paper"}, environ={})
    chosen = dataclasses.replace(settings.semantics, **changes)
    voxels = record("models/paper_size.json")["voxels"]
    with torch.device("meta"):
        return Semantics(voxels, chosen, settings.backbones.tokens, settings.backbones.token_dim)


def shapes(state):
    return {name: list(value.shape) for name, value in state.items()}


def recorded(*names):
    parts = record("models/paper_size.json")["parts"]
    return {
        k: v for n in names for kind in ("params", "buffers") for k, v in parts[n][kind].items()
    }


@pytest.mark.oracle
@FULL_SIZE
@pytest.mark.parametrize("backbone", ["mixing", "released"])
def test_full_size_semantics_has_every_published_name_and_shape(backbone):
    model = full_size(backbone=backbone)
    names = recorded("sr_ridge", "sr_backbone", "sr_diffusion_prior")
    if backbone == "released":
        assert shapes(model.state_dict()) == names
    published = published_names(model)
    ours = {published[name]: list(value.shape) for name, value in model.state_dict().items()}
    # A trunk that mixes has no sequence half; its export adds one of zeros.
    assert ours == {k: v for k, v in names.items() if k in ours}
    assert all("mixer_blocks2" in name for name in names.keys() - ours.keys())


@pytest.mark.oracle
@FULL_SIZE
def test_full_size_parameter_counts_are_the_recorded_ones():
    counts = record("models/paper_size.json")["n_params"]
    model = full_size(backbone="released")
    assert counts["sr_ridge"] == count(model.ridge)
    assert counts["sr_backbone"] == count(model.backbone)
    assert counts["sr_diffusion_prior"] == count(model.diffusion_prior)
    pr = full_size_perception()
    assert counts["pr_ridge"] == count(pr.ridge1)
    assert counts["pr_backbone"] == count(pr.backbone)
    assert counts["pr_inception_extension"] == count(pr.fmri)
    projector_size = counts["sr_projector"]
    assert counts["sr_total"] == sum(
        map(count, (model.ridge, model.backbone, model.diffusion_prior)), projector_size
    )
    assert counts["pr_total"] == sum(map(count, (pr.ridge1, pr.backbone, pr.fmri)))
    settings = load_settings({"run.profile": "paper"}, environ={}).backbones
    assert projector_size == settings.token_dim * settings.embed_dim
    projector = recorded("sr_projector")
    assert projector == {"clipproj.proj": [settings.token_dim, settings.embed_dim]}


@pytest.mark.oracle
@FULL_SIZE
def test_full_size_modules_have_the_recorded_counts():
    detail = record("models/paper_size.json")["n_params_detail"]
    sr, pr = full_size(backbone="released").backbone, full_size_perception().backbone
    assert detail["sr_backbone.backbone_linear"] == count(sr.backbone_linear)
    assert detail["sr_backbone.clip_proj"] == count(sr.clip_proj)
    assert detail["pr_backbone.bupsampler"] == count(pr.bupsampler)
    assert detail["pr_backbone.b_maps_projector"] == count(pr.b_maps_projector)
    mixed = record("models/paper_size.json")[
        "n_params_in_mixer_blocks1_without_effect_at_seq_len_1"
    ]
    assert mixed["sr_backbone"] == count(sr.mixer_blocks1)
    assert mixed["pr_backbone"] == count(pr.mixer_blocks1)


@pytest.mark.oracle
@FULL_SIZE
def test_the_prior_learns_as_many_parameters_as_recorded():
    part = record("models/paper_size.json")["parts"]["sr_diffusion_prior"]
    prior = full_size().diffusion_prior
    prior.freeze_rotary()
    learned = sum(p.numel() for p in prior.parameters() if p.requires_grad)
    assert learned == part["n_params_requires_grad_at_construction"]
    assert len(prior.state_dict()) == part["state_dict_entries"]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def full_size_perception(**changes):
    settings = load_settings({"run.profile": "paper", "run.variant": "released"}, environ={})
    chosen = dataclasses.replace(settings.perception, **changes)
    side = settings.perception.frame_size // 8
    voxels = record("models/paper_size.json")["voxels"]
    with torch.device("meta"):
        frames = settings.data.frames_per_clip
        return make_perception(voxels, frames, chosen, (4, side, side))


@pytest.mark.oracle
@FULL_SIZE
@pytest.mark.parametrize("backbone", ["mixing", "released"])
def test_full_size_perception_has_every_published_name_and_shape(backbone):
    names = recorded("pr_ridge", "pr_backbone", "pr_inception_extension")
    assert shapes(full_size_perception(backbone=backbone).state_dict()) == names


def refusal(weights, model, **options):
    with pytest.raises(UserError) as caught:
        import_published(weights, model, "last.pth", **options)
    message = str(caught.value)
    assert "\n" not in message and "last.pth" in message
    return message


def test_another_kind_of_checkpoint_is_refused_by_its_first_missing_name():
    assert "lacks 'ridge.linears.0.weight'" in refusal(
        export_published(perception(network="published", backbone="released")),
        semantics(backbone="released"),
    )


def test_another_subject_is_refused_with_both_voxel_counts():
    state = export_published(semantics())
    state["ridge.linears.0.weight"] = torch.zeros(16, 14828)
    message = refusal(state, semantics())
    assert "14828 voxels (subject 2 of cc2017)" in message
    assert f"this run has {VOXELS}" in message


def test_another_size_is_refused_by_its_first_differing_shape():
    message = refusal(export_published(semantics(hidden=8)), semantics())
    assert "'ridge.linears.0.weight' is (8, 20)" in message


def test_an_entry_that_the_network_lacks_is_named():
    state = export_published(semantics()) | {"backbone.extra": torch.zeros(1)}
    assert "'backbone.extra'" in refusal(state, semantics())


def test_a_released_trunk_is_not_taken_for_one_that_mixes_nor_the_other_way_round():
    released = export_published(semantics(backbone="released"))
    assert 'semantics.backbone = "released"' in refusal(released, semantics())
    mixing = export_published(semantics())
    assert 'semantics.backbone = "mixing"' in refusal(mixing, semantics(backbone="released"))


def test_another_subjects_checkpoint_starts_a_training_without_its_ridge_layer():
    model = semantics(backbone="released")
    state = export_published(semantics(backbone="released"))
    state["ridge.linears.0.weight"] = torch.zeros(16, 99)
    state |= {"clipproj.proj": torch.zeros(8, 8), "backbone.blin1.weight": torch.zeros(2, 2)}
    taken = import_published(state, model, "last.pth", ridge=False)
    own = model.state_dict()
    assert torch.equal(taken["ridge.linears.0.weight"], own["ridge.linears.0.weight"])
    assert torch.equal(
        taken["backbone.backbone_linear.weight"], state["backbone.backbone_linear.weight"]
    )
