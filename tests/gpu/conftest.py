"""What the comparisons of CUDA with the CPU share: device, runs, and a table of differences."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from neuroclips_cli.settings.load import Settings

# On the CPU the very same tests run with both sides on it: everything but CUDA is tried there.
STAND_IN = os.environ.get("NEUROCLIPS_GPU_TEST_DEVICE", "")
HEADER = ("test", "figure", "tolerance", "seen")


@dataclass
class Figures:
    """Every difference between the two devices that a test looked at."""

    rows: list[tuple[str, str, float, float]] = field(default_factory=list)
    test: str = ""

    def within(self, what: str, seen: float, tolerance: float) -> None:
        """Note a difference and hold it against its tolerance; a NaN is none that passes."""
        self.rows.append((self.test, what, float(tolerance), float(seen)))
        assert seen <= tolerance, f"{what}: {seen:.3g} is above {tolerance:.3g}"

    def note(self, what: str, value: float) -> None:
        """Keep a figure that has no tolerance."""
        self.rows.append((self.test, what, float("nan"), float(value)))


FIGURES = Figures()


@pytest.fixture(scope="session")
def device() -> str:
    """Return the device that is compared with the CPU, or skip the test saying so."""
    import torch

    if not STAND_IN and not torch.cuda.is_available():
        pytest.skip("needs CUDA (or NEUROCLIPS_GPU_TEST_DEVICE=cpu, to try the test itself)")
    return STAND_IN or "cuda"


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Collect the differences that a test sees."""
    FIGURES.test = request.node.name
    return FIGURES


@pytest.fixture(autouse=True)
def _alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let Accelerate choose its device anew, and keep float32 at 23 bits, in every test."""
    if "device" in request.fixturenames:
        from device_runs import begin_anew

        begin_anew()
    yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, device: str) -> SimpleNamespace:
    """Simulate one subject and take it through every stage on the CPU."""
    from device_runs import cpu_run, settings_for

    root = tmp_path_factory.mktemp("gpu")
    settings = settings_for(root / "dataset", root / "cpu", "cpu")
    cpu_run(settings, root / "dataset")
    return SimpleNamespace(root=root, cpu=settings, device=device)


@pytest.fixture(scope="session")
def trained_here(world: SimpleNamespace) -> Settings:
    """Preprocess and train on the device, from the data set of the CPU's run."""
    from device_runs import settings_for, train

    settings = settings_for(world.root / "dataset", world.root / "trained", world.device)
    train(settings)
    return settings


@pytest.fixture(scope="session")
def decoded_here(world: SimpleNamespace) -> Settings:
    """Decode on the device with the models that the CPU trained."""
    from device_runs import copied, decode

    settings = copied(world.cpu, world.root / "decoded", world.device, "train-pr", "train-sr")
    decode(settings)
    return settings


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table last and write it as JSON and Markdown."""
    if not FIGURES.rows:
        return
    folder = Path(os.environ.get("OUT") or tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    rows = [dict(zip(HEADER, row, strict=True)) for row in FIGURES.rows]
    known = [{k: v for k, v in row.items() if v == v} for row in rows]
    (folder / "gpu-tests.json").write_text(json.dumps(known, indent=1))
    lines = [f"| {' | '.join(HEADER)} |", "|---|---|---|---|"]
    for test, what, tolerance, seen in FIGURES.rows:
        allowed = f"{tolerance:.3g}" if tolerance == tolerance else ""
        lines.append(f"| {test} | {what} | {allowed} | {seen:.3g} |")
    (folder / "gpu-tests.md").write_text("\n".join(lines) + "\n")
    terminalreporter.section(f"device against CPU ({folder / 'gpu-tests.md'})")
    for line in lines:
        terminalreporter.write_line(line)
