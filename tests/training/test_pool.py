"""Training of several subjects: batches, one step by its equations, restarts, processes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import model_sizes, pooled_training
from safetensors.torch import load_file
from torch import Tensor

from neuroclips_cli.errors import UserError
from neuroclips_cli.losses import Mix
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.models.subject_scans import SubjectScans
from neuroclips_cli.training import objectives
from neuroclips_cli.training.objectives import ContrastiveObjective
from neuroclips_cli.training.optimizer import make_optimizer
from neuroclips_cli.training.pool import PooledOrder, PooledSamples, part_sizes
from neuroclips_cli.training.samples import ClipSamples

SIZES = replace(
    model_sizes.SR,
    hidden=6,
    prior_heads=1,
    prior_head_dim=4,
    prior_sampling_steps=2,
    prior_samples=1,
    prior_drop_probability=0.0,
    token_pca_rank=0,
)
TOKENS, DIM, TAU, RATE = 2, 4, 0.1, 0.01
PARTNERS = {0: [1, 2, 0], 1: [1, 0]}
COEFFICIENTS = {0: [0.7, 1.0, 0.4], 1: [1.0, 0.2]}


def _norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    centered = x - x.mean(-1, keepdim=True)
    return centered / (centered.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * gain + bias


def _gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def _loss_by_equations(w: dict[str, Tensor], scans: list[Tensor], tokens: Tensor) -> Tensor:
    """Eq. 3 per subject, the trunk and the projector of B.2, Eqs. 7 and 8, row by row."""
    rows, weights = [], torch.zeros(5, 5)
    begin = 0
    for subject, own in enumerate(scans):
        for row, (partner, share) in enumerate(
            zip(PARTNERS[subject], COEFFICIENTS[subject], strict=True)
        ):
            mixed = share * own[row] + (1 - share) * own[partner]
            rows.append(
                w[f"ridge.linears.{subject}.weight"] @ mixed + w[f"ridge.linears.{subject}.bias"]
            )
            weights[begin + row, begin + row] += share
            weights[begin + row, begin + partner] += 1 - share
        begin += len(own)
    x = torch.stack(rows)
    block = "backbone.blocks.0."
    inner = _norm(x, w[block + "0.weight"], w[block + "0.bias"])
    inner = _gelu(inner @ w[block + "1.weight"].T + w[block + "1.bias"])
    x = x + inner @ w[block + "4.weight"].T + w[block + "4.bias"]
    x = x @ w["backbone.backbone_linear.weight"].T + w["backbone.backbone_linear.bias"]
    x = x.reshape(5, TOKENS, DIM)
    for layer in (0, 3, 6):
        name = "backbone.clip_proj."
        x = _gelu(_norm(x, w[f"{name}{layer}.weight"], w[f"{name}{layer}.bias"]))
        x = x @ w[f"{name}{layer + 2}.weight"].T + w[f"{name}{layer + 2}.bias"]
    predicted, shown = x.reshape(5, -1), tokens.reshape(5, -1)
    predicted = predicted / predicted.norm(dim=1, keepdim=True)
    shown = shown / shown.norm(dim=1, keepdim=True)
    similarity = predicted @ shown.T / TAU
    forth = -(weights * (similarity - similarity.logsumexp(1, keepdim=True))).sum() / 5
    back = -(weights * (similarity - similarity.logsumexp(0, keepdim=True))).sum() / 5
    return (forth + back) / 2


def _known_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter((0, 1))

    def draw(batch: int, beta: float, device: torch.device) -> Mix:
        subject = next(asked)
        assert batch == len(PARTNERS[subject])
        share = torch.tensor(COEFFICIENTS[subject])
        return Mix(torch.tensor(PARTNERS[subject]), share, share < 1)

    monkeypatch.setattr(objectives, "draw_mix", draw)


def test_one_step_of_two_subjects_follows_the_equations(monkeypatch):
    torch.manual_seed(0)
    model = Semantics([5, 3], SIZES, TOKENS, DIM)
    model.diffusion_prior.requires_grad_(False)
    scans = [torch.randn(3, 5), torch.randn(2, 3)]
    tokens = torch.randn(5, TOKENS, DIM)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    leaves = {
        name: start[name].clone().requires_grad_()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    wanted = _loss_by_equations(leaves, scans, tokens)
    wanted.backward()

    _known_mix(monkeypatch)
    objective = ContrastiveObjective(model, model, TAU, 0.15)
    optimizer = make_optimizer(objective, RATE, 0.02, 0.05)
    loss = objective({"fmri": SubjectScans(tuple(scans)), "tokens": tokens})["loss"]
    loss.backward()
    optimizer.step()

    torch.testing.assert_close(loss.detach(), wanted.detach(), rtol=1e-5, atol=1e-6)
    for name, value in model.state_dict().items():
        if name not in leaves:
            assert torch.equal(value, start[name]), name
            continue
        # The first step of AdamW: both moments divided by their bias correction are the gradient.
        slope = leaves[name].grad
        decay = 0.0 if value.ndim < 2 else 0.05 if name.startswith("ridge.") else 0.02
        moved = start[name] * (1 - RATE * decay) - RATE * slope / (slope.abs() + 1e-8)
        sure = slope.abs() > 1e-5  # where the slope is rounding noise its sign is, too
        torch.testing.assert_close(value[sure], moved[sure], rtol=1e-4, atol=1e-5, msg=name)


def test_first_layers_of_a_pool_move_by_adafactors_equations_and_all_else_by_adamws():
    """Adafactor's first step (Algorithm 4): its second moment is made of the gradient alone."""
    torch.manual_seed(2)
    model = Semantics([5, 3], SIZES, TOKENS, DIM)
    model.diffusion_prior.requires_grad_(False)
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in learned.items()}
    optimizer = make_optimizer(model, RATE, 0.02, 0.05, of_subjects="adafactor")
    for parameter in learned.values():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for name, parameter in learned.items():
        slope = parameter.grad
        decay = 0.0 if parameter.ndim < 2 else 0.05 if name.startswith("ridge.") else 0.02
        update = slope / (slope.abs() + 1e-8)
        kept = {"step", "exp_avg", "exp_avg_sq"}
        if name.startswith("ridge.") and parameter.ndim == 2:
            square = slope**2
            moment = square.mean(1, keepdim=True) * square.mean(0) / square.mean()
            update = slope / moment.sqrt()
            update = update / update.pow(2).mean().sqrt().clamp(min=1)
            kept = {"step", "exp_avg_sq_row", "exp_avg_sq_col"}
        moved = before[name] * (1 - RATE * decay) - RATE * update
        torch.testing.assert_close(parameter.detach(), moved, rtol=1e-5, atol=1e-6, msg=name)
        assert set(optimizer.state[parameter]) == kept, name


