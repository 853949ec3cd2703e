"""Time on a device: events around each call, share of it that is busy, memory, two ceilings."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.gpu.modes import BFLOAT16, FLOAT32, TF32, Mode, products

MOST_CALLS, FEWEST_CALLS = 12, 2
LONG_CALL = 0.7
"""Seconds; a call that takes so long has warmed up by itself."""


@dataclass(frozen=True)
class Timed:
    """What one call took.

    Attributes
    ----------
    seconds : float
        Median.
    spread : float
        (slowest - fastest) / median.
    calls : int
        Timed ones.
    peak : int
        Bytes allocated at the largest moment of the timed calls, 0 where nobody counts.
    """

    seconds: float
    spread: float
    calls: int
    peak: int


def on_gpu(device: str) -> bool:
    """Whether CUDA's events and counters exist."""
    return device.startswith("cuda")


def wait(device: str) -> None:
    """Wait for the device."""
    if on_gpu(device):
        torch.cuda.synchronize()


def free(device: str) -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if on_gpu(device):
        torch.cuda.empty_cache()


def measure(
    call: Callable[[], object],
    renew: Callable[[], None],
    device: str,
    *,
    seconds: float,
    warm_up: int = 2,
) -> Timed:
    """Time ``call`` until ``seconds`` are over, with fresh inputs from ``renew`` each time."""
    began = time.monotonic()
    for _ in range(warm_up):
        renew()
        call()
        wait(device)
        if warm_up <= 2 and time.monotonic() - began > LONG_CALL:
            break
    if on_gpu(device):
        torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    end = time.monotonic() + seconds
    while len(times) < FEWEST_CALLS or (len(times) < MOST_CALLS and time.monotonic() < end):
        renew()
        times.append(_one(call, device))
    median = statistics.median(times)
    peak = torch.cuda.max_memory_allocated() if on_gpu(device) else 0
    return Timed(median, (max(times) - min(times)) / median, len(times), peak)


def _one(call: Callable[[], object], device: str) -> float:
    wait(device)
    if not on_gpu(device):
        began = time.perf_counter()
        call()
        return time.perf_counter() - began
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1000


def device_seconds(call: Callable[[], object], device: str) -> float | None:
    """Seconds in which the device did anything during ``call``; None without a GPU."""
    gpu = on_gpu(device)
    wait(device)
    with profile(activities=[ProfilerActivity.CUDA]) if gpu else nullcontext() as seen:
        call()
        wait(device)
    if not gpu:
        return None
    spans = (
        (event.time_range.start, event.time_range.end)
        for event in seen.events()
        if event.device_type == DeviceType.CUDA
    )
    return covered(spans) / 1e6


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def ceilings(device: str, *, side: int, copied: int) -> dict[str, float]:
    """Measure the device's two limits.

    Parameters
    ----------
    device : str
        A torch device.
    side : int
        Of the square matrices multiplied.
    copied : int
        Bytes of the buffer copied.

    Returns
    -------
    dict
        ``float32``, ``TF32``, ``bfloat16``, ``float16``: operations per second of a product.
        ``copy``: bytes read plus bytes written per second.
    """
    rates: dict[str, float] = {}
    half = Mode("float16", torch.float16)
    for mode in (FLOAT32, TF32, BFLOAT16, half):
        kind = mode.half or torch.float32
        pair = [torch.randn(side, side, device=device).to(kind) for _ in range(2)]
        with products(mode):
            took = measure(lambda p=pair: p[0] @ p[1], _nothing, device, seconds=0.5)  # type: ignore[misc]
        rates[mode.name] = 2 * side**3 / took.seconds
        del pair
    source = torch.randn(copied // 4, device=device)
    target = torch.empty_like(source)
    took = measure(lambda: target.copy_(source), _nothing, device, seconds=0.3)
    rates["copy"] = 2 * source.nbytes / took.seconds
    return rates


def _nothing() -> None:
    return None
