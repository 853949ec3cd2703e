"""All cases, in order of value."""

from __future__ import annotations

from tests.benchmarks.gpu import generation, judging, training
from tests.benchmarks.gpu.work import Case

CASES = (
    Case("train-sr, prior step", training.prior_step, "train-sr, prior phase"),
    Case("train-sr, contrastive step", training.contrastive_step, "train-sr, contrastive phase"),
    Case("train-pr step", training.perception_step, "train-pr"),
    Case("keyframe: unCLIP step", generation.keyframe_step),
    Case("clip: AnimateDiff step", generation.clip_step),
    Case("CLIP bigG tokens", judging.clip_tokens, "targets of train-sr (CLIP)"),
    Case("keyframe: VAE", generation.keyframe_decoding),
    Case("clip: VAE there and back", generation.clip_coding),
    Case("evaluator: VideoMAE", judging.video_judge),
    Case("evaluator: ViT-B/16", judging.image_judge),
    Case("evaluator: CLIP ViT-L/14", judging.large_clip),
    Case("caption: BLIP-2", generation.caption),
)
COMPILED_CASES = (
    "keyframe: unCLIP step",
    "clip: AnimateDiff step",
    "train-sr, prior step",
    "CLIP bigG tokens",
    "evaluator: VideoMAE",
    "train-pr step",
)
"""Cases that are compiled as well, in order of value."""

SCALED = {
    "keyframe": (("keyframe: unCLIP step", "keyframe_steps"), ("keyframe: VAE", "")),
    "clip": (("clip: AnimateDiff step", "steps"), ("clip: VAE there and back", "")),
}
"""What is put together from timed parts: a part, and the setting that says how often (once)."""
