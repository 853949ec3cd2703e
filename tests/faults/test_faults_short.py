"""A few kills, a stop, a full disk and a race; ``campaign.py`` runs many over all stages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WORK = """
import os, sys, time
import numpy as np
from neuroclips_cli.runs.stage import open_stage
from neuroclips_cli.cli import main
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.runs.resumable import map_rows, map_texts
from neuroclips_cli.stages import {module} as stage_module

def work(settings, **options):
    with open_stage(settings, "preprocess", sections=["data"], inputs={{}}) as stage:
        if stage.up_to_date:
            return
        def rows(piece):
            time.sleep({pause})
            draw = np.random.default_rng(piece.start)
            return draw.standard_normal((piece.stop - piece.start, 500))
        path = stage.folder / "a.npy"
        map_rows(path, lambda: rows, 40, batch_size=4, dtype="float32", what="rows")
        def texts(piece):
            return [str(i) for i in range(piece.start, piece.stop)]
        map_texts(stage.folder / ".texts.json", lambda: texts, 40, batch_size=8, what="texts")
        stage.write_text("b.txt", "done")

stage_module.run = work
sys.argv = ["neuroclips", "preprocess", "--workdir", sys.argv[1]]
main.main()
"""
"""A command whose work takes a second and uses the ways in which stages write."""


def start(workdir: Path, pause: float = 0.03) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONUNBUFFERED": "1"}
    program = WORK.format(module="preprocess", pause=pause)
    return subprocess.Popen(
        [sys.executable, "-c", program, str(workdir)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def outputs(workdir: Path) -> dict[str, bytes]:
    folder = workdir / "sub-01" / "preprocess"
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"}


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.005)


@pytest.fixture
def calm(tmp_path) -> dict[str, bytes]:
    process = start(tmp_path / "calm", pause=0.0)
    assert process.wait() == 0, process.stderr.read()
    return outputs(tmp_path / "calm")


@pytest.mark.slow
def test_kills_at_any_moment_leave_the_same_result(tmp_path, calm):
    runs = tmp_path / "runs"
    for delay in (0.0, 0.1, 0.2):
        process = start(runs)
        wait_for(runs / "sub-01/preprocess/manifest.json")
        time.sleep(delay)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    process = start(runs, pause=0.0)
    said = process.communicate()[1]
    assert process.returncode == 0 and "continuing where it stopped" in said
    assert outputs(runs) == calm


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_ends_soon_at_a_point_to_go_on_from(tmp_path, calm, name):
    runs = tmp_path / "runs"
    launched = time.monotonic()
    process = start(runs, pause=0.2)
    wait_for(runs / "sub-01/preprocess/.a.npy.rows.json")
    began = time.monotonic()
    start_up = began - launched  # what a busy machine slows down as much as the end
    process.send_signal(getattr(signal, name))
    said = process.communicate()[1]
    assert time.monotonic() - began < max(5, start_up)
    assert process.returncode == 128 + getattr(signal, name)
    assert f"`neuroclips preprocess --workdir {runs}`" in said and "to continue" in said
    assert "Traceback" not in said
    assert start(runs, pause=0.0).wait() == 0
    assert outputs(runs) == calm


@pytest.mark.slow
def test_of_writers_at_once_one_works_and_the_others_are_told_who_does(tmp_path, calm):
    runs = tmp_path / "runs"
    writers = [start(runs, pause=0.4) for _ in range(3)]
    said = [writer.communicate()[1] for writer in writers]
    codes = [writer.returncode for writer in writers]
    assert sorted(codes) == [0, 2, 2]
    winner = writers[codes.index(0)].pid
    for text in (t for t, code in zip(said, codes, strict=True) if code == 2):
        assert f"is being written by process {winner} on " in text and " since " in text
    assert outputs(runs) == calm


@pytest.mark.slow
def test_a_disk_that_fills_ends_in_one_sentence_and_is_gone_on_from(tmp_path, calm):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        process = start(disk / "runs")
        wait_for(disk / "runs/sub-01/preprocess/.a.npy.rows.json")
        room = os.statvfs(disk)
        with open(disk / "filler", "wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, room.f_bavail * room.f_frsize)
        said = process.communicate()[1]
        assert process.returncode == 2 and "Traceback" not in said
        assert f"no space left on the disk {disk}" in said
        again = start(disk / "runs")
        assert "MB are free" in again.communicate()[1] or again.returncode == 2
        (disk / "filler").unlink()
        assert start(disk / "runs", pause=0.0).wait() == 0
        assert outputs(disk / "runs") == calm
    finally:
        subprocess.run(["umount", str(disk)], check=True)
