"""The BIDS-App form: arguments as other apps take them, results under BIDS names."""

from __future__ import annotations

import csv
import json

import pytest
from helpers.simulation_world import simulated_layout

from neuroclips_cli.cli import bids_app
from neuroclips_cli.cli.main import run
from neuroclips_cli.reporting.bids_outputs import score_rows
from neuroclips_cli.stages import bids_app as stage

SETTINGS = ("--set", "data.frame_size=32", "--set", "data.selection_p=1.0", "--profile", "tiny")


def call(*words):
    """Run the command as a shell does; return its exit code."""
    return run(bids_app.spread([str(word) for word in words]), bids_app.app)


@pytest.fixture
def study():
    """An own study after fMRIPrep, large enough for vertices to be selected."""
    return simulated_layout(
        "fmriprep", tr_s=1.49, train_segments=8, clips_per_segment=14, reliability=0.5
    )


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_a_participant_is_preprocessed_into_bids_names(study, tmp_path):
    import nibabel as nib

    out = tmp_path / "out"
    words = (study, out, "participant", "--participant-label", "01", "--preprocess-only")
    assert call(*words, *SETTINGS) == 0
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "neuroclips"
    assert described["SourceDatasets"] == [{"URL": study.as_uri()}]
    names = {path.name for path in (out / "sub-01" / "func").iterdir()}
    stem = "sub-01_space-fsLR_den-91k_stat-z_desc-reproducibility_statmap"
    assert names == {
        f"{stem}.dscalar.nii",
        f"{stem}.json",
        "sub-01_desc-clips_stimuli.tsv",
        "sub-01_desc-clips_stimuli.json",
    }
    clips = table(out / "sub-01" / "func" / "sub-01_desc-clips_stimuli.tsv")
    assert len(clips) == 8 * 14 + 8 and "" not in {v for row in clips for v in row.values()}
    maps = nib.load(out / "sub-01" / "func" / f"{stem}.dscalar.nii")
    sidecar = json.loads((out / "sub-01" / "func" / f"{stem}.json").read_text())
    assert list(maps.header.get_axis(0).name) == list(sidecar["Maps"])
    assert call(*words, *SETTINGS) == 0  # again: finished parts are kept


def test_one_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    from neuroclips_cli.errors import UserError

    done = []

    def run_stage(settings, name):
        done.append((settings.run.subject, name))
        if settings.run.subject == 1:
            raise UserError("the scans are damaged: copy them again")

    raw = tmp_path / "raw"
    for label in ("01", "02"):
        (raw / f"sub-{label}").mkdir(parents=True)
    monkeypatch.setattr(stage, "run_stage", run_stage)
    assert call(raw, tmp_path / "out", "participant", "--skip-report") == 2
    assert done == [(1, "preprocess"), *((2, name) for name in stage.STAGES if name != "report")]
    told = capsys.readouterr().err
    assert "sub-01: the scans are damaged" in told and "1 participants failed: 01" in told
    done.clear()
    assert call(raw, tmp_path / "out", "participant", "--stop-on-first-crash") == 2
    assert done == [(1, "preprocess")]


