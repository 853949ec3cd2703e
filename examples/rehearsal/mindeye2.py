"""``last.pth`` of MindEye2: another subject's voxels, nested, in half precision."""

from __future__ import annotations

from pathlib import Path

import torch
from miniature import SETTINGS

VOXELS = 52
"""Not those of any subject here; 15724 in the real file."""


def save_last_pth(path: Path) -> None:
    """Write a checkpoint of the published wiring with its low-level branch beside it.

    ``model_state_dict`` holds half precision, as a training with DeepSpeed leaves it.
    """
    from neuroclips_cli.models.released.checkpoints import export_published
    from neuroclips_cli.models.semantics import Semantics
    from neuroclips_cli.settings.load import load_settings

    flags = {key: str(value) for key, value in SETTINGS.items()}
    settings = load_settings(
        {**flags, "run.profile": "paper", "run.variant": "released"}, environ={}
    )
    backbones = settings.backbones
    model = Semantics(VOXELS, settings.semantics, backbones.tokens, backbones.token_dim)
    state = export_published(model)
    state |= {
        "backbone.blin1.weight": torch.randn(8, 16),
        "backbone.bnorm.weight": torch.ones(8),
        "backbone.bupsampler.conv_in.weight": torch.randn(4, 2, 3, 3),
        "backbone.b_maps_projector.0.weight": torch.randn(4, 2, 1, 1),
    }
    half = {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "epoch": 149,
            "model_state_dict": half,
            "train_losses": [1.0, 0.5],
            "test_losses": [1.1, 0.7],
            "lrs": [3e-4, 1e-4],
        },
        path,
    )
