"""Whether a network fits the GPU, said before training starts."""

from __future__ import annotations

import os

import psutil
import torch

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import human_size


def device_memory(device: str) -> int | None:
    """Return the bytes that are free on a GPU, or all that a CPU has; None where unknown.

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


def require_peak(device: str, peak: int, stage: str, advice: str) -> None:
    """Refuse work whose computed peak does not fit the GPU.

    Parameters
    ----------
    device : str
        Only ``cuda`` is asked; a CPU swaps, and Metal does not tell.
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
