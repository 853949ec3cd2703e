"""Training on the device: autocast, pieces of a batch, random numbers."""

from __future__ import annotations

import pytest
import torch
from device_runs import apart, copied, training_losses, validation

pytestmark = pytest.mark.gpu

HALF = 0.03
"""bfloat16 keeps 8 bits (0.4 %): a few epochs of losses stay within some of these."""


@pytest.mark.parametrize("stage", ["train-pr", "train-sr"])
def test_autocast_learns_what_float32_learns(world, device, figures, tmp_path, stage):
    from neuroclips_cli.stages import train_pr, train_sr

    settings = copied(world.cpu, tmp_path / "runs", device, run__precision="bfloat16")
    {"train-pr": train_pr, "train-sr": train_sr}[stage].run(settings)
    for what, losses in (("training", training_losses), ("validation", validation)):
        difference = apart(losses(settings, stage), losses(world.cpu, stage))
        figures.within(f"{stage} {what} loss", difference, HALF)


@pytest.mark.parametrize("stage", ["train-pr", "train-sr"])
def test_batches_in_pieces_take_the_step_of_whole_ones(world, device, figures, tmp_path, stage):
    from neuroclips_cli.stages import train_pr, train_sr

    section = stage.replace("-", "_")
    settings = copied(world.cpu, tmp_path / "runs", device, **{f"{section}__micro_batch_size": 10})
    {"train-pr": train_pr, "train-sr": train_sr}[stage].run(settings)
    difference = apart(training_losses(settings, stage), training_losses(world.cpu, stage))
    # the same sums in another order, and AdamW makes most of the smallest gradients
    figures.within(f"{stage} in pieces of 10", difference, 2e-3)


def test_activations_computed_again_change_nothing(world, device, figures, tmp_path):
    from neuroclips_cli.stages import train_pr

    settings = copied(world.cpu, tmp_path / "runs", device, train_pr__activation_checkpointing=True)
    train_pr.run(settings)
    difference = apart(
        training_losses(settings, "train-pr"), training_losses(world.cpu, "train-pr")
    )
    figures.within("train-pr recomputed", difference, 2e-3)


def test_a_clip_draws_the_same_noise_on_both_devices(device, figures):
    from neuroclips_cli.runtime.seeding import clip_generators, randn_per_clip

    drawn = [
        randn_per_clip(clip_generators(3, [0, 7, 400], "clip"), (4, 8, 8), d).cpu()
        for d in ("cpu", device)
    ]
    assert drawn[0].std() > 0.9
    figures.within("noise of clips", float((drawn[0] - drawn[1]).abs().max()), 0)


def test_a_training_step_mixes_the_same_rows_on_both_devices(device, figures):
    from neuroclips_cli.losses import draw_mix

    drawn = []
    for name in ("cpu", device):
        torch.manual_seed(5)
        mix = draw_mix(12, 0.15, torch.device(name))
        assert mix.partner.device.type == torch.device(name).type
        drawn.append([mix.partner, mix.coefficient, mix.selected])
    for number, (cpu, here) in enumerate(zip(*drawn, strict=True)):
        figures.within(
            f"number {number} of a step", float((cpu.float() - here.cpu().float()).abs().max()), 0
        )


def test_noise_of_a_training_step_is_drawn_on_the_device_and_repeats(device, figures):
    from neuroclips_cli.models.prior import DiffusionPrior

    prior, drawn = DiffusionPrior(8, 4, depth=1, heads=2, head_dim=4), []
    for _ in range(2):
        generator = torch.Generator(device).manual_seed(5)
        step = prior.draw(torch.zeros(12, 4, 8, device=device), generator)
        assert {x.device.type for x in step.values()} == {torch.device(device).type}
        drawn.append(step)
    for name, first in drawn[0].items():
        figures.within(name, float((first.float() - drawn[1][name].float()).abs().max()), 0)


def test_a_draw_of_the_prior_without_given_noise_is_the_cpus(device, figures):
    from neuroclips_cli.models.prior import DiffusionPrior

    torch.manual_seed(0)
    prior = DiffusionPrior(16, 4, depth=1, heads=2, head_dim=8).eval()
    brain, samples = torch.randn(3, 4, 16), []
    for name in ("cpu", device):
        generator = torch.Generator().manual_seed(9)
        samples.append(
            prior.to(name).sample(brain.to(name), steps=5, guidance=2.0, generator=generator)
        )
    figures.within("tokens", apart(samples[1], samples[0]), 1e-4)


def test_weights_on_their_way_to_the_disk_do_not_follow_the_training(device, tmp_path):
    from neuroclips_cli.training.checkpoints import CheckpointManager

    model = torch.nn.Linear(2048, 2048).to(device)
    then, kept = model.weight.detach().clone(), CheckpointManager(tmp_path, "p")
    kept.save_best(model)
    torch.nn.init.zeros_(model.weight)
    kept.load_best(model)
    assert torch.equal(model.weight, then)
