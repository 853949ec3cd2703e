"""Adafactor that goes over a matrix three times, block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.optimization import Adafactor

BLOCK, BLOCK_ON_GPU = 2**19, 2**23
"""Values of a block: what stays in a processor's cache; what is worth starting a kernel for."""


class BlockwiseAdafactor(Adafactor):
    """The library's Adafactor (Shazeer and Stern 2018, Algorithm 4), quicker with matrices.

    The library makes four arrays as large as the matrix and goes over them a dozen times. Here
    blocks of rows are read twice, for the squares' means and for the update's size, and changed
    once. It knows none of the options that are off in this package: relative steps, learning
    rates scaled by the weights, first moments. What is no matrix in float32 is left to the library.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Take a step; the gradients are there already."""
        done: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None or weight.ndim != 2 or weight.dtype != torch.float32:
                    continue
                _update(weight, weight.grad, self.state[weight], group)
                done.append((weight, weight.grad))
                weight.grad = None
        super().step()
        for weight, slope in done:
            weight.grad = slope


def _update(weight: Tensor, slope: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Move a matrix, (rows, columns), by its gradient and the means of the gradient's squares."""
    rows, columns = slope.shape
    if not state:
        state["step"] = 0
        state["exp_avg_sq_row"] = slope.new_zeros(rows)
        state["exp_avg_sq_col"] = slope.new_zeros(columns)
    state["step"] = int(state["step"]) + 1
    size = BLOCK if weight.device.type == "cpu" else BLOCK_ON_GPU
    height = max(size // columns, 1)
    blocks = slope.split(height)

    of_rows, of_columns = [], slope.new_zeros(columns)
    for block in blocks:
        squares = block.square()
        of_rows.append(squares.mean(dim=1))
        of_columns += squares.sum(dim=0)
    new = state["step"] ** group["decay_rate"]
    row, column, least = state["exp_avg_sq_row"], state["exp_avg_sq_col"], group["eps"][0]
    row.lerp_(torch.cat(of_rows).add_(least), new)
    column.lerp_(of_columns.div_(rows).add_(least), new)

    by_row, by_column = (row / row.mean()).rsqrt_(), column.rsqrt()
    squared, total = by_column.square(), slope.new_zeros(())
    for block, factor in zip(blocks, by_row.split(height), strict=True):
        total += block.square().mul_(squared).sum(dim=1).mul_(factor.square()).sum()
    clipped = (total.div_(slope.numel()).sqrt_() / group["clip_threshold"]).clamp_(min=1.0)

    by_row *= -group["lr"] / clipped
    kept = 1 - group["weight_decay"] * group["lr"]
    parts = zip(weight.split(height), blocks, by_row.split(height), strict=True)
    for part, block, factor in parts:
        part.mul_(kept).addcmul_(block * factor[:, None], by_column)
