"""What one core of this machine can do at most, and what a second one adds.

Set OMP_NUM_THREADS=1: the products are those of one thread. By processor time, best of several, so
that other work on the machine counts little; the rows of two threads are wall time and need two
idle cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

ROUNDS = 7
LARGE, CACHED = 100_000_000, 60_000
"""Values of single precision: 400 MB, and 240 kB, of which three arrays lie in a core's cache."""
SIDE = 2048


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Measure; ratios are those to the largest rate of their kind."""
    source, target = np.ones(LARGE, np.float32), np.empty(LARGE, np.float32)
    gigabytes = 2 * source.nbytes / 1e9
    copied = gigabytes / _best(partial(np.copyto, target, source))
    fresh = gigabytes / _best(source.copy)
    del source, target
    passes = partial(_passes, 200)
    cached = 200 * 3 * 4 * CACHED / 1e9 / _best(passes)
    rates = {kind: _products(kind) for kind in (np.float32, np.float64)}
    alone = _best(passes, clock=time.perf_counter)
    with ThreadPoolExecutor(2) as pool:
        both = _best(lambda: list(pool.map(_passes, (200, 200))), clock=time.perf_counter)
    return [
        ("copied between arrays of 400 MB (read and written), GB/s", copied, ""),
        ("copied into fresh pages, GB/s", fresh, f"{fresh / copied:.2f} x"),
        ("added within the cache (2 read, 1 written), GB/s", cached, f"{cached / copied:.1f} x"),
        ("products in single precision, GFLOP/s", rates[np.float32], ""),
        ("products in double precision, GFLOP/s", rates[np.float64], ""),
        ("passes within the cache, two threads against one", 2 * alone / both, "2 at most"),
    ]


def _best(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Return the least seconds of several rounds, the first one not counted."""
    work()
    seconds = []
    for _ in range(ROUNDS):
        began = clock()
        work()
        seconds.append(clock() - began)
    return min(seconds)


def _passes(count: int) -> None:
    """Add two arrays in the cache to a third, again and again."""
    one, other, total = np.ones((3, CACHED), np.float32)
    for _ in range(count):
        np.add(one, other, out=total)


def _products(kind: type[np.floating]) -> float:
    factor = np.ones((SIDE, SIDE), kind)
    out = np.empty_like(factor)
    return 2 * SIDE**3 / 1e9 / _best(partial(np.matmul, factor, factor, out))
