"""decode --follow: clips as volumes arrive, through the command and the Python interface."""

from __future__ import annotations

import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import random_backbones as tiny
from helpers import trained_run
from helpers.trained_run import VERTICES, VOXELS

from neuroclips_cli import Run
from neuroclips_cli.cli.main import run as command
from neuroclips_cli.data.new_scans import FilmTiming
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs.stage import read_array, read_csv, read_json
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.signal.causal import CausalStandardizer, FilmSpan
from neuroclips_cli.signal.training_statistics import TrainingStatistics
from neuroclips_cli.stages._follow import FollowOptions, LiveClip, LiveDecoding

RNG = np.random.default_rng(0)
SERIES = 300 + RNG.normal(0, 5, (9, VERTICES)).astype(np.float32)
ONE = np.ones(VOXELS)
STATISTICS = TrainingStatistics(300 * ONE, 2 * ONE, ONE[None], 5 * ONE, 30)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory) -> Settings:
    """Return the settings of a run of random networks, whose voxels have training statistics."""
    backbones = tiny.save_all(tmp_path_factory.mktemp("backbones"))
    workdir = tmp_path_factory.mktemp("work") / "runs"
    workdir.mkdir()
    settings = trained_run.settings(workdir, backbones)
    trained_run.write(settings)
    np.savez(workdir / "sub-01" / "preprocess" / "training_statistics.npz", **asdict(STATISTICS))
    return settings


@pytest.fixture
def run(chosen: Settings) -> Run:
    return Run(Path(chosen.run.workdir) / "sub-01", {"run.device": "cpu"})


def _causal(span: FilmSpan | None = None) -> np.ndarray:
    standardizer = CausalStandardizer(STATISTICS, span)
    return np.stack([standardizer.update(volume) for volume in SERIES[:, :VOXELS]])


def _put(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        np.save(folder / f".v{number}.tmp.npy", SERIES[number])
        (folder / f".v{number}.tmp.npy").rename(folder / f"v{number}.npy")


def test_the_interface_yields_clips_of_causally_standardized_scans(run, tmp_path):
    _put(tmp_path / "in", range(9))
    volumes, clips = [], []
    for clip in run.follow(
        tmp_path / "in", start_s=2, volumes=7, last="keyframes", on_volume=volumes.append
    ):
        clips.append(clip)
    assert [v.volume for v in volumes] == list(range(7))
    # A clip shown at 2 s is answered to 4 s later, by volume 3.
    assert [(c.number, c.onset_s, c.volume) for c in clips] == [
        *((0, 2, 3), (1, 4, 4), (2, 6, 5), (3, 8, 6))
    ]
    z = _causal()
    for clip in clips:
        assert np.array_equal(clip.scan, z[clip.volume])
        alone = run.decode(clip.scan[None], [clip.number], last="keyframes")
        assert np.array_equal(clip.decoded.keyframes, alone.keyframes)
        assert clip.decoded.clips is None and clip.latency_s > 0
    with pytest.raises(UserError, match="last='all' is not known"):
        next(run.follow(tmp_path / "in", last="all"))


def test_volumes_are_decoded_while_more_are_coming_until_the_stop_file(run, tmp_path):
    folder = tmp_path / "in"
    _put(folder, range(4))
    followed = run.follow(folder, last="tokens", idle_s=30)
    first = next(followed)
    assert first.volume == 2
    later = threading.Timer(0.2, lambda: (_put(folder, range(4, 6)), (folder / "stop").touch()))
    later.start()
    rest = list(followed)
    assert [clip.volume for clip in rest] == [3, 4, 5]


def test_a_time_between_two_volumes_is_a_straight_line(chosen, tmp_path):
    _put(tmp_path / "in", range(9))
    options = FollowOptions(FilmTiming(1.0, 6.0, None), volumes=9, last="blurry")
    folders = {n: Path(chosen.run.workdir) / "sub-01" / n for n in ("preprocess", "train-pr")}
    folders["train-sr"] = folders["train-pr"].with_name("train-sr")
    events = LiveDecoding(chosen, folders, tmp_path / "in", options)
    clips = [event for event in events if isinstance(event, LiveClip)]
    z = _causal(FilmSpan(2, 4))  # responses lie between volumes 2 and 5
    assert [clip.volume for clip in clips] == [3, 4, 5]
    assert np.allclose(clips[1].scan, (z[3] + z[4]) / 2, atol=1e-6)


def test_the_command_writes_clips_and_latencies(chosen, tmp_path, capsys):
    _put(tmp_path / "in", range(6))
    place = Path(chosen.run.workdir) / "sub-01"
    words = ["decode", "--follow", str(tmp_path / "in"), "--run", str(place), "--volumes", "6"]
    words += ["--set=run.device=cpu", "--out", str(tmp_path / "out")]
    assert command(words) == 0, capsys.readouterr().err
    folder = place / "decode-follow"
    assert np.array_equal(read_array(folder / "scans.npy"), _causal()[2:6])
    assert read_array(folder / "index.npy").tolist() == [0, 1, 2, 3]
    assert read_array(folder / "clips.npy").shape[0] == 4
    clips, volumes = read_csv(folder / "clips.csv"), read_csv(folder / "volumes.csv")
    assert [row["volume"] for row in clips] == ["2", "3", "4", "5"] and len(volumes) == 6
    assert all(float(row["latency_s"]) >= 0 for row in (*clips, *volumes))
    facts = read_json(folder / "manifest.json")["facts"]
    assert facts["clip_latency_s"]["longest"] >= facts["clip_latency_s"]["median"] > 0
    assert len(list((tmp_path / "out" / "videos").glob("*.mp4"))) == 4
    assert 'src="videos/clip-0003.mp4"' in (folder / "index.html").read_text("utf-8")
    said = capsys.readouterr().err
    assert "volume 5: " in said and "clip 3, shown at 6 s: " in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--follow", "nowhere"), "nowhere does not exist"),
        (("--follow", "empty", "--idle", "0.1"), "no volume came to empty"),
        (("--follow", "empty", "--idle", "0"), "--idle should be above 0"),
        (("--follow", "empty", "--volumes", "0"), "--volumes at least 1"),
        (("x.npy", "--follow", "empty"), "not both"),
        (("--follow", "empty", "--start", "-60"), "begins 28 volumes before the run"),
    ],
)
def test_what_cannot_be_followed_is_said_in_one_sentence(chosen, capsys, words, message):
    Path("empty").mkdir()
    if "--start" in words:
        _put(Path("empty"), range(3))
    place = ("--run", str(Path(chosen.run.workdir) / "sub-01"), "--set=run.device=cpu")
    assert command(["decode", *words, *place]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_run_without_training_statistics_says_how_to_make_them(chosen, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "preprocess").mkdir()
    for name in ("selection.npz", "selection.dscalar.nii"):
        there = Path(chosen.run.workdir) / "sub-01" / "preprocess" / name
        (tmp_path / "preprocess" / name).write_bytes(there.read_bytes())
    with pytest.raises(UserError, match=r"no training_statistics\.npz"):
        LiveDecoding(chosen, {"preprocess": tmp_path / "preprocess"}, tmp_path, FollowOptions())
