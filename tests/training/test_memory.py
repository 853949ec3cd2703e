"""A training that cannot fit the GPU is refused before it starts."""

from __future__ import annotations

import inspect

import pytest
import torch

from neuroclips_cli.errors import UserError
from neuroclips_cli.memory_estimate import checks
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.stages import reconstruct, train_pr, train_sr


def test_activations_are_counted_before_a_training_starts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (40 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    paper = load_settings({"run.profile": "paper"}, environ={})
    with pytest.raises(
        UserError, match="prior phase would need 4.*activation_checkpointing=true"
    ) as problem:
        checks.require_training_memory(paper, "train-sr", "cuda", 13447)
    assert "\n" not in str(problem.value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (48 * 10**9, 80 * 10**9))
    checks.require_training_memory(paper, "train-sr", "cuda", 13447)
    with monkeypatch.context() as several:  # they exchange one more copy of the gradients
        several.setattr(checks.distributed, "world_size", lambda: 2)
        with pytest.raises(UserError, match="would need 5"):
            checks.require_training_memory(paper, "train-sr", "cuda", 13447)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (40 * 10**9, 80 * 10**9))
    smaller = load_settings(
        {"run.profile": "paper", "train_sr.activation_checkpointing": "true"}, environ={}
    )
    checks.require_training_memory(smaller, "train-sr", "cuda", 13447)
    checks.require_training_memory(paper, "train-pr", "cuda", 13447, (4, 32, 32))
    checks.require_training_memory(paper, "train-sr", "cpu", 13447)


def test_a_reconstruction_that_cannot_fit_names_what_helps(monkeypatch, settings):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10**7, 10**9))
    with pytest.raises(UserError, match=r"reconstruct: blurry clips would need .*offload=true"):
        checks.require_generation_memory(settings, "cuda", 300)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10**9, 10**9))
    checks.require_generation_memory(settings, "cuda", 300)


@pytest.mark.parametrize("stage", [train_pr, train_sr, reconstruct])
def test_every_stage_that_fills_a_gpu_asks_first(stage):
    names = inspect.getsource(stage)
    assert "require_training_memory(" in names or "require_generation_memory(" in names
