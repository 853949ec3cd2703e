"""``neuroclips compare``: runs side by side in four formats, and what it refuses."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from helpers import fake_evaluators, fake_run

from neuroclips_cli.cli import main as cli
from neuroclips_cli.errors import UserError
from neuroclips_cli.reporting import paper_tables
from neuroclips_cli.reporting.formats import escape_latex
from neuroclips_cli.reporting.subjects import mean_over_subjects
from neuroclips_cli.runs.stage import read_csv, read_json, run_folder
from neuroclips_cli.stages import compare, evaluate


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Two evaluated runs of one subject: the better one, and one without blurry clips."""
    fake_evaluators.install(monkeypatch)
    chosen = fake_run.settings(tmp_path)
    fake_run.write(chosen)
    fake_run.write(chosen, noise=60.0, run="reconstruct-without-blurry")
    evaluate.run(chosen)
    evaluate.run(chosen, run="reconstruct-without-blurry")
    return chosen


def edit(path, change) -> None:
    """Rewrite a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_runs_are_compared_by_name_with_intervals_and_the_papers_values(chosen, capsys):
    first, second = compare.run(chosen, ["reconstruct", "evaluate-without-blurry"])
    assert not first.differences
    assert first.published["ssim"] == 0.392  # subject 1
    assert second.published["ssim"] == 0.256
    found = second.differences["ssim"]
    result = read_json(run_folder(chosen) / "evaluate" / "metrics.json")
    assert first.metrics["ssim"].mean == pytest.approx(result["metrics"]["ssim"]["mean"], rel=1e-5)
    gap = second.metrics["ssim"].mean - first.metrics["ssim"].mean
    assert found.summary.mean == pytest.approx(gap)
    assert found.summary.ci95[1] < 0
    assert found.summary.ci95_scenes is not None
    assert found.units == 9  # clips 1 to 24 in scenes of three
    assert found.p == 2 / 2**9 <= found.p_holm
    shown = capsys.readouterr()
    assert "reconstruct" in shown.out
    assert "MinD-Video" in shown.out
    assert "for orientation, not for comparison" in shown.err


def test_markdown_latex_and_csv_hold_the_same_figures(chosen, tmp_path):
    runs = ["evaluate", "reconstruct-without-blurry"]
    for ending in (".md", ".tex", ".csv"):
        compared = compare.run(chosen, runs, out=tmp_path / f"table{ending}")
    ours = f"{compared[1].metrics['psnr'].mean:.2f}"
    text = (tmp_path / "table.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert any(ours in line and "without-blurry" in line for line in lines)
    assert len({line.count("|") for line in lines[:10]}) == 1
    source = (tmp_path / "table.tex").read_text()
    assert source.count(r"\begin{table}") == source.count(r"\end{table}") == 2
    assert ours in source
    assert r"0.390$\pm$0.08" in source
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    row = next(r for r in rows if r["run"] == runs[1] and r["metric"] == "psnr")
    assert float(row["mean"]) == pytest.approx(compared[1].metrics["psnr"].mean, rel=1e-5)
    assert float(row["difference"]) < 0 < float(row["p_holm"]) <= 1
    assert {"paper table 1", "paper table 2", "paper table 4", "ours"} == {
        r["source"] for r in rows
    }
    with pytest.raises(UserError, match="exists already"):
        compare.run(chosen, runs, out=tmp_path / "table.md")
    with pytest.raises(UserError, match="--format html is unknown"):
        compare.run(chosen, runs, kind="html")
    with pytest.raises(UserError, match="no ending"):
        compare.run(chosen, runs, out=tmp_path / "table")


def test_any_evaluations_are_compared_by_folder_without_scenes(chosen, tmp_path, capsys):
    import numpy as np

    clips = fake_evaluators.draw_clips(6, 16)
    for name, made in (("same", clips), ("dark", clips // 2)):
        np.save(tmp_path / f"{name}.npy", made)
        np.save(tmp_path / "gt.npy", clips)
        evaluate.run_pair(chosen, tmp_path / f"{name}.npy", tmp_path / "gt.npy", tmp_path / name)
    capsys.readouterr()
    assert cli.run(["compare", str(tmp_path / "same"), "dark/", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    found = next(r for r in rows if r["run"] == "dark" and r["metric"] == "ssim")
    assert float(found["difference"]) < 0
    assert (found["tested_units"], found["difference_ci95_scenes_low"]) == ("6", "")
    assert not any(r["difference"] for r in rows if r["source"] != "ours")


def test_a_run_is_tested_against_its_shuffled_control(chosen):
    own, shuffled = compare.run(chosen, ["evaluate", "reconstruct:shuffled"])
    assert shuffled.name == "reconstruct:shuffled"
    assert not shuffled.published
    result = read_json(run_folder(chosen) / "evaluate" / "metrics.json")
    mean = result["controls"]["shuffled_fmri"]["ssim"]["mean"]
    assert shuffled.metrics["ssim"].mean == pytest.approx(mean, rel=1e-5)
    assert shuffled.differences["ssim"].summary.ci95[1] < 0
    assert shuffled.differences["ssim"].p == 2 / 2**9
    with pytest.raises(UserError, match="named twice"):
        compare.run(chosen, ["evaluate:shuffled", "reconstruct:shuffled"])


def test_runs_with_some_clips_in_common_are_compared_over_these(chosen, capsys):
    folder = run_folder(chosen) / "evaluate-without-blurry"
    lines = (folder / "per_clip.csv").read_text().splitlines()
    (folder / "per_clip.csv").write_text("\n".join([*lines[:9], ""]))
    compared = compare.run(chosen, [str(folder), str(folder.parent)])
    assert [item.name for item in compared] == ["sub-01/evaluate-without-blurry", "sub-01/evaluate"]
    assert compared[1].metrics["ssim"].n == 8
    assert "8 of its 24 clips" in " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_compared_is_one_sentence(chosen, tmp_path):
    root = run_folder(chosen)
    first, second = root / "evaluate", root / "evaluate-without-blurry"
    pair = [str(first), str(second)]
    table, kept = second / "per_clip.csv", (second / "per_clip.csv").read_text()
    for words, message in (
        (pair[:1], "needs two runs"),
        ([*pair, str(first)], "named twice"),
        ([pair[0], "interpret"], "interpret is neither a folder nor a run"),
        ([pair[0], "fuse"], "run `neuroclips evaluate --run fuse"),
        ([pair[0], str(root / "preprocess")], "holds no metrics.json"),
        (["evaluate", "reconstruct-without-keyframe"], "neuroclips evaluate --run"),
    ):
        with pytest.raises(UserError, match=message):
            compare.run(chosen, words)
    header, *lines = kept.splitlines()
    for text, message in (
        ("\n".join([header, *(f"x{line}" for line in lines)]), "no clip in common"),
        ("\n".join([header, lines[0], lines[0]]), "does not name every clip once"),
        (header, "does not name every clip once"),
        ("\n".join([header, *(_shifted(lines))]), "show different films"),
    ):
        table.write_text(text + "\n")
        with pytest.raises(UserError, match=message):
            compare.run(chosen, pair)
    table.unlink()
    with pytest.raises(UserError, match=r"lacks per_clip.csv"):
        compare.run(chosen, pair)
    table.write_text(kept)
    edit(second / "metrics.json", lambda result: result["protocol"].update(size=512))
    with pytest.raises(UserError, match=r"different protocols \(size: 16 and 512\)"):
        compare.run(chosen, pair)
    (second / "metrics.json").write_text("[]")
    with pytest.raises(UserError, match="is not a result of neuroclips evaluate"):
        compare.run(chosen, pair)
    edit(second / "manifest.json", lambda record: record.update(state="running"))
    with pytest.raises(UserError, match="is unfinished"):
        compare.run(chosen, pair)


def _shifted(lines: list[str]) -> list[str]:
    """Give every clip number to the next clip's measurements."""
    names = [line.split(",", 1)[0] for line in lines]
    rest = [line.split(",", 1)[1] for line in lines]
    return [f"{name},{row}" for name, row in zip(names, [*rest[1:], rest[0]], strict=True)]


