"""AdamW with its parameter groups, and the one-cycle schedule (paper A, MindEye2)."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from neuroclips_cli.models.backbone import RidgeRegression


def make_optimizer(
    module: nn.Module,
    learning_rate: float,
    weight_decay: float,
    ridge_weight_decay: float,
    kind: str = "adamw",
    *,
    fused: bool = False,
) -> Optimizer:
    """AdamW or Adafactor over what learns in ``module``.

    Matrices and filters decay; biases, gains and mixing scalars do not; the ridge layer's
    weights have a decay of their own (Eq. 3's penalty).

    Parameters
    ----------
    module : nn.Module
        Parameters without gradient are left out.
    learning_rate : float
        Peak; the schedule sets the actual one.
    weight_decay, ridge_weight_decay : float
        Decoupled decay of matrices and of the ridge weights.
    kind : str
        ``adamw``, or ``adafactor``: no first moment, and of a matrix's second one only the means
        of its rows and columns, at the same learning rate.
    fused : bool
        AdamW in one kernel, for weights that will lie on a GPU.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, RidgeRegression)]
    of_ridge = {id(weight) for layer in layers for weight in layer.parameters()}
    ridge, matrices, rest = [], [], []
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            rest.append(parameter)
        elif id(parameter) in of_ridge:
            ridge.append(parameter)
        else:
            matrices.append(parameter)
    groups = [
        {"params": ridge, "weight_decay": ridge_weight_decay},
        {"params": matrices, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if kind == "adafactor":
        from transformers.optimization import Adafactor

        fixed: dict[str, Any] = {"scale_parameter": False, "relative_step": False}
        return Adafactor(groups, lr=learning_rate, **fixed)
    # One kernel for all weights instead of one for each of the formula's steps.
    return AdamW(groups, lr=learning_rate, fused=fused or None)


def make_schedule(
    optimizer: Optimizer, learning_rate: float, epochs: int, steps_per_epoch: int
) -> OneCycleLR:
    """One cycle over all steps: rise in the first two epochs, end at 1/1000 of the start.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rate and first momentum are moved.
    learning_rate : float
        Peak.
    epochs, steps_per_epoch : int
        Their product is the length of the cycle.
    """
    # torch divides by the length of either half: very short trainings need one step in each.
    total = max(epochs * steps_per_epoch, 3)
    return OneCycleLR(
        optimizer,
        max_lr=learning_rate,
        total_steps=total,
        pct_start=min(2 / epochs, 1 - 1 / total),
        final_div_factor=1000,
        cycle_momentum="betas" in optimizer.param_groups[0],
    )
