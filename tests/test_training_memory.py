"""A training that cannot fit the GPU is refused before it starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from neuroclips_cli.config import load_settings
from neuroclips_cli.errors import UserError
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.training.memory import require_gpu_memory, training_bytes


def build_paper(hidden: int) -> Semantics:
    paper = load_settings({"run.profile": "paper"}, environ={})
    sizes = replace(paper.semantics, hidden=hidden)
    return Semantics(13447, sizes, paper.backbones.tokens, paper.backbones.token_dim)


def test_the_papers_reconstructor_is_refused_on_a_small_gpu_and_what_fits_is_named(monkeypatch):
    needed = training_bytes(build_paper, 4096)
    assert 30e9 < needed < 40e9
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (24 * 10**9, 24 * 10**9))
    with pytest.raises(UserError, match=r"24.0 GB is free: semantics.hidden=2048") as problem:
        require_gpu_memory("cuda", build_paper, 4096, "semantics.hidden", "train-sr")
    assert "\n" not in str(problem.value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (80 * 10**9, 80 * 10**9))
    require_gpu_memory("cuda", build_paper, 4096, "semantics.hidden", "train-sr")
    require_gpu_memory("cpu", build_paper, 4096, "semantics.hidden", "train-sr")