def test_the_published_tables_agree_with_themselves():
    assert paper_tables.TABLE_1[6].mean == paper_tables.TABLE_2[3].mean
    for name in paper_tables.METRICS[:7]:
        three = [line.mean[name] for line in paper_tables.TABLE_1[6:]]
        assert sum(three) / 3 == pytest.approx(paper_tables.NEUROCLIPS[name], abs=0.0021)
    assert paper_tables.NEUROCLIPS["retrieval_fmri_to_image"] == 0.222
    assert paper_tables.NEUROCLIPS["retrieval_image_to_fmri"] == 0.188
    for subject in (1, 2, 3):
        mean = paper_tables.of_subject(subject)
        assert mean["ssim"] == paper_tables.TABLE_1[5 + subject].mean["ssim"]
        assert mean["retrieval_image_to_fmri"] == (0.207, 0.198, 0.159)[subject - 1]
        assert paper_tables.counterpart("evaluate", subject) == mean
        assert paper_tables.counterpart("evaluate-fuse", subject) == mean
    assert paper_tables.of_subject(4) is paper_tables.of_subject(None) is paper_tables.NEUROCLIPS
    assert paper_tables.counterpart("reconstruct-captioner-git")["frame_50way"] == 0.174
    assert paper_tables.counterpart("evaluate-control-vae") == {}


