"""Full size on one GPU: time, rate, memory and the released code's way, in bounded time.

    python -m tests.benchmarks gpu --minutes 5 --out gpu.json
    python -m tests.benchmarks gpu --size tiny --device cpu --minutes 1
    python -m tests.benchmarks gpu --device meta         # count operations and memory beforehand

Networks have random weights, made on the device from the published sizes. Every case goes through
bfloat16 (autocast), TF32 and float32, then the released code's way, then weights stored in
bfloat16; compiled blocks come last, as far as the time goes.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from neuroclips_cli.runtime.compilation import compile_blocks
from neuroclips_cli.runtime.precision import store_products_in_bfloat16
from tests.benchmarks.gpu import counting
from tests.benchmarks.gpu.cases import CASES, COMPILED_CASES
from tests.benchmarks.gpu.modes import BFLOAT16, COMPILED, PLAIN, Mode, products
from tests.benchmarks.gpu.results import Results, Row, read_counts
from tests.benchmarks.gpu.timing import ceilings, device_seconds, free, measure, on_gpu, wait
from tests.benchmarks.gpu.work import Case, Place, Work

SIDE, COPIED = {"full": 8192, "tiny": 256}, {"full": 4_000_000_000, "tiny": 4_000_000}
LONGEST_CASE = 0.25
"""Share of the minutes that one case may take."""
LONGEST_COMPILE = 75.0
LEAST = 4.0
"""Seconds without which nothing new is begun."""
GRACE = 10.0
"""Seconds after the end at which the process prints what it has and stops, whatever hangs."""


class OutOfTime(Exception):
    """A case has had its time."""


class Benchmark:
    """A run of all cases.

    Parameters
    ----------
    place : Place
        Device and size.
    minutes : float
        From ``began`` on.
    began : float
        On the monotonic clock.
    out : Path or None
        See :class:`Results`.
    """

    def __init__(self, place: Place, minutes: float, began: float, out: Path | None) -> None:
        self.place, self.minutes, self.end = place, minutes, began + 60 * minutes
        self.results = Results(machine(place), out=out)
        self.counts = read_counts(place.size)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def run(self, names: list[str]) -> None:
        """Measure the named cases (all: none named), eager ones first."""
        place = self.place
        self.results.peaks = ceilings(
            place.device, side=SIDE[place.size], copied=COPIED[place.size]
        )
        chosen = [case for case in CASES if not names or case.name in names]
        for case in chosen:
            self._case(case, self._plain, LONGEST_CASE * 60 * self.minutes)
        for name in COMPILED_CASES:
            for case in chosen:
                if case.name == name:
                    self._case(case, self._compiled, LONGEST_COMPILE)

    def _case(self, case: Case, rows: Callable[[Case, Work], None], longest: float) -> None:
        """Build a case and measure its rows; what fails is a row with its error."""
        if self.left < LEAST:
            return
        began = time.monotonic()
        try:
            with at_most(min(longest, self.left)):
                torch.manual_seed(0)
                work = case.build(self.place)
                wait(self.place.device)
                print(f"{case.name}: built in {time.monotonic() - began:.1f} s", flush=True)
                rows(case, work)
                del work
        except OutOfTime:
            self.results.add(Row(case.name, "rest", error="out of time"))
        except Exception as problem:  # a benchmark continues with what can be measured
            self.results.add(Row(case.name, "build", error=_short(problem)))
        free(self.place.device)

    def _plain(self, case: Case, work: Work) -> None:
        for mode in PLAIN:
            self._row(case, work, mode.name, lambda m=mode: self._time(work, m))  # type: ignore[misc]
        if work.loop is not None:
            self._row(case, work, "package's loop", lambda: self._looped(work))
        if work.package is not None:
            self._row(case, work, "package's call", lambda: self._called(work))
        theirs = work.released
        if theirs is not None:
            name = theirs.mode.name
            self._row(case, work, name, lambda: self._time(work, theirs.mode, theirs=True))
        for mode in work.modes:
            for network in work.networks:
                store_products_in_bfloat16(network)
            self._row(case, work, mode.name, lambda m=mode: self._time(work, m))  # type: ignore[misc]

    def _compiled(self, case: Case, work: Work) -> None:
        for network in work.networks:
            compile_blocks(network)
        warm_up = work.compiled_warm_up
        self._row(
            case,
            work,
            COMPILED.name,
            lambda: self._time(work, COMPILED, warm_up=warm_up),
        )

    def _row(self, case: Case, work: Work, name: str, take: Callable[[], Row]) -> None:
        """Add one row; one that fails says why."""
        if self.left < LEAST:
            raise OutOfTime
        try:
            row = take()
        except OutOfTime:
            raise
        except Exception as problem:  # as above
            row = Row("", "", error=_short(problem))
        if row.error:  # only now has the traceback let go of what the call had made
            forget_gradients(work)
            free(self.place.device)
        row.case, row.mode = case.name, name
        counted = self.counts.get(case.name, {})
        memory = counted.get("memory", {})
        if name in (mode.name for mode in PLAIN):
            row.computed = memory.get(name, memory.get("float32", 0) if name == "TF32" else 0)
        own = not name.startswith("package")
        if row.seconds and counted and own:
            each = counted["operations"] / counted["items"]
            row.rate = each * row.items / row.seconds
            mode = _mode(work, name)
            row.of_peak = row.rate / self.results.peaks[mode.peak]
        self.results.add(row)

    def _time(self, work: Work, mode: Mode, *, theirs: bool = False, warm_up: int = 2) -> Row:
        call, items = work.call, work.items
        if theirs and work.released is not None:
            call, items = work.released.call, work.released.items
        seconds = min(1.5, max(0.0, self.left / 20))
        with products(mode):
            took = measure(
                lambda: call(mode),
                work.renew,
                self.place.device,
                seconds=seconds,
                warm_up=warm_up,
            )
            idle = None
            if work.trained and mode == BFLOAT16:
                busy = device_seconds(lambda: call(mode), self.place.device)
                idle = None if busy is None else max(0.0, 1 - busy / took.seconds)
        return Row(
            "",
            mode.name,
            items,
            took.seconds,
            took.spread,
            took.calls,
            memory=took.peak,
            idle=idle,
        )

    def _looped(self, work: Work) -> Row:
        """Time the package's own loop with its data path, after an epoch to warm up."""
        loop, device = work.loop, self.place.device
        assert loop is not None
        loop(1)
        wait(device)
        began = time.perf_counter()
        steps = loop(1)
        wait(device)
        seconds = (time.perf_counter() - began) / steps
        busy = device_seconds(lambda: loop(1), device)
        idle = None if busy is None else max(0.0, 1 - busy / steps / seconds)
        return Row("", "", work.items, seconds, calls=steps, idle=idle)

    def _called(self, work: Work) -> Row:
        """Time the package's own function, frames on the host to figures on the host."""
        package, device = work.package, self.place.device
        assert package is not None
        took = measure(package, lambda: None, device, seconds=1.0, warm_up=1)
        return Row("", "", work.items, took.seconds, took.spread, took.calls, memory=took.peak)


