"""Every setting by section: its name, type and meaning.

The values live in ``profiles/*.toml``; this file only says which keys exist. One frozen
dataclass is one ``[section]`` of ``neuroclips.toml``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunSettings:
    """Where to work, for whom, on what."""

    profile: str = "tiny"
    variant: str = "paper"
    subject: int = 1
    workdir: str = "runs"
    dataset: str = ""
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class DataSettings:
    """The fMRI and film conventions (paper 4.1)."""

    tr_s: float
    delay_s: float
    clip_s: float
    frames_per_clip: int
    frame_size: int
    trailing_volumes: int
    detrend_order: int
    selection_p: float
    mask: str
    regions: tuple[str, ...]
    space: str


@dataclass(frozen=True)
class SimulateSettings:
    """The practice world and its simulated scanner."""

    subjects: int
    train_segments: int
    test_segments: int
    clips_per_segment: int
    test_clips_per_segment: int
    train_repetitions: int
    test_repetitions: int
    grayordinates: str
    reliability: float
    noise_scale: float
    signal_scale: float
    stimulus_size: int


@dataclass(frozen=True)
class BackboneSettings:
    """Frozen networks: a hub id, a local folder, or ``assets:<name>`` for the embedded ones."""

    vae: str
    keyframe_vae: str
    clip: str
    projector: str
    unclip: str
    captioner: str
    git: str
    git_tokens: str
    text_encoder: str
    tokenizer: str
    scene_unet: str
    domain_adapter: str
    motion_adapter: str
    sparsectrl: str
    tokens: int
    token_dim: int
    embed_dim: int
    convnext: str = ""


@dataclass(frozen=True)
class PerceptionSettings:
    """Sizes of the Perception Reconstructor (paper 3.1, B.1)."""

    hidden: int
    inception_hidden: int
    blocks: int
    dropout: float
    start_size: int
    decoder_channels: tuple[int, ...]
    layers_per_block: int
    # Words with a default: run folders made before they existed are of that kind.
    network: str = "paper"
    backbone: str = "mixing"
    attention: str = "clip"
    frame_size: int = 0


@dataclass(frozen=True)
class TrainPRSettings:
    """Training of the Perception Reconstructor (paper A)."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    ridge_weight_decay: float
    contrast_weight: float
    temperature: float
    noise: float
    repetition_mix_prob: float
    validation_segments: tuple[int, ...]
    checkpoint_every: int
    contrast: str = "frames"
    optimizer: str = "adamw"
    activation_checkpointing: bool = False
    micro_batch_size: int = 0


@dataclass(frozen=True)
class SemanticsSettings:
    """Sizes of the Semantics Reconstructor and its diffusion prior (paper 3.2, B.2)."""

    hidden: int
    blocks: int
    dropout: float
    prior_depth: int
    prior_heads: int
    prior_head_dim: int
    prior_timesteps: int
    prior_sampling_steps: int
    prior_samples: int
    prior_drop_probability: float
    token_pca_rank: int
    backbone: str = "mixing"
    token_space: str = "standard"
    prior_condition: str = "backbone"
    prior_norm_epsilon: float = 1e-5
    head_rank: int = 0


