"""Figures of a step, read while the device works on the next one."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor


class DeferredMetrics:
    """Hands figures back one step later, so that the host never waits for the step it began.

    A GPU works through what it was given while the host prepares more. Reading a number of the
    step just begun would end that; by the next step it has arrived in pinned memory.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def add(self, figures: Tensor) -> None:
        """Begin to fetch a step's figures."""
        if figures.device.type != "cuda":
            self._waiting.append((figures, None))
            return
        there = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True)
        there.copy_(figures, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._waiting.append((there, arrived))

    def before(self) -> list[float] | None:
        """Return the figures of the step before the last one added, once; None where none is."""
        return self._fetch() if len(self._waiting) > 1 else None

    def last(self) -> list[float] | None:
        """Return the figures that are left, after the last step."""
        return self._fetch() if self._waiting else None

    def _fetch(self) -> list[float]:
        figures, arrived = self._waiting.popleft()
        if arrived is not None:
            arrived.synchronize()
        values: list[float] = figures.tolist()
        return values