def test_one_subjects_first_layer_is_adamws():
    model = Semantics(5, SIZES, TOKENS, DIM)
    assert type(make_optimizer(model, RATE, 0.0, 0.0, of_subjects="adafactor")) is torch.optim.AdamW


def test_no_row_of_another_subject_moves_a_subjects_own_layer():
    torch.manual_seed(1)
    model = Semantics([5, 3], SIZES, TOKENS, DIM)
    scans = SubjectScans((torch.randn(8, 5), torch.zeros(0, 3)))
    objective = ContrastiveObjective(model, model, TAU, 0.15)
    objective({"fmri": scans, "tokens": torch.randn(8, TOKENS, DIM)})["loss"].backward()
    first, second = (layer.weight.grad for layer in model.ridge.linears)
    assert first.abs().sum() > 0
    assert second is not None and not second.any()


def _largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Compare weights, but for the attention's biases.

    That of the keys changes nothing, so that AdamW steps along the rounding noise of its gradient.
    """
    names = [name for name in one if not name.endswith("to_qkv.bias")]
    return max(float((one[name] - other[name]).abs().max()) for name in names)


def test_a_batch_in_pieces_ends_with_the_weights_of_whole_batches(tmp_path):
    whole = pooled_training.train(tmp_path / "whole").state_dict()
    pieces = pooled_training.train(tmp_path / "pieces", micro_batch_size=3).state_dict()
    assert _largest_difference(whole, pieces) < 5e-5


def test_an_interrupted_pooled_training_goes_on_bit_for_bit(tmp_path):
    whole = pooled_training.train(tmp_path / "whole").state_dict()
    with pytest.raises(KeyboardInterrupt):
        pooled_training.train(tmp_path / "cut", stop_after=2)
    resumed = pooled_training.train(tmp_path / "cut").state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_two_processes_end_with_the_weights_of_one(tmp_path):
    one = pooled_training.train(tmp_path / "one").state_dict()
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", pooled_training.__file__, str(tmp_path / "two")]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    two = load_file(tmp_path / "two" / "trained.safetensors")
    assert _largest_difference(one, two) < 5e-5


@pytest.mark.parametrize("case", range(40))
def test_every_subject_has_its_part_of_every_batch_and_is_seen_evenly(case):
    rng = np.random.default_rng(case)
    lengths = rng.integers(1, 40, rng.integers(2, 5)).tolist()
    size = int(rng.integers(len(lengths), 30))
    order = PooledOrder(lengths, size, seed=case, phase="x")
    begins = np.cumsum([0, *lengths])
    seen = np.zeros(begins[-1], int)
    batches = []
    for order.epoch in range(3):
        numbers = np.array(list(order))
        assert len(numbers) == len(order) == max(sum(lengths) // size, 1) * size
        batches += numbers.reshape(-1, size).tolist()
    for batch in batches:
        subject = np.searchsorted(begins, batch, side="right") - 1
        assert np.bincount(subject, minlength=len(lengths)).tolist() == part_sizes(
            size, len(lengths)
        )
        np.add.at(seen, batch, 1)
    for begin, end in zip(begins[:-1], begins[1:], strict=True):
        assert np.ptp(seen[begin:end]) <= 1
    order.epoch = 2
    assert list(order) == np.array(batches[-len(order) // size :]).ravel().tolist()


def test_rows_of_a_batch_are_the_samples_asked_for():
    fmri = [np.arange(8, dtype=np.float32).reshape(4, 2, 1), np.full((3, 2, 2), 9, np.float32)]
    parts = [
        ClipSamples(own, np.arange(len(own)), {"clip": np.arange(len(own)) + 10.0 * place})
        for place, own in enumerate(fmri)
    ]
    samples = PooledSamples(parts)
    batch = samples.batch([7, 0, 8, 13])
    assert batch["fmri"].parts[0].ravel().tolist() == [7.0, 0.0]
    assert batch["fmri"].sizes == (2, 2)
    assert batch["clip"].tolist() == [3.0, 0.0, 10.0, 12.0]
    with pytest.raises(UserError, match="holds no part of each of 2 subjects"):
        samples.order(0, "x", 1)
