"""Checkpoints of one training phase: the last state to continue from, and the best weights.

A checkpoint is one safetensors file, so that it appears whole or not at all: weights, optimizer
moments, and everything else as JSON in the file's metadata. No pickle is involved.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.io.safetensors import load_state_dict_checked, read_metadata, read_tensors
from neuroclips_cli.training.background_writer import BackgroundWriter


@dataclass
class TrainingState:
    """How far a phase is.

    Attributes
    ----------
    epoch : int
        Epochs done.
    best_epoch : int
        Epoch (from 1) of the best weights, 0 before the first.
    best_loss : float
        Its validation loss.
    best_metrics : dict
        All of that epoch's validation figures.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    best_metrics: dict[str, float] = field(default_factory=dict)


def _snapshot(model: nn.Module) -> tuple[dict[str, Tensor], Callable[[], None]]:
    """Copy the weights as they are now, without making a GPU wait.

    Returns the copies on the CPU, and what to call before they are read.
    """
    state = model.state_dict()
    devices = {t.device for t in state.values() if t.is_cuda}
    if not devices:
        return cpu_state_dict(model), lambda: None
    copies = {
        name: torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True)
        for name, t in state.items()
    }
    # The copies run in the device's own order: before the step that changes the weights.
    events = [torch.cuda.current_stream(device).record_event() for device in devices]

    def arrived() -> None:
        for event in events:
            event.synchronize()

    return copies, arrived


def cpu_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Weights by name on the CPU, each with memory of its own (tied tensors are copied)."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }


class CheckpointManager:
    """The checkpoint files of one phase.

    Parameters
    ----------
    folder : Path
        Where they lie.
    phase : str
        First part of their names.
    """

    def __init__(self, folder: Path, phase: str) -> None:
        self.last = folder / f"{phase}-last.safetensors"
        self.best = folder / f"{phase}-best.safetensors"
        self._writer = BackgroundWriter()

    def save_best(self, model: nn.Module) -> None:
        """Write the weights as the best so far, while the training goes on.

        Raises
        ------
        UserError
            If the best ones before could not be written.
        """
        self.wait()
        copies, arrived = _snapshot(model)

        def write() -> None:
            arrived()
            with atomic.atomic_path(self.best) as temporary:
                save_file(copies, temporary)

        self._writer.submit(write)

    def wait(self) -> None:
        """Return when the best weights are on the disk; raises what kept them from it."""
        self._writer.wait()

    def load_best(self, model: nn.Module) -> None:
        """Put the best weights into the model."""
        self.wait()
        load_state_dict_checked(model, read_tensors(self.best), self.best)

    def save_last(
        self, model: nn.Module, optimizer: Any, schedule: Any, progress: TrainingState
    ) -> None:
        """Write everything that training needs to continue."""
        self.wait()  # it names the best epoch: the best weights have to be there before
        state = optimizer.state_dict()
        tensors = {f"model.{name}": tensor for name, tensor in cpu_state_dict(model).items()}
        for index, moments in state["state"].items():
            for name, tensor in moments.items():
                if tensor is None:  # of the moments, Adafactor keeps those that it uses
                    continue
                copy = torch.as_tensor(tensor).detach().to("cpu", copy=True).contiguous()
                tensors[f"optimizer.{index}.{name}"] = copy
        cycle = schedule.state_dict()
        record = {
            "progress": asdict(progress),
            "groups": state["param_groups"],
            "schedule": {key: cycle[key] for key in ("last_epoch", "_step_count", "_last_lr")},
        }
        with atomic.atomic_path(self.last) as temporary:
            save_file(tensors, temporary, metadata={"state": json.dumps(record)})

    def load_last(self, model: nn.Module, optimizer: Any, schedule: Any) -> TrainingState:
        """Restore the last state; a fresh :class:`TrainingState` where there is none."""
        if not self.last.exists():
            return TrainingState()
        tensors = read_tensors(self.last)
        record = self._record()
        weights = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
        load_state_dict_checked(model, weights, self.last)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                moments.setdefault(int(index), {})[name] = tensor
        for group in record["groups"]:
            if "betas" in group:
                group["betas"] = tuple(group["betas"])
        optimizer.load_state_dict({"state": moments, "param_groups": record["groups"]})
        _match_strides(optimizer)
        schedule.load_state_dict(record["schedule"])
        return TrainingState(**record["progress"])

    def progress(self) -> TrainingState:
        """How far the phase is on disk, without loading weights."""
        return (
            TrainingState(**self._record()["progress"]) if self.last.exists() else TrainingState()
        )

    def _record(self) -> dict[str, Any]:
        record = read_metadata(self.last).get("state")
        if not isinstance(record, dict) or not {"progress", "groups", "schedule"} <= set(record):
            raise UserError(
                f"{self.last} is not a checkpoint of a training: remove it and train again"
            )
        return record


def _match_strides(optimizer: Any) -> None:
    """Lay the loaded moments out in memory as their parameters: AdamW's one kernel insists on it.

    A file holds rows in order, a convolution's weights on a GPU may lie channels last.
    """
    for parameter, moments in optimizer.state.items():
        for name, tensor in moments.items():
            if torch.is_tensor(tensor) and tensor.shape == parameter.shape:
                like = torch.empty_like(parameter, dtype=tensor.dtype, device=tensor.device)
                moments[name] = like.copy_(tensor)


def seed_torch(seed: int) -> None:
    """Seed torch's generators: dropout, mixing, noise and frame choice depend on it alone."""
    torch.manual_seed(seed % 2**63)
