"""One loop for every backbone: AdamW, OneCycle, an exponential average of the weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def fit(
    name: str,
    model: nn.Module,
    batches: Iterable[Any],
    loss_of: Callable[[Any], Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.01,
    average: float = 0.995,
) -> nn.Module:
    """Train a model and leave the averaged weights in it.

    Parameters
    ----------
    name : str
        Shown in the log.
    model : torch.nn.Module
        Trained in place; parameters with ``requires_grad=False`` stay as they are.
    batches : iterable
        One item per step.
    loss_of : callable
        Turns an item into a scalar loss.
    steps : int
        Length of the OneCycle schedule.
    learning_rate : float
        Its peak.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=steps + 1, pct_start=0.1, final_div_factor=100
    )
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(average))
    model.train()
    began, running = time.time(), 0.0
    for step, batch in enumerate(batches, start=1):
        loss = loss_of(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        averaged.update_parameters(model)
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0 or step == steps:
            pace = (time.time() - began) / step
            print(f"{name} {step}/{steps} loss {running:.4f} {pace * 1e3:.0f} ms/step", flush=True)
    model.load_state_dict(averaged.module.state_dict())
    return model.eval()
