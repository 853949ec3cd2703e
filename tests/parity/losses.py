"""Records of the losses, the mixing, and the one-cycle schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neuroclips_cli.losses import (
    Mix,
    bimixco_loss,
    info_nce,
    mix_rows,
    soft_clip_loss,
    soft_contrastive_loss,
)
from neuroclips_cli.losses.contrastive import annealed_temperature
from neuroclips_cli.metrics.retrieval import cosine_matrix, hits, ranks
from neuroclips_cli.training.optimizer import make_optimizer, make_schedule
from parity.records import Comparison, record, tensors

_TOLERANCE, _SHARP = 1e-5, 1e-4


def compare() -> Comparison:
    """Compare the arrays of losses.safetensors: gradients, mixing, similarities, schedules."""
    arrays = tensors("models/losses.safetensors")
    found = Comparison("losses", arrays)
    for array in [n for n in arrays if n.startswith("grad.")]:
        name = array.removeprefix("grad.")
        predictions = arrays[f"in.preds{_suffix(name)}"].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(_loss(name, arrays, predictions), predictions)
        found.add(array, gradient, _TOLERANCE, relative=_SHARP)
    for letter in ("a", "b"):
        mix = _mix(arrays, letter)
        mixed = mix_rows(arrays[f"mixco_{letter}.in_voxels"], mix)
        found.add(f"mixco_{letter}.out_voxels", mixed, _TOLERANCE)
    _similarities(arrays, found)
    _schedules(arrays, found)
    return found


def compare_scalars() -> Comparison:
    """Compare the scalars of losses.json."""
    arrays = tensors("models/losses.safetensors")
    scalars = record("models/losses.json")["scalars"]
    found = Comparison("losses (scalars)", scalars)
    similarity = cosine_matrix(arrays["in.preds"].numpy(), arrays["in.targets"].numpy())
    for name in scalars:
        if name.startswith("topk."):
            # The original's matrix has a row per second argument: its first argument is searched.
            matrix = similarity.T if "pred_to_target" in name else similarity
            every = torch.arange(len(matrix))[None].numpy()
            best = ranks(matrix, every)[0]
            ours: Any = hits(best, int(name.rsplit("k", 1)[1])).mean()
        else:
            ours = _loss(name, arrays, arrays[f"in.preds{_suffix(name)}"])
        found.add(name, ours, _TOLERANCE, relative=_SHARP if "0.00" in name else 0.0)
    return found


def _suffix(name: str) -> str:
    return "_tight" if "tight" in name else "_raw" if "raw" in name else ""


def _mix(arrays: Mapping[str, Tensor], letter: str) -> Mix:
    return Mix(
        arrays[f"mixco_{letter}.perm"],
        arrays[f"mixco_{letter}.betas_returned"],
        arrays[f"mixco_{letter}.select"],
    )


def _loss(name: str, arrays: Mapping[str, Tensor], predictions: Tensor) -> Tensor:
    """Our value of a recorded scalar from its name."""
    kind, rest = name.split(".", 1)
    temperature = float(name.rsplit("temp_", 1)[1])
    targets = arrays[f"in.targets{_suffix(name)}"]
    both = "onedir" not in name
    if kind == "soft_clip_loss":
        return soft_clip_loss(predictions, targets, temperature)
    if kind == "soft_cont_loss":
        views = arrays[f"in.targets_aug{_suffix(name)}"]
        return soft_contrastive_loss(predictions, targets, views, temperature)
    if "nomix" in rest:
        return info_nce(predictions, targets, temperature, bidirectional=both)
    mix = _mix(arrays, "a" if "mix_a" in rest else "b")
    return bimixco_loss(predictions, targets, temperature, mix, bidirectional=both)


def _similarities(arrays: Mapping[str, Tensor], found: Comparison) -> None:
    predictions, targets = arrays["in.preds"].numpy(), arrays["in.targets"].numpy()
    ours = cosine_matrix(targets, predictions)
    found.add("batchwise_cosine_similarity", ours, _TOLERANCE)
    a, b = arrays["pearson.in_a"], arrays["pearson.in_b"]
    centered = [(x - x.mean(dim=1, keepdim=True)).numpy() for x in (a, b)]
    found.add("pearson.out", cosine_matrix(*centered), _TOLERANCE)


def _schedules(arrays: Mapping[str, Tensor], found: Comparison) -> None:
    for array in [n for n in arrays if n.startswith("cosine_anneal.")]:
        steps = int(array.removeprefix("cosine_anneal."))
        ours = [annealed_temperature(0.004, 0.0075, step, steps) for step in range(steps)]
        found.add(array, ours, 1e-8)
    config = record("models/losses.json")["config"]
    epochs, steps = config["sched_epochs"], config["sched_iters"]
    optimizer = make_optimizer(torch.nn.Linear(2, 2), 3e-4, 0.01, 0.01)
    schedule = make_schedule(optimizer, 3e-4, epochs, steps)
    rates, momenta = [], []
    for _ in range(epochs * steps):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        schedule.step()
    found.add("onecycle.lr", rates, 1e-9)
    found.add("onecycle.beta1", momenta, 1e-9)
