"""Whether a network fits the GPU, said before training starts."""

from __future__ import annotations

import os
from collections.abc import Callable

import psutil
import torch
from torch import nn

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import human_size

BYTES_PER_PARAMETER = {"adamw": 16, "adafactor": 8}
"""float32 weight, gradient and AdamW's two moments; activations come on top."""


def device_memory(device: str) -> int | None:
    """Return the bytes that are free on a GPU, or all that a CPU has; None where it is not told.

    Parameters
    ----------
    device : str
        A torch device; Metal shares the CPU's memory.
    """
    if device.startswith("cuda"):
        free: int = torch.cuda.mem_get_info()[0]
        return free
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def training_bytes(build: Callable[[int], nn.Module], hidden: int, optimizer: str = "adamw") -> int:
    """Return the memory that training needs for its parameters alone; nothing is allocated.

    Parameters
    ----------
    build : callable
        Width after the ridge layer to the network.
    hidden : int
        The width.
    optimizer : str
        A key of :data:`BYTES_PER_PARAMETER`.
    """
    with torch.device("meta"):
        network = build(hidden)
    return BYTES_PER_PARAMETER[optimizer] * sum(p.numel() for p in network.parameters())


def require_gpu_memory(
    device: str,
    build: Callable[[int], nn.Module],
    hidden: int,
    setting: str,
    stage: str,
    optimizer: str = "adamw",
) -> None:
    """Refuse to begin a training that cannot fit the GPU.

    Parameters
    ----------
    device : str
        Only ``cuda`` is asked; a CPU swaps, and Metal does not tell.
    build, hidden
        As in :func:`training_bytes`.
    setting : str
        Name of the width in the settings, for the message.
    stage : str
        Who asks.
    optimizer : str
        As in :func:`training_bytes`.

    Raises
    ------
    UserError
        If not even the parameters fit; the largest width that would is named.
    """
    if not device.startswith("cuda"):
        return
    free = device_memory(device) or 0
    needed = training_bytes(build, hidden, optimizer)
    if needed <= free:
        return
    fits = hidden
    while fits > 64 and training_bytes(build, fits, optimizer) > free:
        fits //= 2
    raise UserError(
        f"{stage} needs at least {human_size(needed)} of GPU memory for weights, gradients and "
        f"optimizer, and {human_size(free)} is free: {setting}={fits} would need "
        f"{human_size(training_bytes(build, fits, optimizer))}, as profile compact does it with "
        "a narrower network"
    )


def require_peak(device: str, peak: int, stage: str, advice: str) -> None:
    """Refuse work whose computed peak does not fit the GPU.

    Parameters
    ----------
    device : str
        As in :func:`require_gpu_memory`.
    peak : int
        Bytes at the largest moment, from the dry run.
    stage : str
        Whose.
    advice : str
        What makes it smaller.

    Raises
    ------
    UserError
        If more is needed than free.
    """
    if not device.startswith("cuda"):
        return
    free = device_memory(device) or 0
    if peak > free:
        raise UserError(
            f"{stage} would need {human_size(peak)} of GPU memory at its peak (computed), and "
            f"{human_size(free)} is free: {advice}; docs/how-to/low-memory.md has a table"
        )


def memory_used(device: torch.device) -> str:
    """Return what a progress line says of memory: the GPU's peak, or what this process holds."""
    if device.type == "cuda":
        return human_size(torch.cuda.max_memory_allocated(device))
    return human_size(psutil.Process().memory_info().rss)
