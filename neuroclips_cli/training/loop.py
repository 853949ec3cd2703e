"""The training loop of one phase, on Accelerate.

Read from top to bottom: samples in this epoch's order, one optimizer step per batch, validation,
best and last checkpoint, one line of figures. Everything random in an epoch follows from
``(seed, phase, epoch, step)``; a killed run continues from its last checkpoint and ends, on the
CPU, with the weights of an undisturbed one (on CUDA sums are not taken in one order). Several
processes take every step together (see :mod:`neuroclips_cli.training.batch_sharding`); the first
one writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from neuroclips_cli.errors import UserError
from neuroclips_cli.runtime import distributed
from neuroclips_cli.runtime.precision import BFLOAT16
from neuroclips_cli.settings.schema import TrainingSettings
from neuroclips_cli.training.async_metrics import DeferredMetrics
from neuroclips_cli.training.batch_sharding import BatchShard, share_dropout
from neuroclips_cli.training.batches import BatchLoader, SampleBatch
from neuroclips_cli.training.checkpoints import CheckpointManager, TrainingState, seed_torch
from neuroclips_cli.training.grad_cache import (
    MicroBatchShard,
    grad_cache_backward,
    num_micro_batches,
)
from neuroclips_cli.training.memory import memory_used
from neuroclips_cli.training.metric_logger import MetricLogger
from neuroclips_cli.training.objectives import Objective
from neuroclips_cli.training.optimizer import make_optimizer, make_schedule
from neuroclips_cli.training.pool import Samples
from neuroclips_cli.training.samples import SeededOrder, derived_seed

if TYPE_CHECKING:
    from accelerate import Accelerator

Advance = Callable[..., None]


@dataclass(frozen=True)
class PhaseConfig:
    """What a phase needs to know beside its model and data.

    Attributes
    ----------
    phase : str
        Name in checkpoints and figures.
    epochs, batch_size, checkpoint_every : int
        ``checkpoint_every`` in epochs.
    learning_rate, weight_decay, ridge_weight_decay : float
        Of AdamW; the rate is the peak of the cycle.
    seed : int
        Of the run.
    optimizer, subject_optimizer : str
        See :func:`make_optimizer`.
    micro_batch_size : int
        Rows of a batch that go through the network together, 0 for all; the step is the same.
    """

    phase: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    ridge_weight_decay: float
    checkpoint_every: int
    seed: int
    optimizer: str = "adamw"
    subject_optimizer: str = "adamw"
    micro_batch_size: int = 0

    @classmethod
    def of(
        cls, options: TrainingSettings, phase: str, epochs: int, batch_size: int, seed: int
    ) -> PhaseConfig:
        """Return a phase of a reconstructor's training as its settings ask for it."""
        return cls(
            phase=phase,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            ridge_weight_decay=options.ridge_weight_decay,
            checkpoint_every=options.checkpoint_every,
            seed=seed,
            optimizer=options.optimizer,
            subject_optimizer=options.subject_optimizer,
            micro_batch_size=options.micro_batch_size,
        )

    def steps(self, samples: int) -> int:
        """Return the optimizer steps of one epoch; an incomplete last batch is left out."""
        return max(samples // self.batch_size, 1)


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Accelerate's entry point.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    precision : str
        ``bfloat16`` (under autocast) or ``float32``.
    """
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs

    distributed.init_process_group()
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision="bf16" if precision == BFLOAT16 else "no",
        # A step takes one batch however many processes share it, so the schedule moves by one.
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        # The released trunk has blocks that never reach its output; they are the same every step.
        kwargs_handlers=[DistributedDataParallelKwargs(static_graph=True)],
    )


def train_phase(
    objective: Objective,
    model: nn.Module,
    samples: Samples,
    validate: Callable[[], dict[str, float]],
    phase_config: PhaseConfig,
    *,
    accelerator: Accelerator,
    checkpoints: CheckpointManager,
    metric_logger: MetricLogger,
    advance: Advance | None = None,
) -> TrainingState:
    """Train one phase and leave the best weights in ``model``.

    Parameters
    ----------
    objective : Objective
        Contains ``model``.
    model : nn.Module
        What is checkpointed.
    samples : ClipSamples or PooledSamples
        Training samples.
    validate : callable
        Figures on held-out segments; the smallest ``loss`` decides which weights are best.
    phase_config : Plan
        Length, rates, seed.
    accelerator, checkpoints, journal
        Where it runs and where it is written down.
    advance : callable, optional
        ``advance(steps, loss=..)`` after each step, and at once for steps already done.

    Raises
    ------
    UserError
        If the loss is no longer finite; the last checkpoint stays.
    """
    size = min(phase_config.batch_size, len(samples))
    order = samples.order(phase_config.seed, phase_config.phase, size)
    _require_rows(size, phase_config)
    loader = _whole_batches(samples, size, order, accelerator)
    optimizer: Any = make_optimizer(
        objective,
        phase_config.learning_rate,
        phase_config.weight_decay,
        phase_config.ridge_weight_decay,
        phase_config.optimizer,
        of_subjects=phase_config.subject_optimizer,
        fused=accelerator.device.type == "cuda",
    )
    objective.seed = derived_seed(phase_config.seed, phase_config.phase)
    schedule: Any = make_schedule(
        optimizer, phase_config.learning_rate, phase_config.epochs, len(loader)
    )
    steps = len(loader)
    pieces = num_micro_batches(size, phase_config.micro_batch_size)
    if pieces > 1:
        objective.share = MicroBatchShard(pieces)
    share_dropout(objective, objective.share)
    prepared, optimizer, schedule = accelerator.prepare(objective, optimizer, schedule)
    progress = checkpoints.load_last(model, optimizer, schedule)
    if accelerator.is_main_process:
        metric_logger.truncate(phase_config.phase, progress.epoch)
    if advance is not None and progress.epoch:
        advance(progress.epoch * steps)
    try:
        for epoch in range(progress.epoch, phase_config.epochs):
            began = time.monotonic()
            order.epoch = objective.epoch = epoch
            seed_torch(derived_seed(phase_config.seed, phase_config.phase, epoch))
            check = partial(_refuse_nan, phase_config=phase_config, epoch=epoch)
            take = partial(_gradients, prepared, objective.share, accelerator)
            batches = _numbered(objective, loader)
            figures = _one_epoch(prepared, take, batches, optimizer, schedule, check, advance)
            prepared.eval()
            with accelerator.autocast():  # the function that is trained, not another one
                held_out = validate()
            check({"validation loss": held_out["loss"]})
            prepared.train()
            _note_best(progress, held_out, epoch + 1, checkpoints, model, accelerator)
            figures |= {f"val_{name}": value for name, value in held_out.items()}
            figures |= {"lr": schedule.get_last_lr()[0], "seconds": time.monotonic() - began}
            if accelerator.is_main_process:
                metric_logger.write(
                    phase_config.phase, epoch + 1, {k: round(v, 8) for k, v in figures.items()}
                )
                if (
                    epoch + 1
                ) % phase_config.checkpoint_every == 0 or epoch + 1 == phase_config.epochs:
                    checkpoints.save_last(model, optimizer, schedule, progress)
    finally:
        checkpoints.wait()
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    checkpoints.load_best(model)
    return progress


def _require_rows(size: int, phase_config: PhaseConfig) -> None:
    """Refuse more processes than rows in a batch."""
    if size < distributed.world_size():
        raise UserError(
            f"{distributed.world_size()} processes cannot share batches of {size} clips in the "
            f"{phase_config.phase} phase: start fewer, or raise its batch size"
        )
    if distributed.world_size() > 1 and phase_config.micro_batch_size:
        raise UserError(
            "micro_batch_size cuts the batches of one process, and several share them already: set "
            "it to 0, or start one process"
        )


def _whole_batches(
    samples: Samples, size: int, order: SeededOrder, accelerator: Accelerator
) -> BatchLoader:
    """Return a loader of whole batches on the device, the same ones in every process."""
    return BatchLoader(samples, size, order, accelerator.device)


def _numbered(objective: Objective, loader: BatchLoader) -> Iterator[SampleBatch]:
    """Yield the batches of an epoch, and let the objective know which one it is."""
    for objective.step, batch in enumerate(loader):
        yield batch


def _gradients(
    objective: nn.Module,
    share: BatchShard,
    accelerator: Accelerator,
    batch: SampleBatch,
) -> dict[str, torch.Tensor]:
    """Send a batch forth and back; return its losses."""

    def forward() -> dict[str, torch.Tensor]:
        with accelerator.autocast():
            losses: dict[str, torch.Tensor] = objective(batch)
        return losses

    def backward(loss: torch.Tensor) -> None:
        # The processes' gradients are averaged, and each holds its own rows' part of the sum.
        accelerator.backward(loss * accelerator.num_processes)

    if isinstance(share, MicroBatchShard):
        return grad_cache_backward(forward, backward, share)
    losses = forward()
    backward(losses["loss"])
    return losses


def _one_epoch(
    objective: nn.Module,
    take: Callable[[SampleBatch], dict[str, torch.Tensor]],
    loader: Any,
    optimizer: Any,
    schedule: Any,
    check: Callable[[dict[str, float]], None],
    advance: Advance | None,
) -> dict[str, float]:
    """Train on every batch once; return the mean losses.

    ``take`` adds a batch's gradients to the weights' and returns its losses.
    ``check`` sees the loss and the size of its gradient one step later, and all of them before
    anything is written.
    """
    objective.train()
    sums: dict[str, torch.Tensor] = {}
    late = DeferredMetrics()
    batches, total = 0, 0.0
    for batch in loader:
        losses = take(batch)
        size = _gradient_size(objective).to(losses["loss"].device)
        late.add(torch.stack([losses["loss"].detach().float(), size.float()]))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        batches += 1
        for name, value in losses.items():
            sums[name] = sums.get(name, torch.zeros_like(value.detach())) + value.detach()
        shown: dict[str, float] = {}
        if (before := late.before()) is not None:
            check({"loss": before[0], "gradient": before[1]})
            total += before[0]
            shown["loss"] = total / (batches - 1)
        if advance is not None:
            advance(1, **shown, memory=memory_used(losses["loss"].device))
    if (last := late.last()) is not None:
        check({"loss": last[0], "gradient": last[1]})
    return {name: value.item() / batches for name, value in sums.items()}


def _gradient_size(objective: nn.Module) -> torch.Tensor:
    """Return the Euclidean norm of all gradients; not finite when any of them is not."""
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def _refuse_nan(figures: dict[str, float], phase_config: PhaseConfig, epoch: int) -> None:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise UserError(
                f"the {phase_config.phase} {name} is no longer a number in epoch {epoch + 1}: "
                f"lower its learning rate (now {phase_config.learning_rate:g}) and run again; "
                "the last good "
                "checkpoint is kept until then"
            )


def _note_best(
    progress: TrainingState,
    held_out: dict[str, float],
    epoch: int,
    checkpoints: CheckpointManager,
    model: nn.Module,
    accelerator: Accelerator,
) -> None:
    """Keep the weights if the validation loss is the smallest so far."""
    progress.epoch = epoch
    if held_out["loss"] < progress.best_loss or not progress.best_epoch:
        progress.best_epoch, progress.best_loss = epoch, held_out["loss"]
        progress.best_metrics = dict(held_out)
        if accelerator.is_main_process:
            checkpoints.save_best(model)