def forget_gradients(work: Work) -> None:
    """Let go of what a step that failed has left behind."""
    for network in work.networks:
        for parameter in network.parameters():
            parameter.grad = None


def _mode(work: Work, name: str) -> Mode:
    known = (*PLAIN, *work.modes, COMPILED)
    if work.released is not None:
        known = (*known, work.released.mode)
    return next(mode for mode in known if mode.name == name)


def _short(problem: Exception) -> str:
    first = str(problem).strip().split("\n")[0]
    return f"{type(problem).__name__}: {first[:150]}"


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer.

    Raises
    ------
    OutOfTime
        In the main thread, as soon as Python runs there again.
    """

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def machine(place: Place) -> dict[str, str]:
    """Name the card, its driver and the libraries."""
    import diffusers
    import transformers

    found = {"size": place.size, "date": time.strftime("%Y-%m-%d")}
    if on_gpu(place.device):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        found |= {"card": torch.cuda.get_device_name(), "driver": driver.strip()}
    else:
        found["card"] = platform.machine()
    return found | {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }


def main(words: list[str]) -> None:
    """Run the command."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--device", choices=("cuda", "cpu", "meta"), default="cuda")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--out", type=Path, help="JSON, replaced after each row")
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="CASE")
    given: Any = parser.parse_args(words)
    if given.device == "meta":
        counting.count_all(given.only)
        return
    benchmark = Benchmark(Place(given.device, given.size), given.minutes, began, given.out)

    def stop() -> None:
        print("\nstopped at its end, with something unfinished\n" + benchmark.results.table())
        os._exit(0)

    last = threading.Timer(benchmark.left + GRACE, stop)
    last.daemon = True
    last.start()
    benchmark.run(given.only)
    last.cancel()
    benchmark.results.write()
    print("\n" + benchmark.results.table(), flush=True)
