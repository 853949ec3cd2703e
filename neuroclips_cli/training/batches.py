"""Batches gathered ahead of the step that takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import torch

from neuroclips_cli.models.subject_scans import Scans, SubjectScans
from neuroclips_cli.runtime.precision import to_device
from neuroclips_cli.training.pool import Samples
from neuroclips_cli.training.samples import SeededOrder, derived_seed

SampleBatch = dict[str, Any]
"""``fmri``, one subject's scans or several subjects', and targets by name."""
AHEAD = 2
"""Batches that wait in pinned memory while the device works."""


class BatchLoader:
    """Whole batches of one epoch on the device, in the epoch's order.

    A thread gathers the next batches from disk, draws what is random in them and pins them.
    Targets in half precision cross to the device so and become float32 there. What is drawn
    depends on seed, phase, epoch and step alone, not on when the thread comes to it.

    Parameters
    ----------
    samples : ClipSamples or PooledSamples
        Where they are from.
    size : int
        Samples of a batch; an incomplete last one is left out.
    order : SeededOrder
        Its ``epoch`` counts at the time of iteration.
    device : torch.device
        Where batches go.
    """

    def __init__(
        self, samples: Samples, size: int, order: SeededOrder, device: torch.device
    ) -> None:
        self.samples, self.size, self.order, self.device = samples, size, order, device

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.order) // self.size

    def __iter__(self) -> Iterator[SampleBatch]:
        """Yield the batches of ``order.epoch``."""
        waiting: queue.Queue[SampleBatch | BaseException] = queue.Queue(AHEAD)
        stopped = threading.Event()
        work = threading.Thread(target=self._gather, args=(waiting, stopped), daemon=True)
        work.start()
        try:
            for _ in range(len(self)):
                batch = waiting.get()
                if isinstance(batch, BaseException):
                    raise batch
                yield {name: self._there(values) for name, values in batch.items()}
        finally:
            stopped.set()
            while work.is_alive():  # it may stand before a full queue
                _empty(waiting)
                work.join(0.01)

    def _there(self, values: Scans) -> Scans:
        if isinstance(values, SubjectScans):
            return values.to(self.device)
        return to_device(values, self.device).float()

    def _gather(
        self,
        waiting: queue.Queue[SampleBatch | BaseException],
        stopped: threading.Event,
    ) -> None:
        numbers, order = list(self.order), self.order
        for step in range(len(self)):
            seed = derived_seed("samples", order.seed, order.phase, order.epoch, step)
            chosen = numbers[step * self.size : (step + 1) * self.size]
            try:
                batch = self.samples.batch(chosen, torch.Generator().manual_seed(seed))
                if self.device.type == "cuda":
                    batch = {name: values.pin_memory() for name, values in batch.items()}
            except BaseException as problem:  # whatever it is, it belongs to the training
                waiting.put(problem)
                return
            waiting.put(batch)
            if stopped.is_set():
                return


def _empty(waiting: queue.Queue[SampleBatch | BaseException]) -> None:
    while not waiting.empty():
        waiting.get_nowait()
