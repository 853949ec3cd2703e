"""Training on tiny synthetic data: split, samples, resume, decoding real signal."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import model_sizes

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.perception import Perception
from neuroclips_cli.training.async_metrics import DeferredMetrics
from neuroclips_cli.training.checkpoints import CheckpointManager
from neuroclips_cli.training.loop import PhaseConfig, make_accelerator, train_phase
from neuroclips_cli.training.metric_logger import MetricLogger
from neuroclips_cli.training.objectives import PerceptionObjective
from neuroclips_cli.training.optimizer import make_optimizer, make_schedule
from neuroclips_cli.training.samples import (
    ClipSamples,
    SeededOrder,
    repetition_mean,
    split_segments,
)
from neuroclips_cli.training.validation import perception_figures

SIZES = replace(model_sizes.PR, hidden=32, dropout=0.1, decoder_channels=(8,))


def _linear_brain(clips=120, voxels=40, seed=0):
    """Latents made of a few sources, and two noisy linear responses to the sources."""
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((clips, 6))
    pictures = np.repeat(sources @ rng.standard_normal((6, 16)) / 6**0.5, 3, axis=0)
    latents = pictures.reshape(clips, 3, 4, 2, 2).astype(np.float32)
    clean = sources @ rng.standard_normal((6, voxels)) / 6**0.5
    noise = rng.standard_normal((clips, 2, voxels))
    return (clean[:, None] + noise).astype(np.float32), latents


def _train(folder, fmri, latents, *, epochs=6, stop_after=None, learning_rate=3e-3):
    train, held = np.arange(96), np.arange(96, len(fmri))
    torch.manual_seed(0)
    model = Perception(fmri.shape[2], 3, SIZES, (4, 2, 2))
    objective = PerceptionObjective(model, 0.1, 0.1)
    held_out = repetition_mean(fmri, held), torch.from_numpy(latents[held])
    epoch = 0

    def validate():
        nonlocal epoch
        epoch += 1
        if stop_after is not None and epoch > stop_after:
            raise KeyboardInterrupt
        return perception_figures(model, *held_out, 0.1, 0.1)

    phase_config = PhaseConfig("perception", epochs, 16, learning_rate, 0.01, 0.01, 2, 7)
    with MetricLogger(folder) as metric_logger:
        progress = train_phase(
            objective,
            model,
            ClipSamples(fmri, train, {"latents": latents}, repetition_mix_prob=0.5),
            validate,
            phase_config,
            accelerator=make_accelerator("cpu", "float32"),
            checkpoints=CheckpointManager(folder / "checkpoints", phase_config.phase),
            metric_logger=metric_logger,
        )
    return model, progress


def _lines(folder):
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for entry in entries:
        entry.pop("seconds")
    return entries


def test_interrupted_and_resumed_training_equals_an_undisturbed_one_bit_for_bit(tmp_path):
    fmri, latents = _linear_brain()
    whole, calm = _train(tmp_path / "whole", fmri, latents)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "cut", fmri, latents, stop_after=3)
    resumed, rescued = _train(tmp_path / "cut", fmri, latents)
    assert calm == rescued
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    last = [
        CheckpointManager(tmp_path / n / "checkpoints", "perception").last for n in ("whole", "cut")
    ]
    assert last[0].read_bytes() == last[1].read_bytes()
    assert _lines(tmp_path / "whole") == _lines(tmp_path / "cut")


def test_real_signal_is_decoded_and_shuffled_scans_are_not(tmp_path):
    fmri, latents = _linear_brain()
    _, real = _train(tmp_path / "real", fmri, latents, epochs=10)
    order = np.random.default_rng(1).permutation(len(fmri))
    _, shuffled = _train(tmp_path / "shuffled", fmri[order], latents, epochs=10)
    assert real.best_metrics["error"] < 0.85 * shuffled.best_metrics["error"]
    assert real.best_metrics["error"] < 0.85 * real.best_metrics["shuffled_error"]


def test_loss_that_is_no_number_stops_with_the_last_good_checkpoint_kept(tmp_path):
    fmri, latents = _linear_brain()
    _train(tmp_path, fmri, latents, epochs=2)
    last = tmp_path / "checkpoints/perception-last.safetensors"
    before = last.read_bytes()
    fmri[:] = np.nan
    with pytest.raises(UserError, match="learning rate"):
        _train(tmp_path, fmri, latents, epochs=4)
    assert last.read_bytes() == before


def test_validation_segments_never_reach_a_training_batch():
    segments = np.repeat([1, 2, 3, 4], 5)
    train, held, names = split_segments(segments, (2, 4, 18))
    assert names == (2, 4)
    assert set(segments[held]) == {2, 4}
    assert sorted([*train, *held]) == list(range(20))
    marked = np.zeros((20, 2, 3), np.float32)
    marked[held] = np.nan
    samples = ClipSamples(marked, train, {}, repetition_mix_prob=0.5)
    order = SeededOrder(len(samples), 0, "x")
    for epoch in range(3):
        order.epoch = epoch
        batch = samples.__getitems__(list(order))
        assert len(batch["fmri"]) == 20
        assert not batch["fmri"].isnan().any()


def test_a_missing_validation_segment_falls_back_to_the_last_one():
    _, _, names = split_segments(np.array([1, 1, 2, 3]), (18,))
    assert names == (3,)


def test_one_training_segment_is_refused_in_one_sentence():
    with pytest.raises(UserError, match="at least 2"):
        split_segments(np.ones(4, int), (18,))
    with pytest.raises(UserError, match="holds out all"):
        split_segments(np.array([1, 2]), (1, 2))


def test_order_differs_between_epochs_and_repeats_with_the_seed():
    first, second = SeededOrder(30, 5, "a"), SeededOrder(30, 5, "a")
    assert list(first) == list(second)
    second.epoch = 1
    assert list(first) != list(second)
    assert sorted(second) == list(range(30))


def test_every_repetition_is_its_own_sample_and_combinations_stay_in_scale():
    fmri = np.array([[[1.0], [3.0]], [[10.0], [30.0]]], np.float32)
    single = ClipSamples(fmri, np.arange(2), {"number": np.arange(2)})
    batch = single.__getitems__([0, 1, 2, 3])
    assert batch["fmri"].flatten().tolist() == [1, 3, 10, 30]
    assert batch["number"].tolist() == [0, 0, 1, 1]
    mixed = ClipSamples(fmri, np.arange(2), {}, repetition_mix_prob=1.0)
    values = torch.cat([mixed.__getitems__([0])["fmri"] for _ in range(50)])
    assert values.min() > 1 and values.max() < 3 and values.std() > 0.2


def test_keyframe_targets_are_a_random_frame_of_the_own_clip():
    tokens = np.arange(12, dtype=np.float32).reshape(3, 4, 1, 1)
    samples = ClipSamples(
        np.zeros((3, 1, 2), np.float32), np.arange(3), {"tokens": tokens}, frame_targets=("tokens",)
    )
    drawn = torch.stack([samples.__getitems__([0, 1, 2])["tokens"].flatten() for _ in range(60)])
    assert [set(column.tolist()) for column in drawn.T] == [
        {0, 1, 2, 3},
        {4, 5, 6, 7},
        {8, 9, 10, 11},
    ]


def test_all_targets_of_a_sample_are_of_the_same_frame():
    """Reftm pairs the tokens of the keyframe with the caption of that very frame (paper B.2)."""
    tokens = np.arange(20, dtype=np.float32).reshape(5, 4, 1)
    samples = ClipSamples(
        np.zeros((5, 2, 2), np.float32),
        np.arange(5),
        {"tokens": tokens, "whole": np.arange(5), "text": tokens + 100},
        frame_targets=("tokens", "text"),
    )
    for _ in range(20):
        batch = samples.__getitems__(list(range(10)))
        assert torch.equal(batch["text"], batch["tokens"] + 100)
        assert batch["whole"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    text = samples.batch(list(range(10)), torch.Generator().manual_seed(1))["text"]
    assert len(set((text.flatten() % 4).tolist())) > 1


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (2, 6), (3, 1)])
def test_short_trainings_have_a_schedule(epochs, steps):
    optimizer = make_optimizer(torch.nn.Linear(2, 2), 1e-3, 0.0, 0.0)
    schedule = make_schedule(optimizer, 1e-3, epochs, steps)
    for _ in range(epochs * steps):
        optimizer.step()
        schedule.step()
    assert 0 <= schedule.get_last_lr()[0] <= 1e-3


def test_ridge_weights_and_biases_have_their_own_decay():
    model = Perception(10, 3, SIZES, (4, 2, 2))
    optimizer = make_optimizer(model, 1e-3, 0.02, 0.3)
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        expected = 0.0 if parameter.ndim < 2 else 0.3 if name.startswith("ridge.") else 0.02
        assert decays[id(parameter)] == expected, name


def test_figures_come_one_step_later_each_once_and_in_order():
    late, seen = DeferredMetrics(), []
    assert late.last() is None
    for step in range(4):
        late.add(torch.tensor([float(step), 0.5]))
        seen.append(late.before())
    assert seen == [None, [0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
    assert late.last() == [3.0, 0.5]
    assert late.last() is None


def test_a_loss_that_fails_in_the_last_step_of_an_epoch_is_never_written(tmp_path):
    fmri, latents = _linear_brain()
    fmri[0] = np.nan
    with pytest.raises(UserError, match="no longer a number in epoch 1"):
        _train(tmp_path, fmri, latents, epochs=1)
    assert not list((tmp_path / "checkpoints").glob("*"))
