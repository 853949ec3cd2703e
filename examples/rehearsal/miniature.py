"""Sizes of the miniatures: what ``--set`` changes of profile ``paper``, and nothing else."""

from __future__ import annotations

import random_backbones as tiny

SUBJECTS = (1, 2, 3)
FRAME_SIZE = 32
FRAMES_PER_CLIP = 6

SETTINGS = {
    "data.frame_size": FRAME_SIZE,
    # Films of 8 s hold 4 clips: a polynomial of order 4 would leave nothing of them, and 18 of
    # them say too little for the paper's level.
    "data.detrend_order": 1,
    "data.selection_p": 1.0,
    "backbones.tokens": tiny.TOKENS,
    "backbones.token_dim": tiny.TOKEN_DIM,
    "backbones.embed_dim": tiny.EMBED_DIM,
    "perception.hidden": 16,
    "perception.inception_hidden": 8,
    "perception.blocks": 1,
    "perception.start_size": 2,
    "perception.decoder_channels": "8,8",
    "perception.frame_size": FRAME_SIZE,
    "train_pr.epochs": 2,
    "semantics.hidden": 16,
    "semantics.blocks": 1,
    "semantics.prior_depth": 1,
    "semantics.prior_heads": 2,
    "semantics.prior_head_dim": 8,
    "semantics.prior_sampling_steps": 3,
    "train_sr.contrastive_epochs": 2,
    "train_sr.prior_epochs": 2,
    "reconstruct.steps": 4,
    "reconstruct.keyframe_steps": 1,
    "fuse.hidden": 16,
    "fuse.epochs": 2,
    # Random networks agree on nothing: every neighbor is joined, so that links are generated.
    "fuse.threshold": 0.0,
    "evaluate.size": 64,
    "evaluate.retrieval_part": 5,
    "evaluate.bootstrap_samples": 200,
    "evaluate.shuffles": 2,
}


def flags() -> list[str]:
    """Return the options that every command gets behind its own words."""
    return [f"--set={key}={value}" for key, value in SETTINGS.items()]
