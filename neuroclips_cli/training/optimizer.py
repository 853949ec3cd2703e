"""AdamW with its parameter groups, and the one-cycle schedule (paper A, MindEye2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from neuroclips_cli.models.backbone import RidgeRegression
from neuroclips_cli.models.subject_scans import SubjectLayers

ADAMW, ADAFACTOR = "adamw", "adafactor"


class CombinedOptimizer(Optimizer):
    """Several optimizers, each of its own weights, as one.

    Parameters
    ----------
    parts : torch.optim.Optimizer
        The first one's defaults, such as the momentum that a schedule moves, are in all groups.
    """

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        groups = [group for part in parts for group in part.param_groups]
        super().__init__(groups, parts[0].defaults)
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore moments and groups, of which loading makes new ones."""
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        groups = iter(self.param_groups)
        for part in self.parts:
            part.state = self.state
            part.param_groups = [next(groups) for _ in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Let every part take its step; the gradients are there already."""
        for part in self.parts:
            part.step()


def make_optimizer(
    module: nn.Module,
    learning_rate: float,
    weight_decay: float,
    ridge_weight_decay: float,
    kind: str = ADAMW,
    *,
    of_subjects: str = ADAMW,
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
    of_subjects : str
        The same of the matrices of several subjects' first layers, where ``kind`` is ``adamw``.
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
    factored = _matrices_of_subjects(module) if of_subjects == ADAFACTOR else set()
    if kind == ADAFACTOR:
        return _adafactor(_among(groups, lambda _: True), learning_rate)
    # One kernel for all weights instead of one for each of the formula's steps.
    others = _among(groups, lambda weight: id(weight) not in factored)
    adamw = AdamW(others, lr=learning_rate, fused=fused or None)
    if not factored:
        return adamw
    first = _among(groups, lambda weight: id(weight) in factored)
    return CombinedOptimizer(adamw, _adafactor(first, learning_rate))


def _adafactor(groups: list[dict[str, Any]], learning_rate: float) -> Optimizer:
    from neuroclips_cli.training.adafactor import BlockwiseAdafactor

    return BlockwiseAdafactor(groups, lr=learning_rate, scale_parameter=False, relative_step=False)


def _among(
    groups: list[dict[str, Any]], wanted: Callable[[nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """Return the groups with some of their weights; a group without any is left out."""
    some = [{**group, "params": list(filter(wanted, group["params"]))} for group in groups]
    return [group for group in some if group["params"]]


def _matrices_of_subjects(module: nn.Module) -> set[int]:
    """Return the identities of the matrices in the first layers of several subjects."""
    return {
        id(weight)
        for part in module.modules()
        if any(isinstance(own, SubjectLayers) and len(own) > 1 for own in part.children())
        for weight in part.parameters()
        if weight.requires_grad and weight.ndim > 1
    }


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
