"""Settings that had another name: an old ``neuroclips.toml`` is refused with the new one."""

from __future__ import annotations

RENAMED = {
    "semantics.prior_draws": "semantics.prior_samples",
    "semantics.token_rank": "semantics.token_pca_rank",
    "train_pr.rows_at_once": "train_pr.micro_batch_size",
    "train_sr.rows_at_once": "train_sr.micro_batch_size",
    "train_pr.average_share": "train_pr.repetition_mix_prob",
    "train_sr.average_share": "train_sr.repetition_mix_prob",
    "train_pr.optimiser": "train_pr.optimizer",
    "train_sr.optimiser": "train_sr.optimizer",
    "train_pr.recompute": "train_pr.activation_checkpointing",
    "train_sr.recompute": "train_sr.activation_checkpointing",
    "train_sr.ridge_start": "train_sr.ridge_closed_form",
    "evaluate.also": "evaluate.extra_metrics",
    "backbones.image_classifier": "evaluate.image_classifier",
    "backbones.video_classifier": "evaluate.video_classifier",
}
"""Old dotted key -> the key of today."""
