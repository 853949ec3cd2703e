"""Whether a network fits the GPU, said before training starts."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import nn

from neuroclips_cli.disk import human_size
from neuroclips_cli.errors import UserError

BYTES_PER_PARAMETER = 16
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


def computes_in_bfloat16(device: str) -> bool:
    """Whether training runs under autocast to bfloat16 on a device."""
    return device.startswith("cuda") and torch.cuda.is_bf16_supported()


def training_bytes(build: Callable[[int], nn.Module], hidden: int) -> int:
    """Return the memory that training needs for its parameters alone; nothing is allocated.

    Parameters
    ----------
    build : callable
        Width after the ridge layer to the network.
    hidden : int
        The width.
    """
    with torch.device("meta"):
        network = build(hidden)
    return BYTES_PER_PARAMETER * sum(p.numel() for p in network.parameters())


def require_gpu_memory(
    device: str, build: Callable[[int], nn.Module], hidden: int, setting: str, stage: str
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

    Raises
    ------
    UserError
        If not even the parameters fit; the largest width that would is named.
    """
    if not device.startswith("cuda"):
        return
    free = device_memory(device) or 0
    needed = training_bytes(build, hidden)
    if needed <= free:
        return
    fits = hidden
    while fits > 64 and training_bytes(build, fits) > free:
        fits //= 2
    raise UserError(
        f"{stage} needs at least {human_size(needed)} of GPU memory for weights, gradients and "
        f"AdamW's moments, and {human_size(free)} is free: {setting}={fits} would need "
        f"{human_size(training_bytes(build, fits))}, as profile compact does it with a narrower "
        "network"
    )
