"""Losses against numbers recorded from the released code (fixtures/models/losses)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neuroclips_cli.losses import (
    Mix,
    bimixco_loss,
    info_nce,
    mix_rows,
    soft_clip_loss,
    soft_contrastive_loss,
)
from neuroclips_cli.losses.mixco import mix_targets

pytestmark = pytest.mark.oracle

FOLDER = (
    Path(os.environ.get("NEUROCLIPS_FIXTURES", Path(__file__).parents[2] / "shared/fixtures"))
    / "models"
)


@pytest.fixture(scope="module")
def recorded():
    if not (FOLDER / "losses.json").exists():
        pytest.skip(f"recorded losses not found in {FOLDER}")
    scalars = json.loads((FOLDER / "losses.json").read_text())["scalars"]
    return scalars, load_file(FOLDER / "losses.safetensors")


def _mix(arrays, name):
    return Mix(
        arrays[f"mixco_{name}.perm"],
        arrays[f"mixco_{name}.betas_returned"],
        arrays[f"mixco_{name}.select"],
    )


def _compute(name, arrays, predictions):
    kind, *rest = name.split(".", 1)
    temperature = float(name.rsplit("temp_", 1)[1])
    suffix = "_tight" if "tight" in name else "_raw" if "raw" in name else ""
    targets = arrays[f"in.targets{suffix}"]
    both = "onedir" not in name
    if kind == "soft_clip_loss":
        return soft_clip_loss(predictions, targets, temperature)
    if kind == "soft_cont_loss":
        views = arrays[f"in.targets_aug{suffix}"]
        return soft_contrastive_loss(predictions, targets, views, temperature)
    if "nomix" in rest[0]:
        return info_nce(predictions, targets, temperature, bidirectional=both)
    mix = _mix(arrays, "a" if "mix_a" in rest[0] else "b")
    return bimixco_loss(predictions, targets, temperature, mix, bidirectional=both)


def test_every_recorded_loss_and_gradient_is_reproduced(recorded):
    scalars, arrays = recorded
    names = [n for n in scalars if not n.startswith("topk")]
    assert names
    for name in names:
        suffix = "_tight" if "tight" in name else "_raw" if "raw" in name else ""
        predictions = arrays[f"in.preds{suffix}"].clone().requires_grad_()
        loss = _compute(name, arrays, predictions)
        assert loss.item() == pytest.approx(scalars[name], rel=1e-5, abs=1e-6), name
        (gradient,) = torch.autograd.grad(loss, predictions)
        if f"grad.{name}" in arrays:
            torch.testing.assert_close(gradient, arrays[f"grad.{name}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["a", "b"])
def test_mixing_gives_the_recorded_voxels(recorded, name):
    _, arrays = recorded
    mixed = mix_rows(arrays[f"mixco_{name}.in_voxels"], _mix(arrays, name))
    torch.testing.assert_close(mixed, arrays[f"mixco_{name}.out_voxels"], rtol=0, atol=1e-6)


def test_own_partner_rows_keep_the_originals_convention(recorded):
    _, arrays = recorded
    mix = _mix(arrays, "b")
    matrix = mix_targets(mix)
    assert matrix[1, 1] == 1 - mix.coefficient[1]
    assert matrix[4].sum() == 0
