"""What one stage needs, and the two ways to find out: a training step and an inference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from neuroclips_cli.errors import UserError
from neuroclips_cli.memory_estimate.live import DevicePrecision, MemoryTracker, nbytes
from neuroclips_cli.training.batch_sharding import BatchShard
from neuroclips_cli.training.grad_cache import MicroBatchShard, grad_cache_backward
from neuroclips_cli.training.objectives import Objective

if TYPE_CHECKING:
    from torch.optim import Optimizer

T = TypeVar("T")


@dataclass(frozen=True)
class MemoryEstimate:
    """Computed memory of one stage at its largest moment.

    Attributes
    ----------
    stage : str
        Whose.
    parameters : int
        Of all networks that the stage loads at the same time.
    weights, gradients, states, activations : int
        Bytes. ``weights`` include buffers, ``states`` are the optimizer's, ``activations`` all
        that else lives at the largest moment: what autograd keeps, inputs, temporaries.
    """

    stage: str
    parameters: int
    weights: int
    gradients: int = 0
    states: int = 0
    activations: int = 0

    @property
    def peak(self) -> int:
        """Bytes at the largest moment."""
        return self.weights + self.gradients + self.states + self.activations


@contextmanager
def named_stage(stage: str, what: str) -> Iterator[None]:
    """Turn a network's complaint about its input into one sentence that names the place.

    Raises
    ------
    UserError
        For whatever torch, diffusers or transformers raise about shapes.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as problem:
        first = str(problem).strip().split("\n")[0] or type(problem).__name__
        raise UserError(
            f"{stage} does not connect at {what}: {first}; correct the sizes in the settings or "
            "the network in [backbones]"
        ) from problem


def require_shape(
    stage: str, what: str, found: Sequence[int | None], wanted: Sequence[int | None], hint: str
) -> None:
    """Refuse a shape that the next network does not take; None in ``wanted`` matches any length.

    Raises
    ------
    UserError
        Naming the stage, what does not fit, both shapes and ``hint``.
    """
    same = len(found) == len(wanted)
    if same and all(w in (None, f) for f, w in zip(found, wanted, strict=True)):
        return
    shown = " x ".join("any" if w is None else str(w) for w in wanted)
    raise UserError(
        f"{stage} does not connect: {what} is {' x '.join(map(str, found))} where {shown} is "
        f"needed; {hint}"
    )


def meta_tensor(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return an input of the meta device."""
    return torch.empty(shape, dtype=dtype, device="meta")


def inference(networks: Iterable[nn.Module], run: Callable[[], T]) -> tuple[MemoryEstimate, T]:
    """Run networks without gradients, in float32.

    Parameters
    ----------
    networks : iterable of torch.nn.Module
        Loaded at the same time, whether they run or not.
    run : callable
        Makes its inputs, runs, and returns what the next part takes.

    Returns
    -------
    MemoryEstimate, object
        Memory, and what ``run`` returned.
    """
    parameters, weights = network_size(networks)
    with torch.no_grad(), DevicePrecision(mixed=False), MemoryTracker() as live:
        result = run()
    return MemoryEstimate("", parameters, weights, activations=live.peak), result


def training_step(
    stage: str,
    objective: Objective,
    batch: Callable[[], dict[str, Tensor]],
    make_optimizer: Callable[[nn.Module], Optimizer],
    *,
    mixed: bool,
    fused: bool = False,
    pieces: int = 1,
) -> MemoryEstimate:
    """Take one optimizer step on the meta device.

    The peak is the larger of two moments: forward and backward pass, with weights and the
    optimizer's states of earlier steps; and the optimizer's step, with weights, gradients, states
    and its temporaries.

    Parameters
    ----------
    stage : str
        Whose, for the result.
    objective : Objective
        On the meta device.
    batch : callable
        Makes a batch of true size.
    make_optimizer : callable
        Objective to an optimizer that can step on the meta device.
    mixed : bool
        Whether the device computes in bfloat16 under autocast.
    fused : bool
        Whether the optimizer's step is one kernel, without temporaries.
    pieces : int
        Parts in which the batch goes through the network.
    """
    parameters, weights = network_size([objective])
    objective.train()
    share = MicroBatchShard(pieces)
    # One process stands for each of several: there is nobody to exchange meta tensors with.
    objective.share = share if pieces > 1 else BatchShard(0, 1)
    with DevicePrecision(mixed), MemoryTracker() as live:
        given = batch()
        if pieces > 1:
            grad_cache_backward(partial(objective, given), Tensor.backward, share)
            share.begin()
        else:
            objective(given)["loss"].backward()
        passes = live.peak
        del given
        learned = [p for p in objective.parameters() if p.grad is not None]
        gradients = nbytes(p.grad for p in learned)
        optimizer = make_optimizer(objective)
        live.restart()
        before = live.now
        optimizer.step()
        states, step = live.now - before, 0 if fused else live.peak - live.now
        optimizer.zero_grad()
    peak = weights + states + max(passes, gradients + step)
    rest = peak - weights - states - gradients
    return MemoryEstimate(stage, parameters, weights, gradients, states, rest)


def network_size(networks: Iterable[nn.Module]) -> tuple[int, int]:
    """Return the parameters and the bytes of weights and buffers; shared ones count once."""
    tensors = [x for n in networks for x in (*n.parameters(), *n.buffers())]
    unique = {id(x): x for x in tensors}.values()
    return sum(x.numel() for x in unique if isinstance(x, nn.Parameter)), nbytes(unique)
