"""Protocols as data: what they fix, what results say of them, and stretches without film cuts."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import fake_evaluators, fake_run

from neuroclips_cli import protocols
from neuroclips_cli.data.clip_table import block_labels, scene_labels
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.metrics import evaluation
from neuroclips_cli.runs.stage import open_stage, read_csv, read_json
from neuroclips_cli.settings.load import keys, load_settings
from neuroclips_cli.stages import compare, evaluate


class Shrinking:
    """A stand-in for a classifier that sees 16 x 16 pixels of any frame."""

    def __init__(self, seed: int) -> None:
        self.inner = fake_evaluators.RandomClassifier(seed)

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        step = max(1, pixels.shape[-2] // 16)
        return self.inner.probabilities(pixels[..., ::step, ::step, :])


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    evaluators = evaluation.Evaluators(Shrinking(0), Shrinking(1), fake_evaluators.PatchEmbedder())
    fake_evaluators.install(monkeypatch, evaluators)


def measured(tmp_path, clips, out="out", **changes):
    """Evaluate an array against a blurred copy of itself under some settings."""
    np.save(tmp_path / "gt.npy", clips)
    np.save(tmp_path / "pred.npy", clips // 2 + 40)
    flags = {"evaluate.shuffles": 0, "evaluate.bootstrap_samples": 50, **changes}
    flags = {"run.workdir": str(tmp_path), **flags}
    chosen = load_settings(flags, folder=tmp_path, environ={})
    folder = evaluate.run_pair(chosen, tmp_path / "pred.npy", tmp_path / "gt.npy", tmp_path / out)
    return read_json(folder / "metrics.json")


def test_every_protocol_is_read_and_is_a_choice_of_the_setting():
    assert keys()["evaluate.protocol"].words == (protocols.AUTO, *protocols.NAMES)
    for name in protocols.NAMES:
        found = protocols.load(name)
        assert found.name == name
        assert found.source
        assert found.remarks
    with pytest.raises(UserError, match="no protocol 'mindvido'.*mindvideo"):
        protocols.load("mindvido")
    assert "evaluate.protocol" in keys()


@pytest.mark.parametrize("name", protocols.NAMES[2:])
def test_a_published_protocol_fixes_rate_size_and_chance_and_says_so(tmp_path, capsys, name):
    result = measured(
        tmp_path, fake_evaluators.draw_clips(2, 16, size=32), **{"evaluate.protocol": name}
    )
    wanted = protocols.load(name)
    assert result["protocol"]["protocol"] == name
    assert (result["protocol"]["fps"], result["protocol"]["size"]) == (wanted.fps, wanted.size)
    assert result["chance"]["video_2way"] == 0.75
    assert result["chance"]["frame_50way"] == pytest.approx(3 / 52)
    said = " ".join("".join(capsys.readouterr()).split())
    assert f"protocol {name}" in said
    assert "chance: video 2-way 0.750" in said


def test_the_standard_is_what_it_was_and_lists_every_metric_with_its_control(tmp_path, capsys):
    changes = {"evaluate.size": 16, "evaluate.shuffles": 1}
    result = measured(tmp_path, fake_evaluators.draw_clips(60, 6), **changes)
    assert result["protocol"]["protocol"] == "standard"
    assert result["chance"]["video_2way"] == 0.5
    assert result["metrics"].keys() == result["controls"]["shuffled_pairs"].keys()
    for summary in result["metrics"].values():
        assert {"mean", "std", "ci95", "n", "ci95_scenes"} <= summary.keys()
    assert "blocks of 10 consecutive clips" in result["protocol"]["ci95_scenes"]
    assert "monte_carlo" not in result
    assert "smoothness" in capsys.readouterr().out


def test_the_sampled_estimate_stands_beside_the_exact_value(tmp_path, capsys):
    changes = {"evaluate.size": 16, "evaluate.monte_carlo": 200}
    result = measured(tmp_path, fake_evaluators.draw_clips(12, 6), **changes)
    again = measured(tmp_path, fake_evaluators.draw_clips(12, 6), "again", **changes)
    assert result["monte_carlo"] == again["monte_carlo"]
    assert result["monte_carlo"]["trials"] == 200
    for name, found in result["monte_carlo"]["metrics"].items():
        assert found["exact"] == result["metrics"][name]["mean"]
        assert abs(found["mean"] - found["exact"]) <= 5 * found["standard_error"] + 1e-9
    row = read_csv(tmp_path / "out" / "per_clip.csv")[0]
    assert {"monte_carlo_frame_50way", "monte_carlo_se_frame_50way"} <= row.keys()
    assert "Monte Carlo (s.e.)" in capsys.readouterr().out


def test_a_size_that_contradicts_the_protocol_is_refused(tmp_path):
    with pytest.raises(UserError, match="mindvideo measures at size 256, .* asks for 64"):
        measured(
            tmp_path,
            fake_evaluators.draw_clips(2, 6),
            **{"evaluate.protocol": "mindvideo", "evaluate.size": 64},
        )


def test_mind_animator_does_not_fill_up_slow_clips(tmp_path):
    changes = {"evaluate.protocol": "mind-animator"}
    slow = measured(tmp_path, fake_evaluators.draw_clips(2, 6), **changes)
    assert slow["protocol"]["fps"] == 3


def test_protocols_are_not_compared(tmp_path):
    clips, changes = fake_evaluators.draw_clips(6, 6), {"evaluate.size": 16}
    result = measured(tmp_path, clips, "a", **changes)
    measured(tmp_path, clips, "b", **changes)
    chosen, runs = fake_run.settings(tmp_path), [str(tmp_path / "a"), str(tmp_path / "b")]
    assert len(compare.run(chosen, runs)) == 2
    result["protocol"]["protocol"] = "neuroclips"
    atomic.write_json(tmp_path / "a" / "metrics.json", result)
    with pytest.raises(UserError, match="different protocols"):
        compare.run(chosen, runs)


def test_captions_of_a_run_are_compared_where_both_exist(tmp_path, monkeypatch):
    def embed(self, texts):
        return np.array([[len(t), t.count("a"), t.count("e"), 1] for t in texts], np.float32)

    monkeypatch.setattr(fake_evaluators.PatchEmbedder, "text_embeddings", embed, raising=False)
    chosen = fake_run.settings(tmp_path)
    fake_run.write(chosen)
    result = read_json(evaluate.run(chosen) / "metrics.json")
    assert 0.5 < result["metrics"]["caption_similarity"]["mean"] <= 1
    assert "caption_similarity" in result["controls"]["shuffled_fmri"]
    assert "caption_similarity" in result["protocol"]["extra_metrics"]


def test_fewer_clips_than_a_retrieval_part_are_said_and_nan_tokens_refused(tmp_path, capsys):
    chosen = fake_run.settings(tmp_path, **{"evaluate.retrieval_part": 300})
    fake_run.write(chosen)
    result = read_json(evaluate.run(chosen) / "metrics.json")
    assert result["protocol"]["retrieval_part"] == fake_run.CLIPS
    assert f"among all {fake_run.CLIPS} clips" in " ".join(capsys.readouterr().err.split())
    with open_stage(
        chosen, "reconstruct", sections=["reconstruct"], inputs={}, overwrite=True
    ) as stage:
        truth = fake_evaluators.draw_clips(fake_run.CLIPS, 16)
        stage.write_array("clips.npy", truth)
        stage.write_array("index.npy", np.arange(fake_run.CLIPS))
        tokens = np.full((fake_run.CLIPS, 4, 3), np.nan, np.float16)
        stage.write_array("tokens_brain.npy", tokens)
    with pytest.raises(UserError, match="tokens_brain.npy holds values that are not numbers"):
        evaluate.run(chosen, overwrite=True)


def test_clips_of_one_stretch_are_known_without_film_cuts():
    rows = [{"segment": "1", "onset_s": str(2 * i), "scene": ""} for i in range(60)]
    labels, what = scene_labels(rows)
    assert len(set(labels)) == 6
    assert "stretches of 20 s" in what
    assert scene_labels([row | {"scene": "4"} for row in rows])[1] == "scenes"
    assert scene_labels(rows[:20]) is None
    assert scene_labels([{"segment": "", "onset_s": ""}] * 60) is None
    assert len(set(block_labels(60, 2.0)[0])) == 6
    assert block_labels(11, 2.0) is None
