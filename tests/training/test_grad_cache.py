"""A batch in pieces gives the gradient of the whole batch, and costs less memory."""

from __future__ import annotations

import pytest
import torch

from neuroclips_cli.memory_estimate.training import train_semantics
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.settings.load import load_settings, replace_settings
from neuroclips_cli.training.batch_sharding import share_dropout
from neuroclips_cli.training.grad_cache import (
    MicroBatchShard,
    grad_cache_backward,
    num_micro_batches,
)
from neuroclips_cli.training.objectives import ContrastiveObjective, PriorObjective

ROWS, VOXELS, TOKENS, DIM = 11, 12, 4, 8


def _objective(phase):
    settings = load_settings({"run.profile": "tiny", "semantics.dropout": 0.3}, environ={})
    torch.manual_seed(1)
    model = Semantics(VOXELS, settings.semantics, TOKENS, DIM)
    if phase == "contrastive":
        return ContrastiveObjective(model, model, 0.1, 0.15)
    projector = TokenProjector(torch.randn(DIM, 6))
    weights = {"temperature": 0.1, "mixco_beta": 0.15, "prior_weight": 2.0, "reftm_weight": 0.5}
    return PriorObjective(model, model, projector, **weights)


def _gradients(objective):
    named = objective.model.named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}


@pytest.mark.parametrize("phase", ["contrastive", "prior"])
@pytest.mark.parametrize("rows", [1, 4, 6])
def test_pieces_add_up_to_the_gradient_of_the_batch(phase, rows):
    batch = {
        "fmri": torch.randn(ROWS, VOXELS),
        "tokens": torch.randn(ROWS, TOKENS, DIM),
        "text": torch.randn(ROWS, 6),
    }
    whole = _objective(phase)
    torch.manual_seed(2)
    wanted = whole(batch)
    wanted["loss"].backward()
    after = torch.rand(3)
    cut = _objective(phase)
    share = cut.share = MicroBatchShard(num_micro_batches(ROWS, rows))
    share_dropout(cut, share)
    torch.manual_seed(2)
    made = grad_cache_backward(lambda: cut(batch), lambda loss: loss.backward(), share)
    assert torch.equal(torch.rand(3), after)
    for name, value in wanted.items():
        torch.testing.assert_close(made[name], value.detach())
    gradients, others = _gradients(whole), _gradients(cut)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        difference = (others[name] - gradient).abs().max()
        assert difference <= 1e-5 * gradient.abs().max().clamp(min=1e-2), name


def test_dropout_follows_the_share_of_the_next_phase():
    objective, rows = _objective("prior"), torch.randn(6, VOXELS)
    share_dropout(objective, MicroBatchShard(3))
    second = MicroBatchShard(1)
    share_dropout(objective, second)
    second.rows(6)
    torch.manual_seed(3)
    made = objective.model(rows)[1]
    plain = _objective("prior")
    torch.manual_seed(3)
    torch.testing.assert_close(made, plain.model(rows)[1])


def test_the_dry_run_counts_the_memory_of_a_piece():
    settings = load_settings({"run.profile": "compact"}, environ={})
    options = {"train_sr.activation_checkpointing": False, "train_sr.micro_batch_size": 16}
    peaks = [
        next(train_semantics(chosen, 2000, device="cpu", mixed=False)).peak  # contrastive phase
        for chosen in (settings, replace_settings(settings, options))
    ]
    assert peaks[1] < peaks[0]
    assert num_micro_batches(240, 0) == 1
