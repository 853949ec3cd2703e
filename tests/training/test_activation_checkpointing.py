"""What makes a training smaller: blocks computed twice, a head in two factors, Adafactor."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers.optimization import Adafactor

from neuroclips_cli.models.head import FactorizedHead, init_from_linear, make_head
from neuroclips_cli.models.perception import make_perception
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.training import adafactor
from neuroclips_cli.training.activation_checkpointing import apply_activation_checkpointing
from neuroclips_cli.training.checkpoints import CheckpointManager, TrainingState
from neuroclips_cli.training.optimizer import make_optimizer, make_schedule

VOXELS = 30


def semantics(**changes):
    sizes = load_settings(environ={}).semantics
    small = {"hidden": 16, "prior_head_dim": 8, "prior_heads": 2, "token_pca_rank": 0}
    return Semantics(VOXELS, dataclasses.replace(sizes, **{**small, **changes}), 4, 8)


def perception():
    sizes = load_settings(environ={}).perception
    return make_perception(VOXELS, 3, dataclasses.replace(sizes, hidden=16), (4, 8, 8))


def released_perception():
    sizes = load_settings(environ={}).perception
    released = {"network": "published", "backbone": "released", "attention": "batch"}
    small = {"hidden": 16, "start_size": 4, "decoder_channels": (32, 32), **released}
    return make_perception(VOXELS, 3, dataclasses.replace(sizes, **small), (4, 8, 8))


def prior_loss(model):
    brain, contrastive = model(torch.ones(3, VOXELS))
    loss, _ = model.diffusion_prior(brain, torch.ones(3, 4, 8))
    return loss + contrastive.square().mean()


def perception_loss(model):
    return model(torch.ones(3, VOXELS)).square().mean()


@pytest.mark.parametrize(
    ("build", "loss", "elementwise"),
    [
        (semantics, prior_loss, False),
        (semantics, prior_loss, True),
        (lambda: semantics(backbone="released"), prior_loss, False),
        (perception, perception_loss, False),
        (released_perception, perception_loss, False),
    ],
    ids=["semantics", "elementwise", "released trunk", "perception", "released perception"],
)
def test_computing_blocks_twice_gives_identical_gradients(build, loss, elementwise):
    gradients = {}
    for twice in (False, True):
        torch.manual_seed(0)
        model = build().train()
        names = list(model.state_dict())
        if twice:
            assert apply_activation_checkpointing(model, elementwise=elementwise) >= 2
            assert list(model.state_dict()) == names
        torch.manual_seed(1)
        loss(model).backward()
        gradients[twice] = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients[True]) == len(gradients[False]) > 0
    pairs = zip(gradients[False], gradients[True], strict=True)
    assert all(torch.equal(kept, again) for kept, again in pairs)


def test_a_network_without_known_blocks_is_not_trained_at_full_memory_in_silence():
    with pytest.raises(ValueError, match="no block of Linear is known"):
        apply_activation_checkpointing(torch.nn.Linear(2, 2))


def test_norms_and_gates_computed_twice_cost_the_products_of_queries_and_keys_only():
    operations = {}
    for twice in (False, True):
        model = semantics().train()
        if twice:
            apply_activation_checkpointing(model, elementwise=True)
        with FlopCounterMode(display=False) as counter:
            prior_loss(model).backward()
        operations[twice] = counter.get_total_flops()
    layer = model.diffusion_prior.net.causal_transformer.layers[0][0]
    rows = 3 * (2 * 4 + 1)  # brain tokens, time, noisy tokens
    each = 2 * rows * (layer.to_q.weight.numel() + layer.to_kv.weight.numel())
    assert operations[True] - operations[False] == 2 * each  # layers


def test_attention_of_the_prior_gets_what_cudas_fused_kernel_takes(monkeypatch):
    taken = []
    plain = F.scaled_dot_product_attention

    def look(query, key, value, attn_mask, **options):
        taken.extend((query, key, value, attn_mask))
        return plain(query, key, value, attn_mask=attn_mask, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", look)
    prior_loss(semantics())
    assert len(taken) == 8
    assert {x.stride(-1) for x in taken} == {1}


def test_a_factorized_head_gives_the_same_shapes_from_fewer_weights():
    model = semantics(head_rank=2)
    tokens, contrastive = model(torch.randn(3, VOXELS))
    assert tokens.shape == contrastive.shape == (3, 4, 8)
    head = model.backbone.backbone_linear
    assert isinstance(head, FactorizedHead)
    assert sum(p.numel() for p in head.parameters()) == 16 * 4 * 2 + 2 * 8 + 4 * 8
    assert isinstance(semantics().backbone.backbone_linear, torch.nn.Linear)


@pytest.mark.parametrize("rank", [0, 2, 3])
def test_a_head_begins_as_the_given_layer_where_its_rank_allows(rank):
    torch.manual_seed(0)
    head = make_head(6, 4, 8, rank)
    shared, numbers = torch.randn(8, 2), torch.randn(4, 2, 5)
    weight = (shared @ numbers).flatten(0, 1)  # (4 tokens x 8, 5 inputs), two shared directions
    bias = torch.randn(32)
    init_from_linear(head, weight, bias)
    x = torch.cat([torch.randn(7, 5), torch.zeros(7, 1)], dim=1)
    torch.testing.assert_close(head(x), x[:, :5] @ weight.T + bias, rtol=1e-4, atol=1e-4)


def test_adafactor_learns_and_keeps_next_to_nothing(tmp_path):
    torch.manual_seed(0)
    model, target = torch.nn.Linear(40, 30), torch.randn(64, 30)
    x = torch.randn(64, 40)
    optimizer = make_optimizer(model, 1e-2, 0.0, 0.0, "adafactor")
    schedule = make_schedule(optimizer, 1e-2, 10, 10)
    losses = []
    for _ in range(100):
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    states = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    assert sum(v.numel() for v in states) <= 40 + 30 + 2 * 30


@pytest.mark.parametrize("shape", [(7, 5), (1, 9), (9, 1), (40, 30), (6, 4, 3)])
def test_blocks_of_rows_move_as_the_librarys_adafactor_moves_the_whole(monkeypatch, shape):
    monkeypatch.setattr(adafactor, "BLOCK", 16)
    rng = torch.Generator().manual_seed(len(shape) * shape[0])
    begin = torch.randn(shape, generator=rng)
    ours, theirs = (torch.nn.Parameter(begin.to(kind)) for kind in (torch.float32, torch.float64))
    how = {"lr": 1e-2, "weight_decay": 0.1, "scale_parameter": False, "relative_step": False}
    both = adafactor.BlockwiseAdafactor([ours], **how), Adafactor([theirs], **how)
    for size in (1.0, 1e-3, 5.0, 0.0, 2.0):
        slope = size * torch.randn(shape, generator=rng)
        for weight, optimizer in zip((ours, theirs), both, strict=True):
            weight.grad = slope.to(weight.dtype)
            optimizer.step()
        assert torch.equal(ours.grad, slope)
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-6)


def test_a_training_with_adafactor_goes_on_from_its_checkpoint_as_if_undisturbed(tmp_path):
    x, target = torch.randn(64, 40), torch.randn(64, 30)

    def steps(model, optimizer, schedule, count):
        for _ in range(count):
            (model(x) - target).square().mean().backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

    def fresh():
        torch.manual_seed(0)
        model = torch.nn.Linear(40, 30)
        optimizer = make_optimizer(model, 1e-2, 0.01, 0.01, "adafactor")
        return model, optimizer, make_schedule(optimizer, 1e-2, 2, 10)

    whole = fresh()
    steps(*whole, 20)
    first = fresh()
    steps(*first, 10)
    CheckpointManager(tmp_path, "p").save_last(*first, TrainingState(epoch=1))
    second = fresh()
    assert CheckpointManager(tmp_path, "p").load_last(*second).epoch == 1
    steps(*second, 10)
    assert torch.equal(whole[0].weight, second[0].weight)


@pytest.mark.parametrize("fused", [False, True])
def test_loaded_moments_lie_in_memory_as_their_parameters(tmp_path, fused):
    model = torch.nn.Conv2d(8, 4, 3).to(memory_format=torch.channels_last)
    states = []
    for folder in ("written", "read"):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
        schedule = make_schedule(optimizer, 1e-3, 2, 2)
        states.append((model, optimizer, schedule))
        if folder == "written":
            model(torch.ones(1, 8, 5, 5)).sum().backward()
            optimizer.step()
            CheckpointManager(tmp_path, "p").save_last(*states[0], TrainingState(epoch=1))
    assert CheckpointManager(tmp_path, "p").load_last(*states[1]).epoch == 1
    for name in ("exp_avg", "exp_avg_sq"):
        written, read = (state[1].state[model.weight][name] for state in states)
        assert torch.equal(written, read)
        assert read.stride() == model.weight.stride() != read.contiguous().stride()