def test_latex_commands_in_names_are_spelled_out():
    assert escape_latex(r"a_b & 50% \x{$}") == r"a\_b \& 50\% \textbackslash{}x\{\$\}"


def test_subjects_stand_below_each_other_with_their_mean(chosen, tmp_path, capsys):
    noise = {2: 20.0, 3: 30.0}
    for number, amount in noise.items():
        other = fake_run.settings(tmp_path, **{"run.subject": number})
        fake_run.write(other, noise=amount)
        evaluate.run(other)
    (group,) = compare.over_subjects(chosen, ["evaluate"], "all")
    assert [run.subject for run in group] == [1, 2, 3]
    shown = capsys.readouterr().out
    for words in ("evaluate, subject 1", "mean of 3 subjects", "NeuroClips, subject 3"):
        assert words in " ".join(shown.split())
    found = mean_over_subjects(group)
    columns = []
    for number in (1, 2, 3):
        path = tmp_path / f"sub-{number:02d}" / "evaluate" / "per_clip.csv"
        columns.append([float(row["ssim"]) for row in read_csv(path)])
    assert found["ssim"].mean == pytest.approx(np.mean(columns), abs=1e-5)
    assert found["ssim"].std == pytest.approx(np.std(columns, ddof=1), abs=1e-5)
    assert found["ssim"].n == np.size(columns)
    out = tmp_path / "subjects.csv"
    compare.over_subjects(chosen, ["evaluate"], "3,1", out=out)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    ours = {(r["subject"], r["metric"]): float(r["mean"]) for r in rows if r["source"] == "ours"}
    both = (ours["1", "psnr"] + ours["3", "psnr"]) / 2
    assert ours["", "psnr"] == pytest.approx(both, rel=1e-5)
    for words, message in (
        ("1,1", "names no subject, or one twice"),
        ("1,4", "compare needs evaluate of sub-04"),
        ("x", "is not a number"),
    ):
        with pytest.raises(UserError, match=message):
            compare.over_subjects(chosen, ["evaluate"], words)
    with pytest.raises(UserError, match="no subject in .* has evaluate-fuse"):
        compare.over_subjects(chosen, ["fuse"], "all")