def test_options_become_settings(tmp_path, monkeypatch):
    seen = {}

    def run_participants(settings, request):
        seen.update(settings=settings, request=request)
        return []

    monkeypatch.setattr(stage, "run_participants", run_participants)
    filters = tmp_path / "filter.json"
    filters.write_text(json.dumps({"bold": {"session": ["01", "02"], "suffix": "bold"}}))
    words = ("-d", tmp_path / "prep", "--task-id", "movie", "rest", "--test-films", "*s06*")
    more = ("--bids-filter-file", filters, "--output-spaces", "fsLR", "--confounds", "simple")
    labels = ("--participant-label", "01", "sub-02")
    assert call(tmp_path, tmp_path / "o", "participant", *labels, *words, *more, "--seed", 5) == 0
    data, asked = seen["settings"].data, seen["request"]
    assert (data.task, data.session, data.space) == ("movie,rest", "01,02", "fsLR")
    assert (data.raw, data.confounds, data.test_films) == (str(tmp_path), "simple", ("*s06*",))
    assert seen["settings"].run.dataset == str(tmp_path / "prep")
    assert (asked.labels, seen["settings"].run.seed) == (("01", "sub-02"), 5)
    assert asked.work == tmp_path / "o" / "sourcedata" / "neuroclips"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "is not a JSON file"),
        ('{"bold": "movie"}', "is not a filter file"),
        ('{"bold": {"acquisition": "mb"}}', "by 'acquisition', which neuroclips-bids cannot"),
        ('{"bold": {"task": {"a": 1}}}', "write a label or a list"),
    ],
)
def test_filter_files_that_cannot_be_followed_are_refused(tmp_path, capsys, content, words):
    (tmp_path / "sub-01").mkdir()
    path = tmp_path / "filter.json"
    path.write_text(content)
    assert call(tmp_path, tmp_path / "o", "participant", "--bids-filter-file", path) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_folders_and_participants_that_are_not_there(tmp_path, capsys):
    assert call(tmp_path / "nowhere", tmp_path / "o", "participant") == 2
    assert call(tmp_path, tmp_path / "o", "participant") == 2
    (tmp_path / "sub-01").mkdir()
    assert call(tmp_path, tmp_path / "o", "participant", "--participant-label", "7") == 2
    told = " ".join(capsys.readouterr().err.split())
    for words in ("correct BIDS_DIR", "no folder such as sub-01", "holds no sub-7"):
        assert words in told


def test_the_level_group_puts_scores_side_by_side(tmp_path, capsys):
    assert call(tmp_path, tmp_path, "group") == 2
    assert "run the level participant first" in " ".join(capsys.readouterr().err.split())
    for label, value in (("01", 0.25), ("02", 0.5)):
        summary = {"mean": value, "std": 0.1, "n": 4, "ci95": [0.1, 0.4]}
        result = {"metrics": {"ssim": summary}, "controls": {"shuffled_fmri": {"ssim": summary}}}
        rows = score_rows(result)
        assert rows == [["ssim", f"{value:g}", "0.1", "4", "0.1", "0.4", f"{value:g}"]]
        path = tmp_path / f"sub-{label}" / "func" / f"sub-{label}_desc-metrics_scores.tsv"
        path.parent.mkdir(parents=True)
        path.write_text(f"metric\tmean\tstd\tn\nssim\t{value}\t0.1\t4\npsnr\tn/a\tn/a\tn/a\n")
    assert call(tmp_path, tmp_path, "group") == 0
    assert table(tmp_path / "group_desc-metrics_scores.tsv") == [
        {"participant_id": "sub-01", "ssim": "0.25", "psnr": "n/a"},
        {"participant_id": "sub-02", "ssim": "0.5", "psnr": "n/a"},
    ]
    beside = table(tmp_path / "group_desc-subjects_scores.tsv")
    ours = [(line["subject"], line["metric"], line["mean"]) for line in beside[:3]]
    assert ours == [("1", "ssim", "0.25"), ("2", "ssim", "0.5"), ("n/a", "ssim", "0.375")]
    assert beside[2]["n"] == "8" and beside[3]["source"].startswith("paper table")


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        (("--until", "train-sr"), ("preprocess", "train-pr", "train-sr")),
        (("--until", "evaluate", "--skip-evaluation"), stage.STAGES[:4]),
        (("--preprocess-only", "--skip-bids-validation"), ("preprocess",)),
    ],
)
def test_the_stages_asked_for_are_run(tmp_path, monkeypatch, capsys, words, stages):
    done = []
    (tmp_path / "sub-01").mkdir()
    monkeypatch.setattr(stage, "run_stage", lambda _, name: done.append(name))
    assert call(tmp_path, tmp_path / "out", "participant", *words) == 0
    assert tuple(done) == stages
    assert call(tmp_path, tmp_path / "out", "participant", "--until", "train") == 2
    assert "--until train is no stage: write preprocess, " in capsys.readouterr().err


def test_labels_follow_their_option_only_behind_the_level():
    before = ["--participant-label", "01", "in", "out", "participant"]
    given = [*before, "-t", "a", "b", "-q", "--seed", "3"]
    assert bids_app.spread(given) == [*before, "-t", "a", "-t", "b", "-q", "--seed", "3"]
