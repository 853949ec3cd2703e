"""The models' shapes, and what may influence what."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.model_sizes import PR, SR

from neuroclips_cli.errors import UserError
from neuroclips_cli.generation.tokens import sample_tokens
from neuroclips_cli.models.backbone import ResidualMLP
from neuroclips_cli.models.inception import InceptionExtension
from neuroclips_cli.models.perception import Perception
from neuroclips_cli.models.prior import DiffusionPrior
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.models.temporal_upsampling import TemporalUpsampling
from neuroclips_cli.runtime.seeding import clip_generators


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_perception_decodes_latents_of_every_frame():
    model = Perception(20, 3, PR, (4, 4, 6))
    assert model(torch.randn(5, 20)).shape == (5, 3, 4, 4, 6)


def test_latents_that_do_not_fit_the_decoder_are_refused_in_one_sentence():
    with pytest.raises(UserError, match="start_size"):
        Perception(20, 3, dataclasses.replace(PR, start_size=3), (4, 4, 4))


def test_temporal_attention_never_mixes_clips():
    model = Perception(20, 3, PR, (4, 4, 4)).eval()
    scans = torch.randn(4, 20)
    changed = scans.clone()
    changed[2] += 1.0
    before, after = model(scans), model(changed)
    assert not torch.allclose(before[2], after[2])
    for clip in (0, 1, 3):
        torch.testing.assert_close(before[clip], after[clip], rtol=0, atol=1e-6)


def test_every_frame_of_a_clip_influences_the_others():
    block = TemporalUpsampling(8, 8, frames=3, layers=1, upsample=True)
    frames = torch.randn(6, 8, 4, 4)
    changed = frames.clone()
    changed[0] += torch.randn(8, 4, 4)
    moved = (block(frames) - block(changed)).abs().flatten(1).amax(1) > 1e-6
    assert moved.tolist() == [True, True, True, False, False, False]


def test_temporal_layer_follows_eq2():
    block = TemporalUpsampling(4, 4, frames=3, layers=1, upsample=False)
    block.eta1.data.fill_(1.0)
    block.eta2.data.fill_(0.25)
    x = torch.randn(3, 4, 1, 1)
    e = x[:, :, 0, 0]
    attention = block.temporal
    weights = (attention.to_q(e) @ attention.to_k(e).T / 4**0.5).softmax(-1)
    expected = 0.25 * e + 0.75 * weights @ e
    torch.testing.assert_close(block(x)[:, :, 0, 0], expected)


def test_rearranging_to_sequences_and_back_changes_nothing():
    block = TemporalUpsampling(8, 8, frames=3, layers=1, upsample=False)
    x = torch.randn(6, 8, 4, 5)
    assert torch.equal(block.as_images(block.as_sequences(x), x), x)


def test_backbone_mixes_channels():
    mlp = ResidualMLP(8, blocks=1, dropout=0.0)
    jacobian = torch.autograd.functional.jacobian(mlp, torch.randn(8))
    assert (jacobian.abs() > 1e-7).all()


def test_inception_extension_keeps_negative_activity():
    extended = InceptionExtension(30, 4, 8)(torch.randn(2, 30))
    assert extended.shape == (2, 4, 30)
    assert extended.min() < -1


def test_semantics_gives_backbone_and_contrastive_tokens_and_samples_the_prior():
    model = Semantics(20, SR, tokens=4, token_dim=8).eval()
    backbone, contrastive = model(torch.randn(3, 20))
    assert backbone.shape == contrastive.shape == (3, 4, 8)
    runs = [
        sample_tokens(model, torch.ones(2, 20), clip_generators(0, [5, 7], "tokens"))
        for _ in range(2)
    ]
    assert runs[0].shape == (2, 4, 8)
    assert torch.equal(*runs)
    alone = sample_tokens(model, torch.ones(1, 20), clip_generators(0, [7], "tokens"))
    torch.testing.assert_close(alone[0], runs[0][1])


def test_tokens_of_the_backbone_are_decoded_without_the_prior():
    sizes = dataclasses.replace(SR, decoded_tokens="backbone")
    model = Semantics(20, sizes, tokens=4, token_dim=8).eval()
    model.token_subspace.fit(torch.randn(9, 4, 8))
    scans = torch.randn(3, 20)
    decoded = sample_tokens(model, scans, clip_generators(0, range(3), "tokens"))
    assert torch.equal(decoded, model.token_subspace(model(scans)[0]))


def test_the_average_of_many_draws_hardly_varies():
    scans = torch.ones(1, 20)
    spread = {}
    for draws in (1, 64):
        torch.manual_seed(0)
        model = Semantics(
            20, dataclasses.replace(SR, prior_samples=draws, token_pca_rank=0), 4, 8
        ).eval()
        tokens = [sample_tokens(model, scans, clip_generators(s, [0], "t")) for s in range(8)]
        spread[draws] = torch.cat(tokens).std(dim=0).mean()
    assert spread[64] < 0.4 * spread[1]


def test_decoded_tokens_differ_only_along_the_components_of_training_tokens():
    torch.manual_seed(0)
    model = Semantics(20, SR, 4, 8).eval()
    films = torch.randn(30, 2) @ torch.randn(2, 32) + torch.randn(32)
    model.token_subspace.fit(films.unflatten(1, (4, 8)))
    torch.testing.assert_close(model.token_subspace(films.unflatten(1, (4, 8))).flatten(1), films)
    drawn = sample_tokens(model, torch.randn(9, 20), clip_generators(0, range(9), "t")).flatten(1)
    assert torch.linalg.matrix_rank(drawn - drawn.mean(dim=0), rtol=1e-4) == 2
    assert set(model.state_dict()) - set(_without_rank()) == {
        "token_subspace.mean",
        "token_subspace.axes",
    }


def _without_rank():
    return Semantics(20, dataclasses.replace(SR, token_pca_rank=0), 4, 8).state_dict()


def test_fewer_components_than_the_rank_leave_tokens_finite():
    model = Semantics(20, SR, 4, 8)
    model.token_subspace.fit(torch.ones(5, 4, 8))
    torch.testing.assert_close(model.token_subspace(torch.randn(3, 4, 8)), torch.ones(3, 4, 8))


def test_published_key_prefixes_are_used():
    keys = set(Semantics(20, SR, tokens=4, token_dim=8).state_dict())
    for key in (
        "ridge.linears.0.weight",
        "backbone.backbone_linear.weight",
        "backbone.clip_proj.8.bias",
        "diffusion_prior.net.causal_transformer.layers.0.0.null_kv",
        "diffusion_prior.noise_scheduler.betas",
    ):
        assert key in keys


def test_prior_in_training_drops_conditions_but_not_in_evaluation():
    prior = DiffusionPrior(8, 4, depth=1, heads=2, head_dim=8, timesteps=10, drop_probability=1.0)
    image = torch.randn(3, 4, 8)
    given = {"times": torch.tensor([1, 2, 3]), "noise": torch.randn(3, 4, 8)}
    brains = torch.randn(2, 3, 4, 8)
    dropped = [prior.train()(brain, image, **given)[0].item() for brain in brains]
    kept = [prior.eval()(brain, image, **given)[0].item() for brain in brains]
    assert dropped[0] == dropped[1]
    assert kept[0] != kept[1]
