"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

# Before torch is imported: parallel test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from neuroclips_cli import console
from neuroclips_cli.settings.load import NOT_SETTINGS, PREFIX, Settings, load_settings


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty folder, without the user's settings and with a plain console."""
    for name in list(os.environ):
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    console.configure()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Profile tiny, subject 1, results below a temporary folder."""
    return load_settings({"run.workdir": str(tmp_path / "runs")}, folder=tmp_path, environ={})


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of recorded references, or skip the test saying so."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("NEUROCLIPS_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"needs the reference material: {folder} is not there (NEUROCLIPS_SHARED)")
    return folder