@dataclass(frozen=True)
class TrainProjectorSettings:
    """Training of Reftm's projector on captioned images (paper B.2, Table 3)."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    temperature: float
    validation_share: float
    retrieval_part: int


@dataclass(frozen=True)
class TrainSRSettings:
    """Training of the Semantics Reconstructor in two phases (paper A)."""

    contrastive_epochs: int
    contrastive_batch_size: int
    prior_epochs: int
    prior_batch_size: int
    learning_rate: float
    weight_decay: float
    ridge_weight_decay: float
    mixco_beta: float
    temperature: float
    prior_weight: float
    reftm_weight: float
    noise: float
    repetition_mix_prob: float
    ridge_closed_form: bool
    validation_segments: tuple[int, ...]
    checkpoint_every: int
    contrastive_reftm_weight: float = 0.0
    reftm_temperature: float = 0.0
    prior_contrast: str = "bimixco"
    prior_trains: str = "all"
    optimizer: str = "adamw"
    activation_checkpointing: bool = False
    micro_batch_size: int = 0


@dataclass(frozen=True)
class ReconstructSettings:
    """Inference with alpha, beta and gamma guidance (paper 3.3, A)."""

    blur_init: str
    theta: float
    steps: int
    guidance_scale: float
    control_scale: float
    guide_keyframe: bool
    frames: int
    fps: int
    keyframe_steps: int
    keyframe_guidance_scale: float
    keyframe_start: str
    keyframe_contrast: str
    prompt_suffix: str
    negative_prompt: str
    prompt_without_keyframe: str
    captioner: str
    batch_size: int
    fast: bool
    offload: bool = False


@dataclass(frozen=True)
class FuseSettings:
    """Multi-fMRI fusion (paper 3.4)."""

    max_scans: int
    hidden: int
    epochs: int
    learning_rate: float
    threshold: float


@dataclass(frozen=True)
class EvaluateSettings:
    """How to measure (paper 4.3): a protocol, and what of it is changed.

    ``fps`` and ``size`` of 0 and empty judges (``image_classifier``, ``video_classifier``,
    ``clip``) are the protocol's own.
    """

    fps: int
    size: int
    ways: tuple[int, ...]
    retrieval_part: int
    bootstrap_samples: int
    shuffles: int
    batch_size: int
    protocol: str
    image_classifier: str
    video_classifier: str
    clip: str
    # With a default: run folders made before they existed were evaluated so.
    monte_carlo: int = 0
    also: tuple[str, ...] = ()
    perceptual: str = ""


PROFILES = ("tiny", "paper", "compact")
VARIANTS = ("paper", "released")

CHOICES: dict[str, tuple[str, ...]] = {
    "run.profile": PROFILES,
    "run.variant": VARIANTS,
    "run.device": ("auto", "cpu", "cuda", "mps"),
    "run.precision": ("auto", "bfloat16", "float32", "highest"),
    "simulate.grayordinates": ("small", "91k"),
    "perception.network": ("paper", "published"),
    "perception.backbone": ("mixing", "released"),
    "perception.attention": ("clip", "batch"),
    "train_pr.contrast": ("frames", "convnext"),
    "train_pr.optimizer": ("adamw", "adafactor"),
    "train_sr.optimizer": ("adamw", "adafactor"),
    "train_sr.prior_contrast": ("bimixco", "softclip"),
    "train_sr.prior_trains": ("all", "prior"),
    "semantics.backbone": ("mixing", "released"),
    "semantics.token_space": ("published", "standard"),
    "semantics.prior_condition": ("backbone", "contrastive"),
    "reconstruct.blur_init": ("eq5", "released", "strength:<x>"),
    "reconstruct.keyframe_start": ("blurry:<x>", "noise"),
    "reconstruct.keyframe_contrast": ("auto", "none", "released"),
    "reconstruct.captioner": ("blip2", "git"),
    "evaluate.protocol": (
        *("auto", "standard", "practice-world"),
        *("neuroclips", "mindvideo", "mind-animator", "neurons"),
    ),
    "evaluate.also": ("epe", "lpips"),
}
"""The words that a key accepts; ``name:<x>`` stands for a number from 0 to 1 after the colon."""

RANGES: dict[str, tuple[float, float | None]] = {
    "run.seed": (0, 2**32 - 1),
    "run.subject": (1, 9999),
    "data.delay_s": (0, None),
    "data.detrend_order": (0, 10),
    "data.trailing_volumes": (0, None),
    "semantics.token_pca_rank": (0, None),
    "semantics.head_rank": (0, None),
    "reconstruct.batch_size": (0, None),
    "perception.frame_size": (0, None),
    "train_sr.contrastive_reftm_weight": (0, None),
    "train_sr.reftm_temperature": (0, None),
    "data.selection_p": (0, 1),
    "simulate.reliability": (0, 0.99),
    "simulate.noise_scale": (0, None),
    "simulate.signal_scale": (0, None),
    "perception.dropout": (0, 1),
    "semantics.dropout": (0, 1),
    "semantics.prior_drop_probability": (0, 1),
    "train_pr.weight_decay": (0, None),
    "train_pr.ridge_weight_decay": (0, None),
    "train_pr.contrast_weight": (0, None),
    "train_pr.noise": (0, None),
    "train_pr.micro_batch_size": (0, None),
    "train_sr.micro_batch_size": (0, None),
    "train_sr.noise": (0, None),
    "train_pr.repetition_mix_prob": (0, 1),
    "train_sr.repetition_mix_prob": (0, 1),
    "train_projector.weight_decay": (0, None),
    "train_projector.validation_share": (0, 1),
    "train_projector.retrieval_part": (2, None),
    "train_sr.weight_decay": (0, None),
    "train_sr.ridge_weight_decay": (0, None),
    "train_sr.prior_weight": (0, None),
    "train_sr.reftm_weight": (0, None),
    "reconstruct.theta": (0, 1),
    "reconstruct.guidance_scale": (0, None),
    "reconstruct.control_scale": (0, None),
    "reconstruct.keyframe_guidance_scale": (0, None),
    "fuse.threshold": (0, 1),
    "evaluate.fps": (0, None),
    "evaluate.size": (0, None),
    "evaluate.ways": (2, None),
    "evaluate.retrieval_part": (2, None),
    "evaluate.shuffles": (0, None),
    "evaluate.monte_carlo": (0, None),
}
"""Smallest and largest value where it is not the rule: whole numbers from 1, others above 0."""
