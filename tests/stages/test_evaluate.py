"""The evaluate stage on a made-up run folder, and on any two sets of clips."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import fake_evaluators, fake_run
from helpers.clip_files import write_gif, write_pngs

from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import evaluation
from neuroclips_cli.protocols.evaluation_config import evaluation_config
from neuroclips_cli.runs import manifest
from neuroclips_cli.runs.stage import command_for, open_stage, read_csv, read_json, run_folder
from neuroclips_cli.stages import evaluate


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    fake_evaluators.install(monkeypatch)


def test_a_run_is_measured_with_intervals_controls_and_protocol(tmp_path, capsys):
    chosen = fake_run.settings(tmp_path)
    fake_run.write(chosen)
    folder = evaluate.run(chosen)
    result = read_json(folder / "metrics.json")
    for name in evaluation.metric_names((2, 50)):
        for summary in (result["metrics"][name], result["controls"]["shuffled_fmri"][name]):
            low, high = summary["ci95"]
            assert low <= summary["mean"] <= high
            assert summary["n"] == fake_run.CLIPS
    assert result["metrics"]["frame_2way"]["mean"] > 0.9
    assert result["metrics"]["ssim"]["mean"] > result["controls"]["shuffled_fmri"]["ssim"]["mean"]
    assert result["metrics"]["retrieval_fmri_to_image"]["mean"] == 1.0
    assert result["metrics"]["retrieval_fmri_to_image"]["n"] == 20  # two parts of ten
    assert result["chance"]["retrieval_fmri_to_image"] == 0.1
    assert result["chance"]["video_50way"] == 0.02
    assert 0 < result["controls"]["noise_ceiling"]["split_half_r"] < 1
    assert result["protocol"]["blur_init"] == chosen.reconstruct.blur_init
    assert "ci95_scenes" in result["metrics"]["ssim"]
    shown = capsys.readouterr()
    assert "shuffled" in shown.out
    assert "SSIM" in shown.out
    assert "Not comparable" in shown.err


def test_every_clip_has_its_line_with_what_it_is(tmp_path):
    chosen = fake_run.settings(tmp_path)
    fake_run.write(chosen)
    folder = evaluate.run(chosen)
    rows = read_csv(folder / "per_clip.csv")
    assert [int(row["clip"]) for row in rows] == list(range(1, fake_run.CLIPS + 1))
    assert {row["crosses_scene"] for row in rows} == {"0", "1"}
    result = read_json(folder / "metrics.json")
    within, crossing = (result["cuts"][name] for name in ("within", "crossing"))
    assert within["n"] + crossing["n"] == len(rows)
    values = [float(row["ssim"]) for row in rows if row["crosses_scene"] == "1"]
    assert crossing["metrics"]["ssim"] == pytest.approx(np.mean(values), abs=1e-5)
    assert "ssim" in result["controls"]["shuffled_scenes"]
    assert all(0 <= float(row["frame_50way"]) <= 1 for row in rows)
    assert sum(row["retrieval_image_to_fmri"] == "" for row in rows) == 4
    result = read_json(tmp_path / "sub-01" / "evaluate" / "metrics.json")
    mean = np.mean([float(row["shuffled_ssim"]) for row in rows])
    assert mean == pytest.approx(result["controls"]["shuffled_fmri"]["ssim"]["mean"], abs=1e-5)


def test_a_second_evaluation_has_nothing_to_do_but_shows_the_table(tmp_path, capsys, monkeypatch):
    chosen = fake_run.settings(tmp_path)
    fake_run.write(chosen)
    evaluate.run(chosen)
    capsys.readouterr()
    monkeypatch.setattr(evaluate, "load_evaluators", lambda *rest: pytest.fail("measured again"))
    evaluate.run(chosen)
    assert "SSIM" in capsys.readouterr().out


def test_an_ablation_is_measured_into_its_own_folder(tmp_path):
    chosen = fake_run.settings(tmp_path)
    fake_run.write(chosen, run="reconstruct-without-blurry")
    folder = evaluate.run(chosen, run="reconstruct-without-blurry")
    assert folder.name == "evaluate-without-blurry"
    assert (folder / "metrics.json").exists()


def test_measuring_before_reconstructing_names_the_command(tmp_path):
    with pytest.raises(UserError, match="neuroclips reconstruct"):
        evaluate.run(fake_run.settings(tmp_path))
    with pytest.raises(UserError, match="'fused' is not a reconstruction"):
        evaluate.run(fake_run.settings(tmp_path), run="fused")


def test_two_arrays_are_measured_and_what_was_done_is_said(tmp_path, capsys):
    truth = fake_evaluators.draw_clips(8, 16, size=32)
    np.save(tmp_path / "gt.npy", truth)
    np.save(tmp_path / "pred.npy", truth[:, :, ::2, ::2])
    chosen = fake_run.settings(tmp_path)
    out = evaluate.run_pair(chosen, tmp_path / "pred.npy", tmp_path / "gt.npy", tmp_path / "out")
    result = read_json(out / "metrics.json")
    assert result["protocol"]["n"] == 8
    assert result["metrics"]["ssim"]["mean"] > 0.5
    assert "retrieval_fmri_to_image" not in result["metrics"]
    said = " ".join(capsys.readouterr().err.split())
    assert "--gt: 8 clips (16 frames at 8 fps, 32 x 32 pixels) brought to 6 frames at 3 fps" in said
    with pytest.raises(UserError, match="already holds"):
        evaluate.run_pair(chosen, tmp_path / "pred.npy", tmp_path / "gt.npy", tmp_path / "out")


def test_folders_are_paired_by_name_and_misfits_are_listed(tmp_path):
    clips = fake_evaluators.draw_clips(3, 14)
    for folder in ("pred", "gt"):
        (tmp_path / folder).mkdir()
    for number, clip in enumerate(clips):
        write_gif(tmp_path / "pred" / f"{number}.gif", clip, 140)
        write_pngs(tmp_path / "gt" / str(number), clip)
    chosen = fake_run.settings(tmp_path)
    arguments = (chosen, tmp_path / "pred", tmp_path / "gt", tmp_path / "out")
    result = read_json(evaluate.run_pair(*arguments) / "metrics.json")
    assert result["metrics"]["ssim"]["mean"] > 0.9  # a GIF has 256 colors
    write_gif(tmp_path / "pred" / "odd.gif", clips[0], 140)
    with pytest.raises(UserError, match="only in --pred: odd"):
        evaluate.run_pair(*arguments, overwrite=True)
    write_pngs(tmp_path / "gt" / "odd", clips[0])
    write_gif(tmp_path / "pred" / "odd.gif", clips[0], 280)
    longer = read_json(evaluate.run_pair(*arguments, overwrite=True) / "metrics.json")
    assert longer["unequal_pairs"] == [
        {"clip": "odd", "pred_s": 4.0, "gt_s": 2.0, "compared_s": 2.0}
    ]


def test_arrays_of_different_length_are_refused(tmp_path):
    for name, count in (("pred", 3), ("gt", 4)):
        np.save(tmp_path / f"{name}.npy", fake_evaluators.draw_clips(count, 6))
    with pytest.raises(UserError, match="holds 3 clips and --gt .* holds 4"):
        evaluate.run_pair(
            fake_run.settings(tmp_path),
            tmp_path / "pred.npy",
            tmp_path / "gt.npy",
            tmp_path / "out",
        )


def test_real_networks_are_loaded_and_judge(tmp_path, monkeypatch):
    import random_backbones

    monkeypatch.undo()
    folder = tmp_path / "backbones"
    for name in ("clip", "image_classifier", "video_classifier"):
        getattr(random_backbones, f"save_{name}")(folder / name)
    flags = {
        f"evaluate.{name}": str(folder / name)
        for name in ("clip", "image_classifier", "video_classifier")
    }
    flags |= {"run.device": "cpu", "evaluate.shuffles": 1}
    clips = fake_evaluators.draw_clips(4, 6)
    np.save(tmp_path / "clips.npy", clips)
    arguments = (tmp_path / "clips.npy", tmp_path / "clips.npy", tmp_path / "out")
    too_many = fake_run.settings(tmp_path, **flags)
    with pytest.raises(UserError, match="knows 7 classes, too few for a 50-way test"):
        evaluate.run_pair(too_many, *arguments)
    chosen = fake_run.settings(tmp_path, **flags, **{"evaluate.ways": (2, 5)})
    result = read_json(evaluate.run_pair(chosen, *arguments) / "metrics.json")
    assert result["metrics"]["frame_5way"]["mean"] == 1.0
    assert result["metrics"]["video_2way"]["mean"] == 1.0
    assert result["chance"]["video_5way"] == 0.2


def test_one_clip_alone_is_measured_without_a_control(tmp_path):
    np.save(tmp_path / "clips.npy", fake_evaluators.draw_clips(1, 6))
    arguments = (tmp_path / "clips.npy", tmp_path / "clips.npy", tmp_path / "out")
    result = read_json(evaluate.run_pair(fake_run.settings(tmp_path), *arguments) / "metrics.json")
    assert result["controls"]["shuffled_pairs"] == {}
    assert result["metrics"]["ssim"] == {"mean": 1.0, "std": 0.0, "ci95": [1.0, 1.0], "n": 1}


def test_clips_of_one_frame_have_no_smoothness(tmp_path):
    np.save(tmp_path / "clips.npy", fake_evaluators.draw_clips(3, 1))
    chosen = fake_run.settings(tmp_path, **{"evaluate.fps": 1, "data.clip_s": 1.0})
    arguments = (tmp_path / "clips.npy", tmp_path / "clips.npy", tmp_path / "out")
    result = read_json(evaluate.run_pair(chosen, *arguments) / "metrics.json")
    assert "clip_pcc" not in result["metrics"]
    assert result["metrics"]["ssim"]["mean"] == 1.0


def test_clips_after_fusion_are_measured_where_they_were_shown(tmp_path):
    chosen = fake_run.settings(tmp_path)
    truth = fake_run.write(chosen)
    made = np.clip(truth.astype(int) + 20, 0, 255).astype(np.uint8)
    # three chains over five of the clips 1 to 24; the short one ends in zeros
    chains = [[3, 4, 5], [7], [9, 10]]
    films = np.zeros((3, 48, *truth.shape[2:]), np.uint8)
    rows = []
    for chain, members in enumerate(chains):
        for place, clip in enumerate(members):
            films[chain, 16 * place : 16 * (place + 1)] = made[clip - 1]
            rows.append([chain, place, clip, int(place > 0), "", 16])
    header = ["chain", "position", "clip", "replaced_keyframe", "match_probability", "frames"]
    with open_stage(chosen, "fuse", sections=["fuse"], inputs={}) as stage:
        stage.write_array("clips.npy", films)
        stage.write_csv("chains.csv", header, rows[::-1])
    folder = evaluate.run(chosen, run="fuse")
    assert folder.name == "evaluate-fuse"
    fused = read_csv(folder / "per_clip.csv")
    assert [row["clip"] for row in fused] == ["3", "4", "5", "7", "9", "10"]
    with open_stage(
        chosen, "reconstruct", sections=["reconstruct"], inputs={}, overwrite=True
    ) as stage:
        stage.write_array("clips.npy", made)
        stage.write_array("index.npy", np.arange(1, len(made) + 1))
    whole = read_csv(evaluate.run(chosen, overwrite=True) / "per_clip.csv")
    by_clip = {row["clip"]: row for row in whole}
    for row in fused:
        for name in ("ssim", "psnr", "frame_50way", "video_2way", "clip_pcc"):
            assert row[name] == by_clip[row["clip"]][name], name


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("reconstruct", ""),
        ("reconstruct-without-blurry", " --without blurry"),
        ("reconstruct-captioner-git", " --captioner git"),
        ("reconstruct-without-blurry-captioner-git", " --without blurry --captioner git"),
        ("evaluate", ""),
        ("evaluate-fuse", " --run fuse"),
        ("evaluate-captioner-git", " --run reconstruct-captioner-git"),
        ("evaluate-without-keyframe", " --run reconstruct-without-keyframe"),
    ],
)
def test_every_variant_names_the_command_that_makes_it(tmp_path, stage, words):
    chosen = fake_run.settings(tmp_path)
    command = command_for(stage, chosen).partition(" --subject")[0]
    assert command == f"neuroclips {stage.partition('-')[0]}{words}"


def test_synthetic_evaluators_are_named_wherever_their_figures_stand(tmp_path, capsys):
    from neuroclips_cli.stages import compare

    chosen = fake_run.settings(tmp_path, **{"evaluate.size": 0})
    fake_run.write(chosen)
    fake_run.write(chosen, run="reconstruct-without-blurry")
    data = run_folder(chosen) / "preprocess" / "manifest.json"
    record = read_json(data)
    record["facts"]["synthetic"] = True
    manifest.write(data.parent, record)
    folder = evaluate.run(chosen)
    evaluate.run(chosen, run="reconstruct-without-blurry")
    result = read_json(folder / "metrics.json")
    assert result["protocol"]["evaluators"] == "synthetic-dataset evaluators"
    assert (result["protocol"]["protocol"], result["protocol"]["size"]) == ("synthetic", 64)
    rows = read_csv(folder / "per_clip.csv")
    assert {row["evaluators"] for row in rows} == {"synthetic-dataset evaluators"}
    assert "synthetic-dataset evaluators" in " ".join(capsys.readouterr().out.split())
    for ending in (".md", ".tex", ".csv"):
        out = tmp_path / f"table{ending}"
        compare.run(chosen, ["evaluate", "evaluate-without-blurry"], out=out)
        assert "synthetic-dataset evaluators" in out.read_text(), ending


def test_captions_of_other_clips_than_the_runs_are_refused(tmp_path):
    chosen = fake_run.settings(tmp_path)
    fake_run.write(chosen)
    path = run_folder(chosen) / "reconstruct" / "captions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))
    config = evaluation_config(chosen, synthetic=False, scans=True)
    evaluators = evaluation.Evaluators(None, None, SimpleNamespace(text_embeddings=None))
    evaluators.clip.text_embeddings = lambda texts: np.ones((len(texts), 2), np.float32)
    shown = [{"clip": str(i), "caption": "a ball"} for i in range(1, fake_run.CLIPS + 1)]
    with pytest.raises(UserError, match="holds 21 captions, and the run has 24 other clips"):
        evaluate.with_captions(config, None, path.parent, shown, evaluators)
