"""Properties of the losses on small tensors."""

from __future__ import annotations

import math

import pytest
import torch

from neuroclips_cli.losses import (
    Mix,
    bimixco_loss,
    draw_mix,
    frame_info_nce,
    info_nce,
    mix_rows,
    perception_loss,
    reftm_loss,
)
from neuroclips_cli.losses.contrastive import annealed_temperature
from neuroclips_cli.losses.mixco import mix_targets


def test_eq1_equals_a_loop_over_the_formula():
    torch.manual_seed(0)
    y, x = torch.randn(2, 3, 4, 2, 2), torch.randn(2, 3, 4, 2, 2)
    total, error, contrast = perception_loss(y, x, temperature=0.5)
    expected = 0.0
    for clip in range(2):
        flat_x, flat_y = x[clip].flatten(1), y[clip].flatten(1)
        for j in range(3):
            row = torch.cosine_similarity(flat_x[j : j + 1], flat_y) / 0.5
            column = torch.cosine_similarity(flat_y[j : j + 1], flat_x) / 0.5
            expected -= (row.log_softmax(0)[j] + column.log_softmax(0)[j]) / (2 * 3)
    assert contrast.item() == pytest.approx(expected.item() / 2, rel=1e-5)
    assert error.item() == pytest.approx((x - y).abs().mean().item(), rel=1e-6)
    assert total.item() == pytest.approx((error + contrast).item(), rel=1e-6)


def test_frames_of_other_clips_are_no_negatives():
    torch.manual_seed(0)
    y, x = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    alone = torch.stack([frame_info_nce(y[i : i + 1], x[i : i + 1], 0.1) for i in range(3)])
    assert frame_info_nce(y, x, 0.1).item() == pytest.approx(alone.mean().item(), rel=1e-5)


def test_without_any_mixed_row_bimixco_is_info_nce():
    torch.manual_seed(0)
    a, b = torch.randn(6, 5), torch.randn(6, 5)
    mix = draw_mix(6, 0.15, torch.device("cpu"), share=-1.0)
    mix.partner.copy_(torch.tensor([1, 2, 3, 4, 5, 0]))
    assert bimixco_loss(a, b, 0.3, mix).item() == pytest.approx(info_nce(a, b, 0.3).item())


def test_mixing_leaves_its_input_and_unselected_rows_alone():
    torch.manual_seed(0)
    rows = torch.randn(40, 7)
    kept = rows.clone()
    mix = draw_mix(40, 0.15, torch.device("cpu"))
    mixed = mix_rows(rows, mix)
    assert torch.equal(rows, kept)
    assert 0 < mix.selected.sum() < 40
    assert torch.equal(mixed[~mix.selected], rows[~mix.selected])
    assert torch.all(mix.coefficient[~mix.selected] == 1)


def test_reftm_does_not_punish_a_clip_for_sharing_its_caption():
    text = torch.eye(4)[[0, 0, 1, 2]]
    assert reftm_loss(text.clone(), text, 0.01).item() == pytest.approx(0.0, abs=1e-6)
    distinct = reftm_loss(torch.zeros(4, 4), torch.eye(4), 0.1).item()
    assert distinct == pytest.approx(math.log(4), rel=1e-5)


def test_a_selected_row_that_is_its_own_partner_keeps_only_the_partners_share():
    mix = Mix(torch.tensor([0, 1]), torch.tensor([0.7, 1.0]), torch.tensor([True, False]))
    assert torch.equal(mix_targets(mix), torch.tensor([[1 - mix.coefficient[0], 0.0], [0.0, 0.0]]))


def test_soft_clip_temperature_goes_half_a_cosine_from_first_to_last():
    values = [annealed_temperature(0.004, 0.0075, step, 3) for step in range(3)]
    assert values == pytest.approx([0.004, 0.00575, 0.0075])
